import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

import pneumo_keras
from pneumo_keras.cli import main
from pneumo_keras.config import find_named
from pneumo_keras.recipes import train as train_recipe
from pneumo_keras.runtime import backend
from pneumo_keras.runtime.signals import Stopped
from tests.texts import check_arguments, find_arguments, list_commands, load_help

IMPORTED_FIRST = (
    "pneumo_keras.errors.BackendError: keras was imported before pneumo_keras and runs on 'numpy', not on "
    "'jax'. Import pneumo_keras first, or set KERAS_BACKEND before either."
)


def test_wrong_usage_is_status_2(invoke):
    assert invoke("trian").exit_code == 2
    assert invoke("compare", "run", "--split", "all").exit_code == 2


def test_ctrl_c_is_status_130(invoke, monkeypatch):
    def interrupt(*_):
        raise Stopped(2)

    monkeypatch.setattr(train_recipe, "open_splits", interrupt)
    result = invoke("-q", "train", "--config", "demo", "--run", "run")
    assert (result.exit_code, result.stderr) == (
        130,
        "Stopped. Continue with: pneumo-keras train --run run --resume\n",
    )


def test_ctrl_c_is_status_130_too_where_a_library_tells_of_it(invoke, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_recipe, "open_splits", interrupt)
    result = invoke("-q", "train", "--config", "demo", "--run", "run")
    assert (result.exit_code, result.stderr.split(".")[0]) == (130, "Stopped")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EIO, "Input/output error", "images/1.png"), "images/1.png: Input/output error. "),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device. "),
        (TimeoutError("the lock\nis held"), "the lock is held. "),
    ],
)
def test_what_the_system_refuses_is_one_line(invoke, monkeypatch, error, line):
    def refuse(*_):
        raise error

    monkeypatch.setattr(train_recipe, "open_splits", refuse)
    result = invoke("-q", "train", "--config", "demo", "--run", "run")
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {line}Check the disk and whose files these are, then run it again.\n",
    )


def test_a_backend_that_cannot_fit_is_refused(invoke, monkeypatch):
    monkeypatch.setattr(backend, "BACKEND", "openvino")
    result = invoke("-q", "train", "--config", "demo")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: pneumo-keras train runs on jax, tensorflow, torch. Received: KERAS_BACKEND=openvino\n",
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("jaxx", ". Did you mean 'jax'?"),
        ("TensorFlow", ". Did you mean 'tensorflow'?"),
        ("pytorch", ". Did you mean 'torch'?"),
        ("numpy", ""),
        ("", ""),
    ],
)
def test_every_command_refuses_a_backend_that_nobody_knows(invoke, monkeypatch, name, hint):
    monkeypatch.setattr(backend, "BACKEND", name)
    commands = [[name] for name in main.commands] + [["data", "audit"], ["cache", "list"], ["config", "list"]]
    assert len(commands) == 15
    for command in commands:
        result = invoke("-q", *command)
        assert (result.exit_code, result.stderr) == (
            1,
            f"Error: KERAS_BACKEND must be jax, tensorflow, torch or openvino. Received: '{name}'{hint}\n",
        )


def test_a_backend_that_is_not_installed_is_named_with_its_extra(invoke, monkeypatch):
    monkeypatch.setattr(backend, "BACKEND", "torch")
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    result = invoke("-q", "eval", "run")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: KERAS_BACKEND=torch needs the package torch. Install it: "
        "uv sync --extra torch, or pip install torch\n",
    )


def test_a_backend_that_is_installed_and_broken_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libc10.so: cannot open')")
    done = subprocess.run(
        [sys.executable, "-m", "pneumo_keras", "-q", "train", "--config", "demo", "--run", tmp_path / "run"],
        env={**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "Error: KERAS_BACKEND=torch is installed and cannot be imported: libc10.so: cannot open. "
        "Reinstall it\n",
    )


def test_help_needs_no_keras_and_no_jax():
    code = (
        "import sys\n"
        "from pneumo_keras.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'keras', 'jax', 'numpy', 'sklearn', 'matplotlib', 'tensorflow_datasets', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "--config NAME|FILE" in done.stdout


def test_help_is_quick():
    def measure():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pneumo_keras", "--help"], check=True, capture_output=True)
        return time.perf_counter() - started

    assert min(measure() for _ in range(5)) < 0.3


def test_keras_that_was_imported_first_on_another_backend_is_named():
    code = (
        "import sys, types\n"
        "config = types.SimpleNamespace(backend=lambda: 'numpy')\n"
        "sys.modules['keras'] = types.SimpleNamespace(config=config)\n"
        "import pneumo_keras"
    )
    for backend_, line in (("numpy", ""), ("jax", IMPORTED_FIRST)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "KERAS_BACKEND": backend_},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr.splitlines()[-1:] == [line][: len(line)]


def test_keras_json_has_no_say(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "numpy", "image_data_format": "channels_first"}')
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    code = (
        "import pneumo_keras.runtime.backend as b, pathlib; b.start_backend(pathlib.Path('.')); "
        "import keras; "
        "print(keras.config.backend(), keras.config.image_data_format())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "jax channels_last\n"


def test_the_version_is_the_package_s(invoke):
    assert invoke("--version").stdout == f"pneumo-keras, version {pneumo_keras.__version__}\n"


COMMANDS = dict(list_commands())
HELP = {name: load_help(command) for name, command in COMMANDS.items()}
every_command = pytest.mark.parametrize("name", COMMANDS, ids=" ".join)


def show_help(name):
    shown = CliRunner().invoke(main, [*name, "--help"], prog_name="pneumo-keras", terminal_width=80)
    assert shown.exit_code == 0
    return shown.stdout


def join_lines(text):
    return " ".join(text.replace("\b", " ").split())


@every_command
def test_help_fits_into_80_columns(name):
    assert [line for line in show_help(name).splitlines() if len(line) > 80] == []


@every_command
def test_help_cuts_no_word_and_no_sentence(name):
    command, shown = COMMANDS[name], join_lines(show_help(name))
    for paragraph in HELP[name].split("\n\n"):
        assert join_lines(paragraph) in shown
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help and join_lines(option.help) in shown, option.name
    for below in getattr(command, "commands", ()):
        assert HELP[*name, below].partition(".")[0] + "." in shown


@every_command
def test_help_ends_in_examples_that_are_commands(name):
    _, _, examples = HELP[name].partition("\b\nExamples:\n")
    lines = examples.splitlines()
    assert 2 <= len(lines) <= 5
    for line in lines:
        check_arguments(find_arguments(line))
    assert any(tuple(find_arguments(line))[: len(name)] == name for line in lines)


def test_help_names_all_grids():
    named = ", ".join(find_named("configs/grids"))
    assert f"Grid: {named}, or a TOML file" in join_lines(show_help(("sweep",)))


def test_memory_that_runs_out_is_one_line(invoke, monkeypatch):
    def fill(*_):
        raise MemoryError("Unable to allocate 8.00 TiB")

    monkeypatch.setattr(train_recipe, "open_splits", fill)
    result = invoke("-q", "train", "--config", "demo", "--run", "run")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Memory ran out. Lower training.batch_size")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pneumo-keras tr", ["train"]),
        ("pneumo-keras train --config de", ["default", "demo"]),
        ("pneumo-keras train --set training.ep", ["training.epochs="]),
        ("pneumo-keras config show re", ["reference"]),
        ("pneumo-keras sweep --grid he", ["heads"]),
    ],
)
def test_the_shell_completes_commands_configurations_and_settings(words, expected, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    complete = BashComplete(main, {}, "pneumo-keras", "_PNEUMO_KERAS_COMPLETE")
    items = complete.get_completions(*complete.get_completion_args())
    found = [item.value for item in items if item.type == "plain"]
    assert found == expected
