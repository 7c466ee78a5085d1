"""The same command gives the same bytes on each backend, and nearly the same classifier on all."""

import pytest
from sklearn.metrics import roc_auc_score

from pneumo_keras.evaluation.scores import load_scores
from pneumo_keras.runtime.backend import FITTING
from tests.backends.processes import run_module

pytestmark = pytest.mark.system
# Dropout is each backend's own.
SETTINGS = [
    "data.phantom_images=[320,160,160]",
    "model.feature_layers=['mixed4','mixed10']",
    "compute.engine=keras",
]
HIDDEN = ["model.hidden_units=16", "training.epochs=6"]
LINEAR = ["model.hidden_units=0", "training.optimizer=sgd", "training.schedule=cosine", "training.epochs=4"]
KEPT = ["model.keras", "scores_val.csv", "history.csv", "ood_detector.npz", "metrics_val.json"]


def train(backend, folder, *settings):
    folder.mkdir()
    run_module(backend, "training", folder, *SETTINGS, *settings)
    return folder / "run"


@pytest.fixture(scope="module", params=[HIDDEN, LINEAR], ids=["hidden units", "linear"])
def settings(request):
    return [*request.param, "model.dropout=0"]


@pytest.fixture(scope="module")
def of_jax(tmp_path_factory, settings):
    return train("jax", tmp_path_factory.mktemp("jax") / "run", *settings)


def to_auc(run):
    return roc_auc_score(*load_scores(run / "scores_val.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", FITTING)
def test_the_same_command_gives_the_same_bytes(need, tmp_path, backend):
    need(backend)
    one, two = (train(backend, tmp_path / name, *HIDDEN, "model.dropout=0.5") for name in ("one", "two"))
    assert [name for name in KEPT if (one / name).read_bytes() != (two / name).read_bytes()] == []


@pytest.mark.slow
@pytest.mark.parametrize("backend", FITTING[1:])
def test_a_training_ends_where_it_does_on_jax(need, tmp_path, of_jax, settings, backend):
    need(backend)
    assert to_auc(train(backend, tmp_path / "other", *settings)) == pytest.approx(to_auc(of_jax), abs=1e-3)
