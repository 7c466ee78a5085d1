"""How this program was started, for messages with the next command to type."""

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "pneumo-keras"
BELOW_UV = "UV_RUN_RECURSION_DEPTH"
"""Environment variable of what `uv run` starts, without which our name may not be on the path."""
PROGRAM = "PNEUMO_KERAS_CALL"
"""Environment variable of a worker: how its launcher was started."""


def find_program() -> str:
    """What to type for this program: `pneumo-keras`, the same behind `uv run`, a path, `python -m ...`."""
    if PROGRAM in os.environ:
        return os.environ[PROGRAM]
    above = "uv run " if BELOW_UV in os.environ else ""
    script = Path(sys.argv[0])
    if script.name == "__main__.py" and script.parent.name == "pneumo_keras":
        python = "python" if above else shlex.quote(sys.orig_argv[0])
        return f"{above}{python} -m pneumo_keras"
    if script.stem == NAME and not _is_found(script):
        return shlex.quote(str(script))
    return f"{above}{NAME}"


def to_command(*arguments: object) -> str:
    """A command line of this program, to be typed unchanged."""
    return f"{find_program()} {shlex.join(map(str, arguments))}"


def _is_found(script: Path) -> bool:
    """Whether a shell finds this script by its name alone."""
    found = shutil.which(NAME)
    return found is not None and Path(found).resolve() == script.resolve()
