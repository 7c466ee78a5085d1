"""Text for users: command lines, which must be ones that exist, help and messages."""

import ast
import inspect
import shlex
from pathlib import Path

import click

import pneumo_keras
from pneumo_keras.cli import main

NAME = "pneumo-keras"
PACKAGE = Path(pneumo_keras.__file__).parent


def find_arguments(line):
    """The arguments of a line of shell that has a command of ours, without what the shell makes of it."""
    words = shlex.split(line.partition("  #")[0])
    arguments = words[words.index(NAME) + 1 :]
    return arguments[: next((i for i, word in enumerate(arguments) if word in ("|", ">", "...")), None)]


def check_arguments(arguments):
    """Raises where there is no such command or option."""
    command, rest = main, arguments
    while isinstance(command, click.Group):
        rest = rest[1:] if rest[0] == "--quiet" else rest
        assert rest[0] in command.commands, arguments
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_parser(click.Context(command)).parse_args(list(rest))


def list_commands(command=main, name=()):
    """Every command and group by the words that name it."""
    yield name, command
    for part, below in getattr(command, "commands", {}).items():
        yield from list_commands(below, (*name, part))


def load_help(command):
    """The text of a command's help, before it is wrapped."""
    return inspect.cleandoc(command.help or "")


def list_messages():
    """Module and text of every string of the package, docstrings excepted."""
    described = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for path in PACKAGE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {
            id(node.body[0].value)
            for node in nodes
            if isinstance(node, described) and ast.get_docstring(node)
        }
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield str(path.relative_to(PACKAGE)), node.value
