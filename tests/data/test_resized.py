import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data import resized
from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.resized import ResizedImages
from tests.images import build_phantom_images

LARGE = build_phantom_images(5, size=64, seed=1)


@pytest.mark.parametrize("quality", [None, 75])
def test_larger_images_are_prepared_to_the_byte(quality):
    preparation = Preparation(28, quality)
    images = ResizedImages(LARGE, preparation)
    expected = np.stack([prepare_image(Image.fromarray(image), preparation) for image in LARGE.images])
    assert images.shape == (28, 28) and len(images) == 5
    assert np.array_equal(images.read(slice(None)), expected)
    assert np.array_equal(images.read(np.array([3, 0])), expected[[3, 0]])
    assert images.read(slice(0, 0)).shape == (0, 28, 28)
    assert np.array_equal(images.labels, LARGE.labels)


def test_a_fingerprint_tells_the_preparation_and_its_code(monkeypatch):
    def fingerprint(quality):
        return ResizedImages(LARGE, Preparation(28, quality)).fingerprint()

    plain = fingerprint(None)
    assert len({plain, fingerprint(75), LARGE.fingerprint()}) == 3
    monkeypatch.setattr(resized, "fingerprint_code", lambda modules: "other code")
    assert fingerprint(None) != plain
