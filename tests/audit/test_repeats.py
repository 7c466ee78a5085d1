import numpy as np

from pneumo_keras.audit.audit import audit_images
from pneumo_keras.audit.repeats import Identical
from pneumo_keras.audit.traces import Place
from pneumo_keras.data.images import ImageArray
from tests.audit.noise import put


def test_repeats_count_beyond_the_first_and_shared_images_count_once(clean):
    image = clean["train"].images[0].copy()
    for target in [("train", 1), ("train", 2), ("val", 5), ("val", 6)]:
        put(clean, target, image, 0)
    identical = audit_images(clean).identical
    assert identical == Identical(
        groups=[
            [Place(*place, 0) for place in (("train", 0), ("train", 1), ("train", 2), ("val", 5), ("val", 6))]
        ],
        repeats={"train": 2, "val": 1, "test": 0},
        shared={"train/val": 1, "train/test": 0, "val/test": 0},
        conflicts=0,
    )


def test_conflicting_labels_are_found_and_stand_first(clean):
    put(clean, ("val", 1), clean["train"].images[0], 0)
    put(clean, ("val", 3), clean["train"].images[9], 1)
    audit = audit_images(clean)
    assert audit.identical.conflicts == 1
    assert audit.identical.groups[0] == [Place("train", 9, 0), Place("val", 3, 1)]


def test_images_of_another_shape_are_not_identical():
    zeros = np.zeros((2, 14, 56), np.uint8)
    images = {
        "train": ImageArray(zeros[:1], np.zeros(1, np.int64)),
        "val": ImageArray(zeros.reshape(2, 28, 28), np.arange(2)),
    }
    assert audit_images(images).identical.shared == {"train/val": 0}
