import keras
import numpy as np
import pytest

from pneumo_keras.errors import TrainingError
from pneumo_keras.model.classifier import (
    build_head,
    build_online_model,
    build_resizing,
    build_scaling,
    build_standardisation,
)
from pneumo_keras.training.augmentation import build_augmentation
from pneumo_keras.training.batches import ShuffledBatches
from pneumo_keras.training.fit import compute_class_weights, fit
from tests.toy import SIZE, build_toy_backbone

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.uniform(size=200) < 0.7).astype(np.int64)
FEATURES = (RANDOM.normal(size=(200, 5)) + LABELS[:, None]).astype(np.float32)
SETTINGS = {
    "epochs": 4,
    "learning_rate": 1e-2,
    "weight_decay": 1e-5,
    "plateau_factor": 0.2,
    "plateau_patience": 2,
    "class_weights": {0: 1.0, 1: 1.0},
}


def build_small_head(outputs=1):
    return build_head(5, standardisation=None, hidden_units=4, dropout=0.5, outputs=outputs, seed=1)


def fit_features(outputs=1, **changes):
    keras.utils.set_random_seed(1)
    head = build_small_head(outputs)
    batches = ShuffledBatches([FEATURES[:150]], LABELS[:150], batch_size=16, seed=1)
    settings = {**SETTINGS, **changes}
    return head, fit(head.logits, batches, (FEATURES[150:], LABELS[150:]), **settings)


def test_class_weights_of_the_full_training_split_are_those_of_the_protocol():
    labels = np.repeat([0, 1], [1214, 3494])
    assert compute_class_weights(labels) == pytest.approx({0: 1.9390, 1: 0.6737}, abs=5e-5)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_head_learns(outputs):
    head, history = fit_features(outputs, epochs=15)
    scores = head.probability.predict_on_batch(FEATURES[150:])[:, 0]
    assert ((scores > 0.5) == LABELS[150:]).mean() > 0.8
    assert [row["epoch"] for row in history.epochs] == list(range(1, 16))


def test_the_best_epoch_is_kept():
    head, history = fit_features(epochs=12, learning_rate=0.3)
    best = min(row["val_loss"] for row in history.epochs)
    assert history.epochs[history.best_epoch - 1]["val_loss"] == best
    assert history.best_epoch < 12
    probability = np.clip(
        head.probability.predict_on_batch(FEATURES[150:])[:, 0].astype(float), 1e-7, 1 - 1e-7
    )
    loss = -np.mean(np.where(LABELS[150:] == 1, np.log(probability), np.log(1 - probability)))
    assert loss == pytest.approx(best, rel=1e-4)


def test_the_learning_rate_falls_after_epochs_without_gain():
    _, history = fit_features(epochs=12, learning_rate=0.3)
    rates = [row["learning_rate"] for row in history.epochs]
    assert rates[0] == pytest.approx(0.3)
    assert rates[-1] == pytest.approx(0.3 * 0.2 ** round(np.log(rates[-1] / 0.3) / np.log(0.2)), rel=1e-4)
    assert rates[-1] < 0.1


def test_class_weights_weigh_training_and_not_validation():
    _, plain = fit_features(epochs=1, learning_rate=1e-9)
    _, weighted = fit_features(epochs=1, learning_rate=1e-9, class_weights={0: 3.0, 1: 3.0})
    assert weighted.epochs[0]["loss"] == pytest.approx(3 * plain.epochs[0]["loss"], rel=1e-3)
    assert weighted.epochs[0]["val_loss"] == pytest.approx(plain.epochs[0]["val_loss"], rel=1e-3)


def test_the_same_seed_gives_the_same_bytes():
    (first, _), (second, _) = fit_features(), fit_features()
    for mine, theirs in zip(first.logits.get_weights(), second.logits.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_loss_that_is_no_number_gets_one_line():
    features = FEATURES.copy()
    features[3] = np.nan
    head = build_small_head()
    batches = ShuffledBatches([features[:150]], LABELS[:150], batch_size=16, seed=1)
    with pytest.raises(TrainingError) as caught:
        fit(head.logits, batches, (FEATURES[150:], LABELS[150:]), **SETTINGS)
    assert str(caught.value) == (
        "The loss is no longer a number. Lower training.learning_rate, or check model.weights."
    )


def test_only_the_head_learns_when_the_whole_model_is_fitted():
    backbone = build_toy_backbone()
    for variable in backbone.weights:  # statistics that a training-mode BatchNorm would move
        variable.assign(variable + 0.1)
    before = [np.array(weight) for weight in backbone.get_weights()]
    standardisation = build_standardisation(np.zeros(6), np.ones(6))
    head = build_head(6, standardisation=standardisation, hidden_units=4, dropout=0.5, outputs=1, seed=1)
    model = build_online_model(
        build_resizing(SIZE),
        build_augmentation(rotation_degrees=15, horizontal_flip=True, brightness=0.1, contrast=0.1, seed=1),
        build_scaling(SIZE),
        backbone,
        head.logits,
    )
    films = RANDOM.integers(0, 256, (40, 12, 12, 1), dtype=np.uint8)
    batches = ShuffledBatches([films], LABELS[:40], batch_size=8, seed=1)
    head_before = head.logits.get_weights()
    fit(model, batches, (films, LABELS[:40]), **SETTINGS)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert any(not np.array_equal(a, b) for a, b in zip(head_before, head.logits.get_weights(), strict=True))


@pytest.mark.skipif(keras.config.backend() != "jax", reason="XLA is JAX's")
def test_augmentation_does_not_keep_the_whole_model_out_of_the_compiler():
    head = build_head(6, standardisation=None, hidden_units=0, dropout=0.0, outputs=1, seed=1)
    augmentation = build_augmentation(
        rotation_degrees=15, horizontal_flip=True, brightness=0.1, contrast=0.1, seed=1
    )
    model = build_online_model(
        build_resizing(SIZE), augmentation, build_scaling(SIZE), build_toy_backbone(), head.logits
    )
    model.compile(loss="mse")
    assert model.jit_compile
