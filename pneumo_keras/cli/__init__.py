"""The command line: parses, calls a recipe, prints. Nothing heavy is imported before a command runs."""

from pneumo_keras.cli import (
    app,
    bench,
    cache,
    compare,
    data,
    eval,
    explain,
    export,
    predict,
    settings,
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
    settings.sweep,
    app.app,
    bench.bench,
    data.data,
    cache.cache,
    settings.config,
)
for command in COMMANDS:
    main.add_command(command)

__all__ = ["main"]
