from dataclasses import replace

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pneumo_keras.errors import TrainingError
from pneumo_keras.model.classifier import build_frozen_part, build_online_model
from pneumo_keras.model.head import build_head
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.fit import FitConfig, compute_class_weights, fit
from tests.toy import SIZE, build_toy_backbone

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.uniform(size=200) < 0.7).astype(np.int64)
FEATURES = (RANDOM.normal(size=(200, 5)) + LABELS[:, None]).astype(np.float32)
ALIKE = {0: 1.0, 1: 1.0}
TRAIN, VALIDATION = slice(150), (FEATURES[150:], LABELS[150:])


def evaluate_on(inputs, labels, weights=None):
    return Batches([inputs], labels, batch_size=64, seed=None, weights=weights)


def build_small_head(outputs=1, seeds=(1,), dropout=0.5):
    return build_head(5, moments=None, hidden_units=4, dropout=dropout, outputs=outputs, seeds=seeds)


def build_config(members=1, **changes):
    config = FitConfig("adamw", "plateau", 4, 0.2, 2, [1e-2] * members, [1e-5] * members)
    return replace(config, **changes)


def fit_features(
    outputs=1, seeds=(1,), dropout=0.5, validation=VALIDATION, weights=None, class_weights=ALIKE, **changes
):
    head = build_small_head(outputs, seeds, dropout)
    batches = Batches([FEATURES[TRAIN]], LABELS[TRAIN], batch_size=16, seed=1, weights=weights)
    config = build_config(len(seeds), **changes)
    return head, fit(head, batches, evaluate_on(*validation), config, class_weights=class_weights)


def to_loss(log_odds, labels):
    return np.mean(np.logaddexp(0, log_odds) - labels * log_odds)


def test_class_weights_of_the_full_training_split_are_those_of_the_protocol():
    labels = np.repeat([0, 1], [1214, 3494])
    assert compute_class_weights(labels) == pytest.approx({0: 1.9390, 1: 0.6737}, abs=5e-5)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_head_learns(outputs):
    head, history = fit_features(outputs, epochs=30)
    log_odds = head.predict_on_batch(VALIDATION[0])[:, 0]
    assert ((log_odds > 0) == VALIDATION[1]).mean() > 0.8
    assert [row["epoch"] for row in history.epochs] == list(range(1, 31))


def test_the_best_epoch_is_kept():
    head, history = fit_features(epochs=12, learning_rates=[0.3])
    best = min(row["val_loss"] for row in history.epochs)
    (epoch,) = history.kept_epochs
    assert [row["epoch"] for row in history.epochs if row["kept"]] == [epoch]
    assert history.epochs[epoch - 1]["val_loss"] == best
    assert epoch < 12
    assert to_loss(head.predict_on_batch(VALIDATION[0])[:, 0], VALIDATION[1]) == pytest.approx(best, rel=1e-4)


def test_the_learning_rate_falls_after_epochs_without_gain():
    _, history = fit_features(epochs=12, learning_rates=[0.3])
    losses = [row["val_loss"] for row in history.epochs]
    rates = [row["learning_rate"] for row in history.epochs]
    expected, waited, rate = [], 0, 0.3
    for epoch, loss in enumerate(losses):
        expected.append(rate)
        waited = 0 if loss < min(losses[:epoch], default=np.inf) else waited + 1
        if waited == 2:
            rate, waited = rate * 0.2, 0
    assert rates == pytest.approx(expected, rel=1e-4)
    assert rates[-1] < 0.1


def test_class_weights_weigh_training_and_not_validation():
    _, plain = fit_features(epochs=1, learning_rates=[1e-9])
    _, weighted = fit_features(epochs=1, learning_rates=[1e-9], class_weights={0: 3.0, 1: 3.0})
    assert weighted.epochs[0]["loss"] == pytest.approx(3 * plain.epochs[0]["loss"], rel=1e-3)
    assert weighted.epochs[0]["val_loss"] == pytest.approx(plain.epochs[0]["val_loss"], rel=1e-3)


def test_figures_are_those_of_the_log_odds():
    head, history = fit_features(seeds=(1, 2), epochs=1)
    log_odds = head.predict_on_batch(VALIDATION[0])
    (row,) = history.epochs
    for member in (1, 2):
        loss = to_loss(log_odds[:, member - 1], VALIDATION[1])
        assert row[f"val_loss_{member}"] == pytest.approx(loss, rel=1e-4)
    accuracy = ((log_odds > 0) == VALIDATION[1][:, None]).mean()
    assert row["val_accuracy"] == pytest.approx(accuracy, rel=1e-5)


def test_the_same_seed_gives_the_same_bytes():
    (first, _), (second, _) = fit_features(), fit_features()
    for mine, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(("optimizer", "schedule"), [("adamw", "plateau"), ("sgd", "cosine")])
def test_a_member_learns_as_if_it_were_alone(optimizer, schedule):
    rates, decays = [1e-2, 0.3], [1e-5, 0.3]
    config = {"epochs": 8, "optimizer": optimizer, "schedule": schedule}
    together, history = fit_features(
        seeds=(1, 2), dropout=0.0, **config, learning_rates=rates, weight_decays=decays
    )
    for member, seed in enumerate((1, 2)):
        alone, own = fit_features(
            seeds=(seed,),
            dropout=0.0,
            **config,
            learning_rates=rates[member : member + 1],
            weight_decays=decays[member : member + 1],
        )
        assert own.kept_epochs == [history.kept_epochs[member]]
        for mine, theirs in zip(together.get_weights(), alone.get_weights(), strict=True):
            np.testing.assert_allclose(mine[member], theirs[0], rtol=2e-4, atol=1e-5)
    if schedule == "cosine":
        assert history.kept_epochs == [8, 8]
        assert [row["kept"] for row in history.epochs] == [0] * 7 + [2]
    elif optimizer == "adamw":
        assert history.kept_epochs[0] != history.kept_epochs[1]


def test_one_member_learns_as_keras_adamw_teaches():
    expected = build_small_head(dropout=0.0)
    expected.compile(
        keras.optimizers.AdamW(1e-2, weight_decay=0.1), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    batches = Batches([FEATURES[TRAIN]], LABELS[TRAIN], batch_size=16, seed=1)
    turn = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.start_epoch(epoch + 1))
    weights = {0: 2.0, 1: 0.5}
    expected.fit(batches, epochs=3, class_weight=weights, shuffle=False, verbose=0, callbacks=[turn])
    head, history = fit_features(
        dropout=0.0,
        epochs=3,
        plateau_patience=9,
        weight_decays=[0.1],
        class_weights={0: 2.0, 1: 0.5},
    )
    assert history.kept_epochs == [3]
    for mine, theirs in zip(head.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_an_image_of_weight_zero_is_not_seen():
    weights = np.ones((150, 2), np.float32)
    weights[:50, 0] = 0
    evaluated = np.ones((50, 2), np.float32)
    evaluated[25:, 0] = 0
    head, history = fit_features(
        seeds=(1, 1),
        dropout=0.0,
        epochs=2,
        class_weights=None,
        weights=weights,
        validation=(*VALIDATION, evaluated),
    )
    log_odds = head.predict_on_batch(VALIDATION[0])
    assert np.abs(log_odds[:, 0] - log_odds[:, 1]).max() > 1e-3
    loss = to_loss(log_odds[:25, 0], VALIDATION[1][:25])
    assert history.epochs[1]["val_loss_1"] == pytest.approx(loss, rel=1e-4)
    labels = LABELS.copy()
    labels[:50] = 1 - labels[:50]
    again = build_small_head(seeds=(1, 1), dropout=0.0)
    batches = Batches([FEATURES[TRAIN]], labels[TRAIN], batch_size=16, seed=1, weights=weights)
    fit(again, batches, evaluate_on(*VALIDATION, evaluated), build_config(2, epochs=2), class_weights=None)
    log_odds_of_others = again.predict_on_batch(VALIDATION[0])
    np.testing.assert_allclose(log_odds_of_others[:, 0], log_odds[:, 0], atol=1e-6)
    assert np.abs(log_odds_of_others[:, 1] - log_odds[:, 1]).max() > 1e-3


CROSS_VALIDATED = {"class_weights": None, "weights": np.ones((150, 1), np.float32)}


def test_a_member_that_diverges_is_told_and_leaves_the_others_alone():
    head, history = fit_features(seeds=(1, 2), learning_rates=[1e-2, np.inf], **CROSS_VALIDATED)
    assert history.finite.tolist() == [True, False]
    assert np.isfinite(head.predict_on_batch(FEATURES)).all()
    assert len(history.epochs) == 4


def test_a_fit_among_others_without_a_finite_loss_ends():
    _, history = fit_features(learning_rates=[np.inf], **CROSS_VALIDATED)
    assert (len(history.epochs), history.finite.tolist()) == (1, [False])


def test_a_loss_that_is_no_number_ends_a_fit_at_once():
    with pytest.raises(TrainingError) as caught:
        fit_features(seeds=(1, 2), learning_rates=[1e-2, np.inf])
    assert str(caught.value) == (
        "The loss is NaN or infinite, in epoch 1, batch 2 of 10. Lower training.learning_rate."
    )


def test_features_that_are_not_finite_are_named_as_the_cause():
    features = FEATURES[TRAIN].copy()
    features[7] = np.nan
    batches = Batches([features], LABELS[TRAIN], batch_size=150, seed=1)
    with pytest.raises(TrainingError, match=r"batch 1 of 1\. Features of these images are not finite"):
        fit(build_small_head(), batches, evaluate_on(*VALIDATION), build_config(), class_weights=ALIKE)


def test_only_the_head_learns_when_the_whole_model_is_fitted():
    backbone = build_toy_backbone()
    for variable in backbone.weights:  # statistics that a training-mode BatchNorm would move
        variable.assign(variable + 0.1)
    before = [np.array(weight) for weight in backbone.get_weights()]
    moments = np.zeros(6), np.ones(6)
    head = build_head(6, moments=moments, hidden_units=4, dropout=0.5, outputs=1, seeds=[1])
    model = build_online_model(build_frozen_part(backbone, data_size=12), head)
    images = RANDOM.integers(0, 256, (40, SIZE, SIZE, 1), dtype=np.uint8)
    batches = Batches([images], LABELS[:40], batch_size=8, seed=1)
    head_before = head.get_weights()
    fit(model, batches, evaluate_on(images, LABELS[:40]), build_config(), class_weights=ALIKE)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert any(not np.array_equal(a, b) for a, b in zip(head_before, head.get_weights(), strict=True))


def to_objective(log_odds, kernel, weight_decay):
    """scikit-learn's: the weighted mean loss, and half of the decay times the squared weights."""
    weights = np.array([CLASS_WEIGHTS[label] for label in LABELS[TRAIN]])
    losses = np.logaddexp(0, log_odds) - LABELS[TRAIN] * log_odds
    return np.mean(weights * losses) + weight_decay / 2 * np.sum(kernel**2)


CLASS_WEIGHTS = compute_class_weights(LABELS[TRAIN])


@pytest.mark.parametrize("c", [1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("members", [1, 3])
def test_descent_reaches_the_loss_of_scikit_learn_s_logistic_regression(c, members):
    correlated = FEATURES @ RANDOM.normal(size=(5, 400)).astype(np.float32)
    inputs = (correlated / correlated.std(axis=0))[TRAIN]
    decay = 1 / (c * len(inputs))
    expected = LogisticRegression(C=c, class_weight="balanced", max_iter=10_000, tol=1e-8)
    expected.fit(inputs, LABELS[TRAIN])
    least = to_objective(expected.decision_function(inputs), expected.coef_, decay)
    head = build_head(400, moments=None, hidden_units=0, dropout=0.0, outputs=1, seeds=range(members))
    fit(
        head,
        Batches([inputs], LABELS[TRAIN], batch_size=16, seed=1),
        evaluate_on(inputs, LABELS[TRAIN]),
        FitConfig("sgd", "cosine", 100, 0.2, 2, [1.0] * members, [decay] * members),
        class_weights=CLASS_WEIGHTS,
    )
    log_odds, kernel = head.predict_on_batch(inputs), np.asarray(head.get_layer("logits").kernel)
    for member in range(members):
        reached = to_objective(log_odds[:, member], kernel[member], decay)
        assert least * (1 - 1e-4) <= reached <= 1.01 * least


def test_on_a_cosine_the_rate_falls_to_nothing_and_validation_images_have_no_say():
    config = {"epochs": 10, "schedule": "cosine"}
    head, history = fit_features(**config)
    rates = [row["learning_rate"] for row in history.epochs]
    expected = [1e-2 * (1 + np.cos(np.pi * epoch / 10)) / 2 for epoch in range(10)]
    assert rates == pytest.approx(expected, rel=1e-4)
    other, _ = fit_features(**config, validation=(FEATURES[150:], 1 - LABELS[150:]))
    for mine, theirs in zip(head.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_many_epochs_are_told_in_a_few_lines(caplog):
    with caplog.at_level("INFO", "pneumo_keras"):
        fit_features(epochs=50)
    assert [line.split(":")[0] for line in caplog.messages][-2:] == ["Epoch 48 of 50", "Epoch 50 of 50"]
    assert len(caplog.messages) == 17


def test_a_fit_that_goes_on_keeps_what_it_began_with_where_nothing_is_better(caplog):
    head, _ = fit_features(epochs=10)
    before = head.get_weights()
    batches = Batches([FEATURES[TRAIN]], LABELS[TRAIN], batch_size=16, seed=1)
    config = build_config(epochs=2, learning_rates=[100.0])
    with caplog.at_level("INFO", "pneumo_keras"):
        history = fit(
            head, batches, evaluate_on(*VALIDATION), config, class_weights=ALIKE, fitted_before=True
        )
    assert history.kept_epochs == [0]
    assert [row["kept"] for row in history.epochs] == [0, 0]
    for mine, theirs in zip(head.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    loss = to_loss(head.predict_on_batch(VALIDATION[0])[:, 0], VALIDATION[1])
    assert f"Epoch 0: validation loss {loss:.4f}" in caplog.messages


def test_a_member_alone_may_have_variables_of_any_shape():
    """Of a convolution the first axis is the height of its kernel."""
    images = RANDOM.normal(size=(200, 4, 4, 2)).astype(np.float32) + LABELS[:, None, None, None]
    inputs = keras.Input((4, 4, 2))
    initializer = keras.initializers.GlorotUniform(seed=1)
    maps = keras.layers.Conv2D(3, 3, kernel_initializer=initializer)(inputs)
    head = build_head(3, moments=None, hidden_units=0, dropout=0.0, outputs=1, seeds=[1])
    model = keras.Model(inputs, head(keras.layers.GlobalAveragePooling2D()(maps)))
    batches = Batches([images[TRAIN]], LABELS[TRAIN], batch_size=16, seed=1)
    validation = evaluate_on(images[150:], LABELS[150:])
    history = fit(model, batches, validation, build_config(epochs=6), class_weights=ALIKE)
    (kept,) = history.kept_epochs
    loss = to_loss(model.predict_on_batch(images[150:])[:, 0], LABELS[150:])
    assert loss == pytest.approx(history.epochs[kept - 1]["val_loss"], rel=1e-4)
    assert loss < 0.5
