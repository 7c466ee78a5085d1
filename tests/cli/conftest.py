import pytest
from click.testing import CliRunner

from pneumo_keras.cli import main
from pneumo_keras.recipes import network
from pneumo_keras.runtime import backend
from tests.small import LEARNING, SMALL
from tests.toy import build_toy_backbone


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Runs a command in an empty working folder, on the toy network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(network, "build_backbone", build_toy_backbone)
    monkeypatch.setattr(backend, "start_backend", lambda cache: None)  # it has been started

    def run(*arguments):
        return CliRunner().invoke(main, arguments, prog_name="pneumo-keras")

    return run


@pytest.fixture
def small():
    """Arguments of a training that takes a second."""
    return ["--config", "demo", *(part for setting in (*SMALL, LEARNING) for part in ("--set", setting))]


@pytest.fixture
def run(toy_run):
    """A finished run in the working folder."""
    return toy_run
