import numpy as np
import pytest

from pneumo_keras.model.head import build_decision, build_head, build_standardisation

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(5, 3)).astype(np.float32)


def build(seeds=(1,), **changes):
    settings = {"moments": None, "hidden_units": 2, "dropout": 0.5, "outputs": 1, **changes}
    return build_head(3, seeds=seeds, **settings)


def test_the_reference_head_has_its_number_of_parameters():
    head = build_head(2048, moments=None, hidden_units=512, dropout=0.5, outputs=2, seeds=[1])
    assert head.count_params() == 1_050_114


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("hidden_units", [0, 2])
def test_log_odds_are_those_of_each_member_by_itself(outputs, hidden_units):
    together = build((7, 8, 9), outputs=outputs, hidden_units=hidden_units).predict_on_batch(FEATURES)
    assert together.shape == (5, 3)
    for member, seed in enumerate((7, 8, 9)):
        alone = build((seed,), outputs=outputs, hidden_units=hidden_units).predict_on_batch(FEATURES)
        np.testing.assert_allclose(together[:, member], alone[:, 0], atol=1e-6)


def test_two_outputs_are_a_softmax_over_normal_and_pneumonia():
    head = build(hidden_units=0, dropout=0.0, outputs=2)
    kernel, bias = (np.asarray(weight)[0] for weight in head.weights)
    normal, pneumonia = (FEATURES @ kernel + bias).T
    softmax = np.exp(pneumonia) / (np.exp(normal) + np.exp(pneumonia))
    probability = build_decision().predict_on_batch(head.predict_on_batch(FEATURES))[:, 0]
    np.testing.assert_allclose(probability, softmax, rtol=1e-5)


def test_members_start_as_glorot_starts_a_layer_of_their_size():
    head = build_head(50, moments=None, hidden_units=40, dropout=0.5, outputs=1, seeds=range(6))
    limits = np.abs(np.asarray(head.get_layer("hidden").kernel)).max(axis=(1, 2))
    assert limits == pytest.approx(np.full(6, np.sqrt(6 / 90)), rel=0.02)


def test_the_same_seed_gives_the_same_head():
    first, second, other = (build((seed,)).weights[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_all_that_learns_has_the_members_first():
    head = build((1, 2, 3, 4), moments=(np.zeros(3), np.ones(3)))
    assert [variable.shape[0] for variable in head.trainable_variables] == [4, 4, 4, 4]


def test_the_decision_averages_log_odds_and_scales_them():
    log_odds = np.array([[1.0, 3.0], [-2.0, 0.0]], dtype=np.float32)
    probability = build_decision(slope=0.5, intercept=0.25).predict_on_batch(log_odds)[:, 0]
    np.testing.assert_allclose(probability, 1 / (1 + np.exp([-1.25, 0.25])), rtol=1e-6)


def test_standardised_features_have_zero_mean_and_unit_variance():
    features = (RANDOM.normal(size=(500, 3)) * [1e-3, 1, 30] + [1, -5, 100]).astype(np.float32)
    layer = build_standardisation(features.mean(0, dtype=float), features.var(0, dtype=float))
    standardised = np.asarray(layer(features))
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(standardised[:, 1:].std(axis=0), 1, rtol=1e-3)


@pytest.mark.parametrize("hidden_units", [0, 2])
@pytest.mark.parametrize("outputs", [1, 2])
def test_members_may_have_moments_of_their_own(hidden_units, outputs):
    mean, variance = RANDOM.normal(size=(3, 3)), RANDOM.uniform(1, 2, (3, 3))
    settings = {"hidden_units": hidden_units, "outputs": outputs}
    together = build((7, 8, 9), moments=(mean, variance), **settings)(FEATURES)
    for member, seed in enumerate((7, 8, 9)):
        alone = build((seed,), moments=(mean[member], variance[member]), **settings)(FEATURES)
        np.testing.assert_allclose(together[:, member], alone[:, 0], atol=1e-6)


def test_members_with_moments_of_their_own_drop_standardised_features():
    mean, variance = RANDOM.normal(size=(2, 40)), RANDOM.uniform(1, 2, (2, 40))
    features = RANDOM.normal(size=(300, 40)).astype(np.float32)
    settings = {"moments": (mean, variance), "hidden_units": 0, "dropout": 0.5, "outputs": 1}
    head = build_head(40, seeds=(1, 2), **settings)
    kernel = np.asarray(head.get_layer("logits").kernel)[..., 0]
    spread = np.asarray(head(features, training=True)) - np.asarray(head(features, training=False))
    standardised = (features[:, None] - mean) / np.sqrt(variance)
    # Kept features count twice: the variance of a sum is that of its terms, each 0 or doubled.
    expected = (standardised**2 * kernel**2).sum(axis=-1)
    np.testing.assert_allclose((spread**2 / expected).mean(axis=0), 1, atol=0.25)


def test_a_feature_that_never_varied_is_not_blown_up():
    layer = build_standardisation(np.array([0.0, 1.0]), np.array([0.0, 4.0]))
    assert np.abs(layer(np.array([[0.001, 1.0]], dtype=np.float32))).max() < 1
