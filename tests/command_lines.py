"""Command lines of ours in text, which must be ones that exist."""

import shlex

import click

from pneumo_keras.cli import main

NAME = "pneumo-keras"


def find_arguments(line):
    """The arguments of a line of shell that has a command of ours, without what the shell makes of it."""
    words = shlex.split(line.partition("  #")[0])
    arguments = words[words.index(NAME) + 1 :]
    return arguments[: next((i for i, word in enumerate(arguments) if word in ("|", ">", "...")), None)]


def check_arguments(arguments):
    """Raises where there is no such command, option or value."""
    command, rest = main, arguments
    while isinstance(command, click.Group):
        rest = rest[1:] if rest[0] == "--quiet" else rest
        assert rest[0] in command.commands, arguments
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_parser(click.Context(command)).parse_args(list(rest))
