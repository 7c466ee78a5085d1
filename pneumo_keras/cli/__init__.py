"""The command line: parses, calls a recipe, prints. Nothing heavy is imported before a command runs."""

from pneumo_keras.cli import (
    app,
    bench,
    cache,
    compare,
    config,
    data,
    eval,
    explain,
    export,
    predict,
    sweep,
    train,
)
from pneumo_keras.cli.group import main

COMMANDS = (
    train.train,
    eval.evaluate,
    predict.predict,
    explain.explain,
    compare.compare,
    export.export,
    sweep.sweep,
    app.app,
    bench.bench,
    data.data,
    cache.cache,
    config.config,
)
for command in COMMANDS:
    main.add_command(command)

__all__ = ["main"]
