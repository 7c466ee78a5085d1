"""The command line: parses, calls a recipe, prints. Nothing heavy is imported before a command runs."""

from pneumo_keras.cli import data, evaluate, export, machine, predict, train
from pneumo_keras.cli.group import main

for command in (
    train.train,
    evaluate.evaluate,
    predict.predict,
    predict.explain,
    evaluate.compare,
    export.export,
    train.sweep,
    export.app,
    machine.bench,
    data.data,
    machine.cache,
    train.config,
):
    main.add_command(command)

__all__ = ["main"]
