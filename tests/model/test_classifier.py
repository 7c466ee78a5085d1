import keras
import numpy as np
import pytest

from pneumo_keras.errors import ModelError
from pneumo_keras.model.classifier import (
    build_head,
    build_resizing,
    build_scaling,
    build_standardisation,
    join_classifier,
    load_classifier,
)
from tests.toy import SIZE, build_toy_backbone

RANDOM = np.random.default_rng(0)


def build_classifier(outputs=1, hidden_units=4):
    head = build_head(
        6, standardisation=None, hidden_units=hidden_units, dropout=0.5, outputs=outputs, seed=1
    )
    return join_classifier(
        build_resizing(SIZE), build_scaling(SIZE), build_toy_backbone(), head.probability
    ), head


def test_the_reference_head_has_its_number_of_parameters():
    head = build_head(2048, standardisation=None, hidden_units=512, dropout=0.5, outputs=2, seed=1)
    assert head.logits.count_params() == 1_050_114


@pytest.mark.parametrize("outputs", [1, 2])
def test_probability_is_that_of_pneumonia(outputs):
    head = build_head(3, standardisation=None, hidden_units=0, dropout=0.0, outputs=outputs, seed=1)
    features = RANDOM.normal(size=(5, 3)).astype(np.float32)
    logits = head.logits.predict_on_batch(features)
    against = logits[:, 1] - logits[:, 0] if outputs == 2 else logits[:, 0]
    np.testing.assert_allclose(
        head.probability.predict_on_batch(features)[:, 0], 1 / (1 + np.exp(-against)), rtol=1e-5
    )


def test_the_same_seed_gives_the_same_head():
    first, second, other = (
        build_head(3, standardisation=None, hidden_units=2, dropout=0.5, outputs=1, seed=seed).logits
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.weights[0], second.weights[0])
    assert not np.array_equal(first.weights[0], other.weights[0])


def test_standardised_features_have_zero_mean_and_unit_variance():
    features = (RANDOM.normal(size=(500, 3)) * [1e-3, 1, 30] + [1, -5, 100]).astype(np.float32)
    layer = build_standardisation(features.mean(0, dtype=float), features.var(0, dtype=float))
    standardised = np.asarray(layer(features))
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(standardised[:, 1:].std(axis=0), 1, rtol=1e-3)


def test_a_feature_that_never_varied_is_not_blown_up():
    layer = build_standardisation(np.array([0.0, 1.0]), np.array([0.0, 4.0]))
    assert np.abs(layer(np.array([[0.001, 1.0]], dtype=np.float32))).max() < 1


def test_scaling_copies_grey_to_three_channels_in_the_range_of_the_network():
    scaled = np.asarray(build_scaling(2)(np.array([[[0.0], [255.0]], [[127.5], [51.0]]])[None]))
    np.testing.assert_allclose(scaled[0, ..., 0], [[-1, 1], [0, -0.6]], atol=1e-6)
    np.testing.assert_array_equal(scaled[..., 0], scaled[..., 2])


def test_resizing_is_bilinear_between_pixel_centres():
    enlarged = np.asarray(build_resizing(4)(np.array([[0.0, 100.0]] * 2, dtype=np.float32)[None, ..., None]))
    np.testing.assert_allclose(enlarged[0, 0, :, 0], [0, 25, 75, 100])


def test_the_saved_classifier_takes_films_of_any_size_and_scores_the_same(tmp_path):
    classifier, _ = build_classifier()
    classifier.model.save(tmp_path / "model.keras")
    loaded = load_classifier(tmp_path / "model.keras")
    for shape in [(2, 28, 28, 1), (1, 40, 33, 1)]:
        films = RANDOM.uniform(0, 255, shape).astype(np.float32)
        scores = loaded.model.predict_on_batch(films)
        assert scores.shape == (shape[0], 1)
        np.testing.assert_array_equal(scores, classifier.model.predict_on_batch(films))


def test_the_parts_give_what_the_whole_gives():
    classifier, head = build_classifier(outputs=2)
    films = RANDOM.uniform(0, 255, (3, 28, 28, 1)).astype(np.float32)
    features = classifier.backbone(classifier.scale(classifier.resize(films)))
    np.testing.assert_allclose(head.probability(features), classifier.model(films), atol=1e-6)


def test_only_the_head_learns():
    classifier, head = build_classifier()
    trainable = {id(variable) for variable in classifier.model.trainable_variables}
    assert trainable == {id(variable) for variable in head.logits.trainable_variables}


@pytest.mark.parametrize("kind", ["damaged", "foreign"])
def test_a_file_that_is_no_classifier_gets_one_line(tmp_path, kind):
    path = tmp_path / "model.keras"
    if kind == "damaged":
        path.write_bytes(b"PK but no archive")
    else:
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(ModelError, match="is damaged or was not written by pneumo-keras") as caught:
        load_classifier(path)
    assert "\n" not in str(caught.value)


def test_dropout_is_off_where_the_saved_classifier_is_called_plainly(tmp_path):
    classifier, _ = build_classifier()
    films = RANDOM.uniform(0, 255, (3, 28, 28, 1)).astype(np.float32)
    np.testing.assert_allclose(classifier.model(films), classifier.model.predict_on_batch(films), atol=1e-6)
