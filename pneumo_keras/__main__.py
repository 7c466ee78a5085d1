"""The command `pneumo-keras`, and `python -m pneumo_keras`."""

import os
import sys

from pneumo_keras import supervision
from pneumo_keras.cli import main
from pneumo_keras.invocation import find_call
from pneumo_keras.stopping import STATUSES


def start(arguments: list[str] | None = None) -> None:
    """Runs a command, and ends the process.

    Args:
        arguments: Those of the command line if none are given.
    """
    if supervision.is_watched():
        supervision.attach()
    try:
        main(arguments, prog_name=find_call())
    except SystemExit as end:
        if end.code in STATUSES or supervision.is_watched():
            # Threads of JAX and OpenVINO may still compute: they crash where Python takes itself down. And
            # JAX would wait for companions that are gone.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(end.code or 0))
        raise


if __name__ == "__main__":
    start()
