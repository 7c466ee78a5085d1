"""Fits that are stopped, and go on from their checkpoint."""

import json

import numpy as np
import pytest

from pneumo_keras.errors import RunError
from pneumo_keras.model.classifier import build_frozen_part, build_online_model
from pneumo_keras.model.head import build_head
from pneumo_keras.runtime.signals import Stopped
from pneumo_keras.training import checkpoint as checkpoints
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.checkpoint import Checkpoint
from pneumo_keras.training.fit import FitConfig, fit
from tests.stops import stop_after
from tests.toy import SIZE, build_toy_backbone

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.uniform(size=50) < 0.7).astype(np.int64)
FEATURES = (RANDOM.normal(size=(50, 6)) + LABELS[:, None]).astype(np.float32)
IMAGES = RANDOM.integers(0, 256, (50, SIZE, SIZE, 1), dtype=np.uint8)
TRAIN, VALIDATION = slice(35), slice(35, 50)
EPOCHS, BATCHES = 4, 5


def fit_once(checkpoint, *, mode="cached", schedule="plateau", optimizer="adamw"):
    head = build_head(6, moments=None, hidden_units=4, dropout=0.5, outputs=1, seeds=[1, 2])
    model, inputs = head, FEATURES
    if mode == "online":
        model = build_online_model(build_frozen_part(build_toy_backbone(), data_size=12), head)
        inputs = IMAGES
    history = fit(
        model,
        Batches([inputs[TRAIN], inputs[TRAIN]], LABELS[TRAIN], batch_size=7, seed=1, workers=2),
        Batches([inputs[VALIDATION]], LABELS[VALIDATION], batch_size=8, seed=None),
        FitConfig(optimizer, schedule, EPOCHS, 0.2, 1, [0.1, 0.3], [1e-3, 0]),
        class_weights={0: 2.0, 1: 0.5},
        head=head,
        checkpoint=checkpoint,
    )
    return head, history


def assert_same(first, second):
    (head, history), (other, others_history) = first, second
    for mine, theirs in zip(head.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert json.dumps(history.epochs) == json.dumps(others_history.epochs)
    assert history.kept_epochs == others_history.kept_epochs


@pytest.mark.parametrize(
    ("mode", "schedule", "optimizer", "stops"),
    [
        # In the middle of an epoch, at its end, twice in the same one, in the last one.
        ("cached", "plateau", "adamw", (2, 1, 1, 3, 4, 2)),
        ("cached", "cosine", "sgd", (18,)),
        ("online", "plateau", "adamw", (7, 10)),
    ],
)
def test_a_fit_that_is_stopped_goes_on_to_the_same_bytes(
    tmp_path, monkeypatch, mode, schedule, optimizer, stops
):
    settings = {"mode": mode, "schedule": schedule, "optimizer": optimizer}
    whole = fit_once(None, **settings)
    checkpoint = Checkpoint(tmp_path / "checkpoint", {"seed": 1})
    for checks in stops:
        with monkeypatch.context() as patched:
            stop_after(patched, checks, 2)
            with pytest.raises(Stopped):
                fit_once(checkpoint, **settings)
    assert checkpoint.load()[:2] == (3, 4)
    assert_same(fit_once(checkpoint, **settings), whole)
    assert checkpoint.load()[:2] == (EPOCHS, 0)
    assert_same(fit_once(checkpoint, **settings), whole)


def test_where_nobody_asks_a_fit_is_kept_now_and_then(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(Checkpoint, "save", lambda self, epoch, batch, state: kept.append((epoch, batch)))
    fit_once(Checkpoint(tmp_path / "checkpoint", {}))
    assert kept == [(EPOCHS, 0)]
    kept.clear()
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(checkpoints, "MIN_SAVE_INTERVAL_FACTOR", 0)
    fit_once(Checkpoint(tmp_path / "checkpoint", {}))
    # The last batch of an epoch waits for the validation.
    an_epoch = [(0, batch) for batch in range(1, BATCHES)]
    assert kept[:BATCHES] == [*an_epoch, (1, 0)]


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "checkpoint", {"images": "abc"})
    with monkeypatch.context() as patched:
        stop_after(patched, 2, 2)
        with pytest.raises(Stopped):
            fit_once(checkpoint)
    return checkpoint


def test_a_checkpoint_of_other_images_is_refused(stopped):
    with pytest.raises(RunError) as caught:
        fit_once(Checkpoint(stopped.path, {"images": "xyz"}))
    assert str(caught.value) == (
        f"{stopped.path} was written with other images: restore them to continue, or delete it to start "
        "over. Received: xyz, not abc"
    )


def test_a_damaged_checkpoint_is_named(stopped):
    whole = stopped.path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(20):
        data = bytearray(whole)
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        stopped.path.write_bytes(data)
        with pytest.raises(RunError, match="is damaged"):
            stopped.load()
    for content in (whole[:-100], b""):
        stopped.path.write_bytes(content)
        with pytest.raises(RunError, match="is damaged"):
            fit_once(stopped)


def test_a_checkpoint_of_another_head_is_refused(stopped):
    epoch, batch, state = stopped.load()
    state["head_0"] = state["head_0"][:, :1]
    stopped.save(epoch, batch, state)
    with pytest.raises(RunError, match="does not fit"):
        fit_once(stopped)
