import json
import subprocess
import sys

import pytest

from pneumo_keras.runtime.backend import TRIED, TRIED_BY_SKLEARN
from pneumo_keras.runtime.private_apis import hide_modules

START = (
    "import importlib, sys\n"
    "from pathlib import Path\n"
    "from pneumo_keras.runtime.backend import start_backend\n"
    "start_backend(Path(sys.argv[1]))\n"
    "print(sorted(set(sys.argv[2:]) & set(sys.modules)))\n"
    "for name in sys.argv[2:]: importlib.import_module(name)\n"
)


def run(code, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_keras_starts_without_what_it_only_tries_and_others_import_it_afterwards(tmp_path):
    assert run(START, tmp_path, *TRIED) == "['sklearn']\n"


@pytest.mark.slow
@pytest.mark.parametrize(("module", "names"), [("jax, keras", TRIED), ("sklearn.utils", TRIED_BY_SKLEARN)])
def test_keras_and_scikit_learn_try_what_is_hidden_from_them(module, names):
    """Or the name can go."""
    code = f"import sys, {module}; print(set(sys.argv[1:]) - set(sys.modules))"
    assert run(code, *names) == "set()\n"


def test_what_was_imported_is_never_searched_for_garbage(tmp_path):
    code = (
        "import gc, sys, pathlib\n"
        "from pneumo_keras.runtime.backend import start_backend\n"
        "start_backend(pathlib.Path(sys.argv[1]))\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)\n"
    )
    assert run(code, tmp_path) == "True True\n"


def test_a_module_that_was_imported_before_is_not_hidden():
    with hide_modules("json", "antigravity"):
        import json as still_there

        with pytest.raises(ImportError):
            import antigravity  # noqa: F401
    assert still_there is json
    assert "antigravity" not in sys.modules


def test_compiled_programs_that_find_no_room_are_no_matter_to_the_user(tmp_path):
    (tmp_path / "jax").touch()  # where their folder would be
    code = (
        "import pathlib, sys\n"
        "from pneumo_keras.runtime.backend import start_backend\n"
        "start_backend(pathlib.Path(sys.argv[1]))\n"
        "import keras\n"
        "print(float(keras.ops.sum(keras.ops.ones((2, 2)))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("4.0\n", "")
