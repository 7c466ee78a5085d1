import numpy as np
import pytest

from pneumo_keras.data.images import JoinedImages, hash_labels, iterate_images, start_hash
from tests.images import ImageArray


@pytest.fixture
def parts():
    lot = np.random.default_rng(0)
    return [
        ImageArray(lot.integers(0, 256, (n, 5, 4), np.uint8), lot.integers(0, 2, n).astype(np.int64))
        for n in (7, 3, 5)
    ]


def test_joined_images_are_read_in_any_order(parts):
    joined, whole = JoinedImages(parts), np.concatenate([part.images for part in parts])
    rows = np.array([14, 0, 7, 6, 7])
    assert (len(joined), joined.shape) == (15, (5, 4))
    assert np.array_equal(joined.read(rows), whole[rows])
    assert np.array_equal(joined.read(slice(2, 12, 3)), whole[2:12:3])
    assert joined.labels.tolist() == [label for part in parts for label in part.labels.tolist()]


def test_the_fingerprint_of_joined_images_is_that_of_their_parts_in_order(parts):
    prints = {JoinedImages(order).fingerprint() for order in (parts, parts[::-1], parts[:2])}
    assert len(prints) == 3
    assert JoinedImages(parts).fingerprint() in prints


def test_pixels_have_one_hash_however_they_come(parts):
    images, sha256 = parts[0], start_hash((7, 5, 4))
    for part in iterate_images(images, 2):
        sha256.update(part.tobytes())
    assert images.fingerprint() == sha256.hexdigest()
    reshaped = ImageArray(images.images.reshape(7, 4, 5), images.labels)
    assert reshaped.fingerprint() != images.fingerprint()


def test_images_evaluated_anew_have_another_hash_of_labels_alone(parts):
    images = parts[0]
    anew = ImageArray(images.images, 1 - images.labels)
    assert anew.fingerprint() == images.fingerprint()
    assert hash_labels(anew.labels) != hash_labels(images.labels)
