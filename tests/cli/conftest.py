import shutil

import pytest
from click.testing import CliRunner

from pneumo_keras.cli import main
from pneumo_keras.recipes import network
from pneumo_keras.runtime import backend
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


SMALL = [
    "data.phantom_images=[60,30,40]",
    "model.feature_layers=mixed10",
    "training.epochs=2",
    "training.learning_rate=0.1",  # or scores might rank backwards, which is warned about
]


@pytest.fixture
def small():
    """Arguments of a training that takes a second."""
    return ["--config", "demo", *(part for setting in SMALL for part in ("--set", setting))]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run that was trained once, on the toy network."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("PNEUMO_KERAS_CACHE", str(folder / "cache"))
        patched.setattr(network, "build_backbone", build_toy_backbone)
        patched.setattr(backend, "start_backend", lambda cache: None)
        settings = [part for setting in SMALL for part in ("--set", setting)]
        arguments = ["-q", "train", "--config", "demo", *settings, "--run", "run"]
        assert CliRunner().invoke(main, arguments, prog_name="pneumo-keras").exit_code == 0
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it in the working folder."""
    return shutil.copytree(trained, tmp_path / "run")
