import numpy as np
import pytest

from pneumo_keras.errors import RunError
from pneumo_keras.runs.normal_images import choose_normal_images, load_normal_images, save_normal_images

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)


def test_normal_images_come_evenly_from_the_lower_half_of_scores():
    labels = np.repeat(np.array([0, 1], dtype=np.int64), 40)
    scores = np.random.default_rng(1).permutation(80) / 80
    chosen = choose_normal_images(labels, scores)
    ranks = np.argsort(np.argsort(scores[:40]))[chosen]
    assert ranks.tolist() == [0, 3, 5, 8, 11, 14, 16, 19]


@pytest.mark.parametrize(("labels", "chosen"), [([1, 0, 1, 0], [3]), ([1, 1, 1, 1], [2, 3]), ([0, 1], [0])])
def test_there_is_always_an_image_to_compare_with(labels, chosen):
    scores = np.linspace(0.9, 0.1, 4)[: len(labels)]
    found = choose_normal_images(np.array(labels, dtype=np.int64), scores)
    assert sorted(found.tolist()) == chosen


def test_images_are_read_as_they_were_written(tmp_path):
    save_normal_images(tmp_path / "images.npz", IMAGES)
    np.testing.assert_array_equal(load_normal_images(tmp_path / "images.npz", size=28), IMAGES)


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path):
    path = tmp_path / "images.npz"
    for content, words in ((None, "is missing"), (b"PK", "is damaged"), (b"", "is damaged")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RunError, match=f"images.npz {words}.*Train again"):
            load_normal_images(path, size=28)
    save_normal_images(path, IMAGES)
    with pytest.raises(RunError) as caught:
        load_normal_images(path, size=64)
    assert str(caught.value) == (
        f"{path} is damaged: it must hold 1 to 8 images of 64 px. Received: uint8 (3, 28, 28). Train again."
    )
