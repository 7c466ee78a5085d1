"""The command `pneumo-keras`, and `python -m pneumo_keras`."""

import contextlib
import os
import sys

from pneumo_keras.cli import main
from pneumo_keras.cli.group import Exhausted
from pneumo_keras.distributed import launcher
from pneumo_keras.runtime.invocation import find_call
from pneumo_keras.runtime.signals import STATUSES


def start(arguments: list[str] | None = None) -> None:
    """Runs a command, and ends the process.

    Args:
        arguments: Those of the command line if none are given.
    """
    _open_closed()
    if launcher.is_worker():
        launcher.attach()
    try:
        main(arguments, prog_name=find_call())
    except SystemExit as end:
        if end.code in STATUSES or isinstance(end, Exhausted) or launcher.is_worker():
            # Threads of JAX and OpenVINO may still compute: they crash where Python takes itself down. And
            # JAX would wait for processes that are gone.
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(int(end.code or 0))
        try:
            sys.stdout.flush()
        except OSError:  # which has been said; Python would say it once more
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        raise


def _open_closed() -> None:
    """Takes the places of stdin, stdout and stderr where they are closed, before a file of ours does.

    Whatever then is written to stdout is refused by the system, and what to stderr is lost.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    start()
