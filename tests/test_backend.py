import json
import subprocess
import sys

import pytest

from pneumo_keras.backend import TRIED, hide_modules

START = (
    "import importlib, sys\n"
    "from pathlib import Path\n"
    "from pneumo_keras import backend\n"
    "backend.TRIED = tuple(name for name in backend.TRIED if name != sys.argv[1])\n"
    "backend.start_backend(Path(sys.argv[2]))\n"
    "print(sorted(set(sys.argv[3:]) & set(sys.modules)))\n"
    "for name in sys.argv[3:]: importlib.import_module(name)\n"
)


def start(path, *, shown=""):
    """What is imported once Keras has started with all of TRIED hidden but one; then all are imported."""
    done = subprocess.run(
        [sys.executable, "-c", START, shown, str(path), *TRIED], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_keras_starts_without_what_it_only_tries_and_others_import_it_afterwards(tmp_path):
    assert start(tmp_path) == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_keras_tries_what_is_hidden_from_it(tmp_path, name):
    """Or the name can go."""
    assert start(tmp_path, shown=name) == f"['{name}']\n"


def test_what_was_imported_is_never_searched_for_garbage(tmp_path):
    code = (
        "import gc, sys, pathlib\n"
        "from pneumo_keras.backend import start_backend\n"
        "start_backend(pathlib.Path(sys.argv[1]))\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_a_module_that_was_imported_before_is_not_hidden():
    with hide_modules("json", "antigravity"):
        import json as still_there

        with pytest.raises(ImportError):
            import antigravity  # noqa: F401
    assert still_there is json
    assert "antigravity" not in sys.modules
