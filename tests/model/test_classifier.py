import time

import keras
import numpy as np
import pytest
from PIL import Image

from pneumo_keras.errors import ModelError
from pneumo_keras.model.classifier import (
    Classifier,
    build_frozen_part,
    build_resizing,
    build_scaling,
    load_classifier,
    save_classifier,
)
from pneumo_keras.model.head import build_decision, build_head
from tests.toy import build_toy_backbone

RANDOM = np.random.default_rng(0)


def build_classifier(*, flip_average=False, **changes):
    settings = {"moments": None, "hidden_units": 4, "dropout": 0.5, "outputs": 1, **changes}
    return Classifier(
        build_frozen_part(build_toy_backbone(), data_size=28),
        build_head(6, seeds=(1, 2), **settings),
        build_decision(slope=0.7, intercept=0.3),
        flip_average=flip_average,
    )


def test_scaling_copies_grey_to_three_channels_in_the_range_of_the_network():
    scaled = np.asarray(build_scaling(2)(np.array([[[0.0], [255.0]], [[127.5], [51.0]]])[None]))
    np.testing.assert_allclose(scaled[0, ..., 0], [[-1, 1], [0, -0.6]], atol=1e-6)
    np.testing.assert_array_equal(scaled[..., 0], scaled[..., 2])


def test_resizing_is_bilinear_between_pixel_centres():
    image = np.array([[0.0, 100.0]] * 2, dtype=np.float32)[None, ..., None]
    enlarged = np.asarray(build_resizing(2, 4)(image))
    np.testing.assert_allclose(enlarged[0, 0, :, 0], [0, 25, 75, 100])


def test_an_image_of_any_size_is_first_brought_to_the_size_of_the_training_images():
    images = RANDOM.uniform(0, 255, (2, 90, 70, 1)).astype(np.float32)
    as_pillow = [
        np.asarray(Image.fromarray(image[..., 0]).resize((28, 28), Image.Resampling.BILINEAR))
        for image in images
    ]
    small = np.stack(as_pillow)[..., None].clip(0, 255)
    np.testing.assert_allclose(build_resizing(28, 64)(images), build_resizing(28, 64)(small), atol=1e-2)
    assert np.abs(np.asarray(build_resizing(90, 64)(images)) - build_resizing(28, 64)(images)).max() > 10


@pytest.mark.parametrize("flip_average", [False, True])
def test_the_saved_classifier_takes_images_of_any_size_and_scores_the_same(tmp_path, flip_average):
    classifier = build_classifier(flip_average=flip_average)
    classifier.join().save(tmp_path / "model.keras")
    loaded = load_classifier(tmp_path / "model.keras")
    assert loaded.flip_average == flip_average
    for shape in [(2, 28, 28, 1), (1, 40, 33, 1)]:
        images = RANDOM.uniform(0, 255, shape).astype(np.float32)
        scores = loaded.join().predict_on_batch(images)
        assert scores.shape == (shape[0], 1)
        np.testing.assert_array_equal(scores, classifier.join().predict_on_batch(images))


def test_a_classifier_that_is_saved_twice_gives_the_same_bytes_which_plain_keras_reads(tmp_path):
    one, two = tmp_path / "one.keras", tmp_path / "two.keras"
    model = build_classifier(flip_average=True).join()
    save_classifier(model, one)
    time.sleep(2)  # the hours in an archive are even seconds
    save_classifier(model, two)
    assert one.read_bytes() == two.read_bytes()
    images = RANDOM.uniform(0, 255, (2, 28, 28, 1)).astype(np.float32)
    loaded = keras.saving.load_model(one)
    np.testing.assert_array_equal(loaded.predict_on_batch(images), model.predict_on_batch(images))


def test_the_parts_give_what_the_whole_gives():
    classifier = build_classifier(outputs=2)
    images = RANDOM.uniform(0, 255, (3, 28, 28, 1)).astype(np.float32)
    features = classifier.frozen.backbone(classifier.frozen.scale(classifier.frozen.resize(images)))
    probability = classifier.decision(classifier.head(features))
    np.testing.assert_allclose(probability, classifier.join()(images), atol=1e-6)


def test_flip_averaging_scores_an_image_and_its_mirror_image_alike():
    images = RANDOM.uniform(0, 255, (3, 28, 28, 1)).astype(np.float32)
    plain, averaged = build_classifier().join(), build_classifier(flip_average=True).join()
    assert np.abs(np.asarray(plain(images)) - np.asarray(plain(images[:, :, ::-1]))).max() > 1e-4
    np.testing.assert_allclose(averaged(images), averaged(images[:, :, ::-1]), atol=1e-6)


def test_only_the_head_learns():
    classifier = build_classifier()
    trainable = {id(variable) for variable in classifier.join().trainable_variables}
    assert trainable == {id(variable) for variable in classifier.head.trainable_variables}


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
    classifier = build_classifier()
    images = RANDOM.uniform(0, 255, (3, 28, 28, 1)).astype(np.float32)
    np.testing.assert_allclose(
        classifier.join()(images), classifier.join().predict_on_batch(images), atol=1e-6
    )
