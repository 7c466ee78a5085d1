from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_sample_weight

from pneumo_keras.model.head import build_head
from pneumo_keras.training import cross_validation as module
from pneumo_keras.training.cross_validation import FoldedFeatures, cross_validate, weigh_folds
from pneumo_keras.training.fit import FitConfig, fit

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.uniform(size=300) < 0.7).astype(np.int64)
FEATURES = (RANDOM.normal(size=(300, 5)) + LABELS[:, None]).astype(np.float32)
NOISE = RANDOM.normal(size=(300, 40)).astype(np.float32)
FOLDS = RANDOM.permutation(np.arange(300) % 3)


def validate(features, evaluated=None, *, standardise=False, hidden_units=8, dropout=0.0, seed=1, **changes):
    def build(seeds, moments):
        return build_head(
            features.shape[1],
            moments=moments if standardise else None,
            hidden_units=hidden_units,
            dropout=dropout,
            outputs=1,
            seeds=seeds,
        )

    config = replace(FitConfig("adamw", "plateau", 8, 0.2, 2, [1e-2], [0.0]), **changes)
    folded = FoldedFeatures([features], evaluated or {"plain": [features]}, LABELS, FOLDS)
    return cross_validate(build, folded, config=config, batch_size=16, seed=seed)


def test_images_are_weighed_by_class_outside_their_fold_and_not_inside():
    weights = weigh_folds(LABELS, FOLDS)
    for fold in range(3):
        outside = fold != FOLDS
        expected = compute_sample_weight("balanced", LABELS[outside])
        np.testing.assert_allclose(weights[outside, fold], expected * 300 / outside.sum(), rtol=1e-6)
        assert not weights[~outside, fold].any()


def test_held_out_images_are_scored_by_a_head_that_has_not_seen_them():
    # A head that had seen them would know the labels of pure noise.
    seen = validate(NOISE, learning_rates=[3e-2], epochs=30, plateau_patience=99)
    assert abs(roc_auc_score(LABELS, seen.log_odds["plain"][:, 0]) - 0.5) < 0.12
    assert roc_auc_score(LABELS, validate(FEATURES).log_odds["plain"][:, 0]) > 0.9


@pytest.mark.parametrize("hidden_units", [0, 8])
def test_what_a_head_learns_does_not_depend_on_the_images_it_is_evaluated_on(monkeypatch, hidden_units):
    heads = []
    monkeypatch.setattr(
        module, "fit", lambda model, *rest, **settings: heads.append(model) or fit(model, *rest, **settings)
    )
    for factor in (1, 100):
        features = np.where(FOLDS[:, None] == 0, np.float32(factor), np.float32(1)) * FEATURES
        validate(features, standardise=True, hidden_units=hidden_units, dropout=0.5, epochs=1)
    for first, second in zip(*(head.trainable_variables for head in heads), strict=True):
        np.testing.assert_array_equal(np.asarray(first)[0], np.asarray(second)[0])
        assert not np.array_equal(np.asarray(first)[1], np.asarray(second)[1])


def test_a_setting_does_not_depend_on_the_others():
    together = validate(FEATURES, learning_rates=[1e-2, 0.1], weight_decays=[0.0, 0.1])
    for index, (rate, decay) in enumerate([(1e-2, 0.0), (0.1, 0.1)]):
        alone = validate(FEATURES, learning_rates=[rate], weight_decays=[decay])
        np.testing.assert_allclose(
            together.log_odds["plain"][:, index], alone.log_odds["plain"][:, 0], atol=1e-3
        )
        np.testing.assert_array_equal(together.kept_epochs[index], alone.kept_epochs[0])


def test_evaluated_views_are_averaged():
    ways = {str(zeros): [FEATURES, *[0 * FEATURES] * zeros] for zeros in range(3)}
    alone, with_zeros, zeros = validate(FEATURES, ways).log_odds.values()
    # What a view of zeros adds is the same each time.
    np.testing.assert_allclose(2 * with_zeros - alone, (3 * zeros - alone) / 2, atol=1e-4)
    assert np.abs(with_zeros - alone).max() > 0.1


def test_a_setting_that_diverges_has_no_scores():
    found = validate(FEATURES, learning_rates=[1e-2, np.inf], weight_decays=[0.0, 0.0])
    assert np.isfinite(found.log_odds["plain"][:, 0]).all()
    assert np.isnan(found.log_odds["plain"][:, 1]).all()


def test_another_seed_gives_other_scores():
    first, second = (validate(FEATURES, seed=seed, epochs=1).log_odds["plain"] for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_images_are_evaluated_in_several_ways_by_heads_that_have_not_seen_them():
    def build(seeds, moments):
        return build_head(5, moments=moments, hidden_units=0, dropout=0.0, outputs=1, seeds=seeds)

    found = cross_validate(
        build,
        FoldedFeatures([FEATURES], {"plain": [FEATURES], "mirrored": [-FEATURES]}, LABELS, FOLDS),
        config=FitConfig("sgd", "cosine", 8, 0.2, 2, [0.1, 1.0], [0.0, 0.1]),
        batch_size=16,
        seed=1,
    )
    assert found.kept_epochs.tolist() == [[8, 8, 8]] * 2
    for index in range(2):
        assert roc_auc_score(LABELS, found.log_odds["plain"][:, index]) > 0.9
        assert roc_auc_score(LABELS, found.log_odds["mirrored"][:, index]) < 0.1


@pytest.mark.parametrize("count", [2, 5])
def test_heads_shrink_as_much_as_in_a_training_on_the_other_images(count):
    folds = np.arange(300) % count

    def build(seeds, moments):
        return build_head(5, moments=moments, hidden_units=0, dropout=0.0, outputs=1, seeds=seeds)

    found = cross_validate(
        build,
        FoldedFeatures([FEATURES], {"plain": [FEATURES]}, LABELS, folds),
        config=FitConfig("sgd", "cosine", 200, 0.2, 2, [1.0], [0.5]),
        batch_size=300,
        seed=1,
    )
    for fold in range(count):
        outside = folds != fold
        mean, deviation = FEATURES[outside].mean(axis=0), FEATURES[outside].std(axis=0)
        settings = {"C": 1 / (0.5 * outside.sum()), "class_weight": "balanced", "tol": 1e-8}
        expected = LogisticRegression(**settings).fit((FEATURES[outside] - mean) / deviation, LABELS[outside])
        log_odds = expected.decision_function((FEATURES[~outside] - mean) / deviation)
        np.testing.assert_allclose(found.log_odds["plain"][~outside, 0], log_odds, atol=1e-3)
