import subprocess
import sys

import keras
import numpy as np
import pytest

from pneumo_keras.model.classifier import build_resizing, build_scaling
from pneumo_keras.model.head import build_head, read_members
from pneumo_keras.model.inference import HeadMembers, load_head, resize_images, scale_images

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(3, 2, (9, 5)).astype(np.float32)


@pytest.mark.parametrize(("source", "target"), [(28, 75), (28, 28), (64, 31), (224, 149)])
def test_images_are_resized_and_scaled_as_in_the_saved_model(source, target):
    images = RANDOM.integers(0, 256, (3, source, source), np.uint8)
    resized = build_resizing(source, target).predict_on_batch(images[..., None].astype(np.float32))
    found = resize_images(images, target)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, resized[..., 0], atol=2e-3)  # Keras rounds its weights
    scaled = np.asarray(build_scaling(target).predict_on_batch(resized))
    np.testing.assert_allclose(scale_images(found), scaled, atol=2e-5)


def test_images_of_two_lengths_are_resized_along_each_axis():
    images = RANDOM.integers(0, 256, (2, 92, 34), np.uint8)
    expected = keras.ops.image.resize(
        images[..., None].astype(np.float32), (28, 28), interpolation="bilinear", antialias=True
    )
    np.testing.assert_allclose(resize_images(images, 28), np.asarray(expected)[..., 0], atol=1e-3)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("hidden_units", [0, 4])
@pytest.mark.parametrize("standardised", [False, True])
def test_a_head_gives_the_log_odds_of_its_layers_also_from_its_file(
    tmp_path, outputs, hidden_units, standardised
):
    moments = (FEATURES.mean(axis=0), FEATURES.var(axis=0)) if standardised else None
    head = build_head(
        5, moments=moments, hidden_units=hidden_units, dropout=0.5, outputs=outputs, seeds=[1, 2, 3]
    )
    members = read_members(head)
    expected = np.asarray(head.predict_on_batch(FEATURES))
    assert expected.shape == (9, 3)
    np.testing.assert_allclose(members.compute_log_odds(FEATURES), expected, atol=1e-5)
    members.save(tmp_path / "head.npz")
    loaded = load_head(tmp_path / "head.npz")
    assert isinstance(loaded, HeadMembers)
    np.testing.assert_array_equal(loaded.compute_log_odds(FEATURES), members.compute_log_odds(FEATURES))


def test_it_is_imported_without_keras():
    code = "import sys, pneumo_keras.model.inference; print({'keras', 'jax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
