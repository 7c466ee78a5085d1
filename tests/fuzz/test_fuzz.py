"""Damaged inputs of five kinds, a few on every run of the tests and a thousand of each where it is slow.

Each is refused in one line, or gives the result of the undamaged one, or another one that it really says.
"""

import logging
import shutil

import pytest

from pneumo_keras.config import find_named, load_config
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.recipes import network
from pneumo_keras.recipes.train import train_run
from pneumo_keras.runs.folder import RunFolder
from tests.fuzz import targets
from tests.fuzz.trial import try_inputs
from tests.images import load_phantom_splits
from tests.small import SMALL
from tests.toy import build_toy_backbone

pytestmark = pytest.mark.system

COUNTS_OF_TRIALS = [
    pytest.param(40, id="few"),
    pytest.param(1000, id="thousand", marks=[pytest.mark.slow, pytest.mark.exhaustive]),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of toy networks on the same images."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "build_backbone", build_toy_backbone)
        patch.setenv("PNEUMO_KERAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name, settings in {"first": [], "second": ["seed=7"]}.items():
            train_run(load_config("demo", [*SMALL, *settings]), RunFolder(folder / name))
    return folder


@pytest.fixture
def second(runs, tmp_path):
    shutil.copytree(runs / "second", tmp_path / "second")
    return tmp_path / "second"


log = logging.getLogger(__name__)


def check(target, folder, count):
    outcomes, faults = try_inputs(target, folder, count)
    log.warning("%s: %s", type(target).__name__, dict(outcomes))
    assert not faults, faults[:20]
    assert outcomes["refused"] > count / 5  # or the damage is none


@pytest.mark.parametrize("count", COUNTS_OF_TRIALS)
def test_damaged_npz_files(tmp_path, count):
    save_archive(tmp_path / "images.npz", load_phantom_splits((6, 4, 4)))
    target = targets.NpzTarget((tmp_path / "images.npz").read_bytes(), tmp_path / "images.npz")
    check(target, tmp_path, count)


@pytest.mark.parametrize("count", COUNTS_OF_TRIALS)
def test_damaged_settings(tmp_path, count):
    text = (find_named("configs")["demo"]).read_text()
    check(targets.SettingsTarget(text, tmp_path / "settings.toml"), tmp_path, count)


@pytest.mark.parametrize("count", COUNTS_OF_TRIALS)
def test_damaged_classifiers(second, tmp_path, count):
    target = targets.ClassifierTarget((second / "model.keras").read_bytes(), second)
    check(target, tmp_path, count)


@pytest.mark.parametrize("count", COUNTS_OF_TRIALS)
def test_damaged_scores(runs, second, tmp_path, count):
    target = targets.ScoresTarget((second / "scores_val.csv").read_text(), second, runs / "first")
    check(target, tmp_path, count)


@pytest.mark.parametrize("count", COUNTS_OF_TRIALS)
def test_damaged_documents_of_a_run(runs, second, tmp_path, count):
    data = {name: (second / name).read_bytes() for name in targets.DOCUMENTS}
    check(targets.DocumentsTarget(data, second, runs / "first"), tmp_path, count)
