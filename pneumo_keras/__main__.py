"""The command `pneumo-keras`, and `python -m pneumo_keras`."""

import contextlib
import os
import sys

from pneumo_keras.cli import main
from pneumo_keras.distributed import launcher
from pneumo_keras.runtime.invocation import find_program


def start(arguments: list[str] | None = None) -> None:
    """Runs a command line, that of the process if none is given, and ends the process."""
    _open_closed()
    if launcher.is_worker():
        launcher.attach()
    try:
        main(arguments, prog_name=find_program())
    except SystemExit as end:
        if not end.code and not launcher.is_worker():
            raise
        # After a failure, threads of JAX and OpenVINO that still compute would crash while Python shuts down;
        # one may wait for stdin, and JAX would wait for other processes.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(int(end.code or 0))


def _open_closed() -> None:
    """Opens stdin, stdout and stderr where they are closed, before a file of ours gets their numbers.

    The system then refuses what is written to stdout; what is written to stderr is lost.
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
