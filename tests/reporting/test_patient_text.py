from pneumo_keras.data.sources import ImageNames
from pneumo_keras.reporting.evaluation_text import describe_sharing

TRAIN = ImageNames(patients=("a", "b", "b"))
VAL = ImageNames(patients=("b", "c", "", "b"))


def test_images_of_patients_who_stand_elsewhere_are_counted():
    assert describe_sharing("val", VAL, {"train": TRAIN}) == (
        "2 of 4 validation images (50.0 %) show a patient whom the training images show, too: "
        "metrics on them are optimistically biased."
    )
    both = describe_sharing("test", TRAIN, {"train": TRAIN, "val": VAL})
    assert both.startswith(
        "3 of 3 test images (100.0 %) show a patient whom the training images and validation"
    )


def test_patients_who_stand_apart_are_said_to():
    assert describe_sharing("val", ImageNames(patients=("", "c")), {"train": TRAIN}) == (
        "Of the 1 validation images whose patient is known, none shows a patient who is known among the "
        "training images."
    )


def test_patients_who_have_several_numberings_are_said_to_be_unknown():
    other = ImageNames(patients=("test-a",), numberings=frozenset({"test"}))
    assert describe_sharing("test", other, {"train": TRAIN, "val": VAL}) == (
        "Patients of the test images are numbered separately: whether the training images and validation "
        "images show them, too, is unknown."
    )


def test_patients_who_are_shared_in_one_of_several_numberings_are_the_least_that_there_are():
    mixed = ImageNames(patients=("test-a", "b"), numberings=frozenset({"test", ""}))
    assert describe_sharing("val", mixed, {"train": TRAIN}).startswith(
        "At least 1 of 2 validation images (50.0 %) show"
    )


def test_nothing_is_said_where_nothing_is_known():
    assert describe_sharing("train", TRAIN, {}) == ""
    assert describe_sharing("val", ImageNames(), {"train": TRAIN}) == ""
    assert describe_sharing("val", VAL, {"train": ImageNames()}) == ""
