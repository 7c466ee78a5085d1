import pytest

from pneumo_keras.data.patients import SharedPatients, count_shared, find_new, find_shared
from pneumo_keras.data.sources import ImageNames

TRAIN = ImageNames(patients=("a", "b", "", "b"))
VAL = ImageNames(patients=("b", "c", "", "b", "d"))


def test_images_of_patients_who_stand_elsewhere_are_found_and_counted():
    assert find_shared(VAL, [TRAIN]).tolist() == [True, False, False, True, False]
    assert count_shared(VAL, [TRAIN]) == SharedPatients(patients=1, images=2, known=4)
    test = ImageNames(patients=("c", "a", "e"))
    assert find_shared(test, [TRAIN, VAL]).tolist() == [True, True, False]


def test_an_image_of_nobody_is_neither_shared_nor_of_a_new_patient():
    assert find_new(VAL, [TRAIN]).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (VAL, []),
        (VAL, [ImageNames()]),
        (ImageNames(), [TRAIN]),
        (VAL, [ImageNames(patients=("test-b",), numberings=frozenset({"test"}))]),
        (
            ImageNames(patients=("train-b",), numberings=frozenset({"train", "test"})),
            [ImageNames(patients=("test-b",), numberings=frozenset({"train", "test"}))],
        ),
    ],
)
def test_where_nothing_is_known_none_is_said(names, others):
    assert find_shared(names, others) is None
    assert find_new(names, others) is None
    assert count_shared(names, others) is None


def test_names_that_are_equal_are_one_patient_however_many_numberings_there_are():
    """As where the published splits were mixed: who is new then is not known."""
    names = ImageNames(patients=("train-b", "test-b"), numberings=frozenset({"train", "test"}))
    others = [ImageNames(patients=("train-b",), numberings=frozenset({"train"}))]
    shared = find_shared(names, others)
    assert shared is not None and shared.tolist() == [True, False]
    assert find_new(names, others) is None
