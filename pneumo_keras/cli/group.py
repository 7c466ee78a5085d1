"""The group of all commands: shared options, errors as exit statuses, and the log on stderr."""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

import pneumo_keras
from pneumo_keras.errors import ClusterError, PneumoError, explain_memory, explain_system
from pneumo_keras.runtime import backend
from pneumo_keras.runtime.signals import Stopped, raise_on_signals, restore_stopped
from pneumo_keras.storage.printable import PrintableFormatter

if TYPE_CHECKING:
    from pneumo_keras.runs.run import Run

log = logging.getLogger("pneumo_keras")

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
PATH = click.Path(path_type=Path)


def _load_run(ctx: click.Context, argument: click.Parameter, path: Path) -> "Run":
    from pneumo_keras.runs.run import load_run

    backend.check_backend(str(ctx.info_name))
    return load_run(path)


def option_out(metavar: str, text: str) -> Callable[[Any], Any]:
    """The option for what a command writes: a DIR or a FILE."""
    kind = click.Path(path_type=Path, dir_okay=metavar == "DIR", file_okay=metavar == "FILE")
    return click.option("--out", type=kind, metavar=metavar, help=text)


def complete_named(folder: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """For the completion of the shell: named configurations or grids, and files."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from pneumo_keras.config import find_named

        names = [CompletionItem(name) for name in find_named(folder) if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")]

    return complete


def _complete_setting(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from pneumo_keras.config import describe_config, load_config

    keys = describe_config(load_config("default"))
    return [
        CompletionItem(f"{key}=", help=about["description"])
        for key, about in keys.items()
        if key.startswith(incomplete)
    ]


RUN = click.argument("run", type=PATH, callback=_load_run)
CONFIG = click.option(
    "--config",
    "name",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    shell_complete=complete_named("configs"),
    help="Configuration: a name, which config list shows, or a TOML file.",
)
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=_complete_setting,
    help="Setting that replaces that of the configuration, e.g. training.epochs=3. Repeatable; config show "
    "lists all.",
)
SPLIT = click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="Split of the run's images.",
)
PREVALENCE = click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="PREVALENCE",
    help="Correct scores and threshold to this prevalence of pneumonia; no prediction changes.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def start_keras() -> None:
    """Starts Keras, which keeps compiled programs in the user's cache."""
    from pneumo_keras.config import find_cache

    backend.start_backend(find_cache())


def print_result(text: str, document: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints what a command found on stdout, as text or as one JSON document."""
    click.echo(json.dumps(document, indent=2) if as_json else text)


@contextlib.contextmanager
def explain_errors() -> Iterator[None]:
    """Turns what the user can solve into one line and a status.

    Raises:
        click.ClickException: With the line.
        SystemExit: The work was stopped, and the line is printed.
    """
    try:
        yield
    except Stopped as stopped:
        click.echo(f"Stopped. {stopped.next_step}".rstrip(), err=True)
        raise SystemExit(128 + stopped.number) from None
    except ClusterError as error:  # which names the machine whose memory ran out
        raise click.ClickException(str(error)) from error
    except (
        click.ClickException,
        BrokenPipeError,
    ):  # click exits quietly where a reader has closed the pipe
        raise
    except Exception as error:
        if line := explain_memory(error):
            raise click.ClickException(line) from None
        if isinstance(error, PneumoError):
            raise click.ClickException(str(error)) from error
        if isinstance(error, OSError):
            raise click.ClickException(explain_system(error)) from error
        raise


class _LogHandler(logging.StreamHandler):
    """Lines on stderr, where there may be a bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from pneumo_keras.runtime.progress import clear_bars

        with clear_bars():
            super().emit(record)


class PneumoGroup(click.Group):
    """Turns what the user can solve into one line and exit status 1; Ctrl-C into 130, SIGTERM into 143.

    The object of all commands is the command line, for `distributed.launcher`.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with explain_errors():  # help is printed there
            return super().make_context(info_name, args, parent, obj=tuple(args), **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with explain_errors(), raise_on_signals(), restore_stopped():
            return super().invoke(ctx)


@click.group(cls=PneumoGroup, context_settings=CONTEXT)
@click.version_option(pneumo_keras.__version__, prog_name="pneumo-keras")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress, only warnings and errors.")
def main(quiet: bool) -> None:
    """Trains and evaluates pneumonia classifiers for chest X-rays.

    A frozen InceptionV3 computes features of each image once; a small head learns from them.
    It runs on JAX, or on the Keras backend that the environment variable KERAS_BACKEND names
    (tensorflow, torch; openvino for all but train and sweep). A research tool, not a medical device.

    \b
    Examples:
      pneumo-keras train --config demo --run runs/demo  # needs no download
      pneumo-keras eval runs/demo
      pneumo-keras predict runs/demo image.png
      pneumo-keras train --help
    """
    handler = _LogHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    backend.check_name()
