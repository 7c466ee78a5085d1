from dataclasses import replace

import numpy as np
import pytest

from pneumo_keras.errors import ExportError
from pneumo_keras.exports.verification import draw_images, verify_scoring
from pneumo_keras.model.head import build_decision
from tests.exports.classifiers import build_classifier


@pytest.fixture(scope="module")
def classifier():
    return build_classifier()


@pytest.fixture(scope="module")
def stock(classifier):
    """As Keras has it, compiled once."""
    return classifier.join()


def verify(stock, change=lambda images: 0.0):
    def scoring(images):
        return (stock.predict_on_batch(images) + change(images)).astype(np.float32)

    return verify_scoring(scoring, "jax", stock, 28)


def test_images_are_those_of_the_training_size_larger_ones_and_smaller_ones():
    shapes = [images.shape for images in draw_images(28)]
    assert shapes == [(48, 28, 28, 1), (8, 65, 33, 1), (8, 21, 25, 1)]
    assert min(min(images.shape[1:3]) for images in draw_images(16)) >= 1


def test_images_differ_in_contrast_which_keeps_some_scores_from_0_and_1():
    (images, *_) = draw_images(28)
    assert images.dtype == np.float32
    assert images[0].max() > 200
    assert 30 < images[-1].max() <= 0.3 * 255


def test_what_was_compared_is_told(stock):
    import jax

    found = verify(stock, lambda images: 5e-5 * (len(images) == 48))
    assert found.runtime == f"jax {jax.__version__}"
    assert (found.images, found.tolerance) == (64, 1e-4)
    assert 1e-4 < found.largest_log_odds_difference < found.log_odds_tolerance == 1e-2
    assert found.unsaturated_images == 64
    assert found.sizes == [(28, 28), (65, 33), (21, 25)]
    assert found.largest_difference == pytest.approx(5e-5, abs=1e-6)


@pytest.mark.parametrize("off", [-2e-4, np.nan])
def test_one_image_of_one_size_that_is_off_fails_it(stock, off):
    def change(images):
        changes = np.zeros((len(images), 1))
        changes[-1] = off if images.shape[1:3] == (21, 25) else 0
        return changes

    with pytest.raises(
        ExportError, match=r"an image of 21 x 25 pixels scores on jax [\d.]+ (2.0e-04|nan) away from Keras"
    ):
        verify(stock, change)


def saturate(classifier, intercept):
    """With log odds far from 0 for every image."""
    return replace(classifier, decision=build_decision(slope=0.7, intercept=intercept)).join()


def test_a_wrong_head_shows_where_the_probabilities_agree_by_saturation(classifier):
    right, wrong = saturate(classifier, 15.0), saturate(classifier, 14.7)
    scores = [
        np.concatenate([one.predict_on_batch(images) for images in draw_images(28)]) for one in (right, wrong)
    ]
    assert np.abs(scores[0] - scores[1]).max() < 1e-4  # all that was looked at once
    with pytest.raises(
        ExportError, match=r"pixels has log odds on jax [\d.]+ \S+ away from Keras, more than"
    ):
        verify_scoring(wrong.predict_on_batch, "jax", right, 28)
    assert verify(right).largest_log_odds_difference < 1e-3


def test_images_that_all_score_0_or_1_prove_nothing(classifier):
    with pytest.raises(ExportError, match="Keras scores all 64 images within 1e-05 of 0 or 1, where a wrong"):
        verify(saturate(classifier, 60.0))
