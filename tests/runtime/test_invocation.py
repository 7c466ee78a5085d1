import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pneumo_keras.cli import main
from pneumo_keras.runtime import invocation
from pneumo_keras.runtime.invocation import find_program, to_command
from tests.texts import list_messages


@pytest.fixture
def call(monkeypatch, tmp_path):
    """How the program is called: the words before its arguments, and whether a shell finds it, or uv did."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "pneumo-keras"
    script.touch(mode=0o755)

    def call(*words, found=False, uv=False):
        monkeypatch.setattr(sys, "argv", [str(script) if words == ("pneumo-keras",) else words[-1]])
        monkeypatch.setattr(sys, "orig_argv", list(words))
        monkeypatch.setenv("PATH", str(script.parent) if found else "")
        if uv:
            monkeypatch.setenv(invocation.BELOW_UV, "1")
        else:
            monkeypatch.delenv(invocation.BELOW_UV, raising=False)
        return find_program()

    return call


def test_the_next_line_names_the_program_as_it_was_called(call, tmp_path):
    module = ("python3", "-m", "/somewhere/pneumo_keras/__main__.py")
    assert call("pneumo-keras", found=True) == "pneumo-keras"
    assert call("pneumo-keras", found=True, uv=True) == "uv run pneumo-keras"
    assert call("pneumo-keras") == str(tmp_path / "bin" / "pneumo-keras")
    assert call(*module) == "python3 -m pneumo_keras"
    assert call(*module, uv=True) == "uv run python -m pneumo_keras"
    assert call("my python/bin/python", *module[1:]) == "'my python/bin/python' -m pneumo_keras"
    assert call("/usr/bin/pytest") == "pneumo-keras"


def test_a_process_that_another_one_started_speaks_of_that_one(call, monkeypatch):
    monkeypatch.setenv(invocation.PROGRAM, "uv run pneumo-keras")
    assert call("python", "__main__.py") == "uv run pneumo-keras"


def test_a_command_can_be_typed_as_it_stands():
    assert to_command("eval", Path("runs/my run's")) == """pneumo-keras eval 'runs/my run'"'"'s'"""


@pytest.mark.parametrize("uv", [True, False])
def test_help_is_to_be_had_as_the_program_was_called(uv):
    environment = {
        **os.environ,
        **({invocation.BELOW_UV: "1"} if uv else {}),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, "-m", "pneumo_keras", "trian"]
    wrong = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    call = "uv run python -m pneumo_keras" if uv else f"{sys.executable} -m pneumo_keras"
    assert f"Try '{call} --help' for help." in wrong.stderr


def test_messages_name_commands_as_the_program_was_called():
    commands = re.compile(rf"pneumo-keras (--|{'|'.join(main.commands)})")
    found = {path for path, text in list_messages() if commands.search(text)}
    assert found == {"exports/sidecar.py", "api.py"}  # for readers elsewhere, and for programs
