import numpy as np
import pytest

from pneumo_keras.errors import DataError
from pneumo_keras.training.cross_validation import group_images, sample_folds

LABELS = np.repeat([0, 1], [60, 140])
HASHES = np.random.default_rng(0).permutation(200).astype(np.uint64)
NOBODY = [""] * 200


def test_every_image_is_held_out_once_with_its_class_in_proportion():
    folds = sample_folds(LABELS, HASHES, NOBODY, folds=5, seed=1)
    assert np.bincount(folds).tolist() == [40] * 5
    assert np.bincount(folds[LABELS == 0]).tolist() == [12] * 5


def test_images_with_the_same_pixels_stay_in_one_fold():
    hashes = HASHES.copy()
    hashes[100:150] = hashes[50:100]
    hashes[150:] = hashes[50]
    folds = sample_folds(LABELS, hashes, NOBODY, folds=5, seed=1)
    np.testing.assert_array_equal(folds[100:150], folds[50:100])
    assert set(folds[150:]) == {folds[50]}


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_two_folds(seed):
    drawn = np.random.default_rng(seed).integers(0, 60, 200)
    patients = [f"p{number}" if number else "" for number in drawn]
    folds = sample_folds(LABELS, HASHES, patients, folds=5, seed=seed)
    places = {(patient, fold) for patient, fold in zip(patients, folds.tolist(), strict=True) if patient}
    assert len(places) == len(set(patients) - {""}) > 50
    assert all(len(set(LABELS[folds == fold])) == 2 for fold in range(5))


def test_a_group_is_all_that_patients_and_pixels_connect():
    patients = ["a", "b", "b", "c", "", "", "a"]
    hashes = np.array([1, 1, 2, 3, 3, 4, 5], np.uint64)
    groups = group_images(hashes, patients)
    assert groups.tolist() == [groups[0]] * 3 + [groups[3]] * 2 + [groups[5], groups[0]]
    assert len(set(groups.tolist())) == 3


def test_images_of_unknown_patients_stand_each_for_itself():
    assert len(set(group_images(HASHES, NOBODY).tolist())) == 200
    assert len(set(group_images(HASHES[:2], ["", "image 0"]).tolist())) == 2


def test_the_same_seed_draws_the_same_folds():
    first, second, other = (sample_folds(LABELS, HASHES, NOBODY, folds=5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("patients", "received"),
    [
        (NOBODY, "2 among 2 images of normal"),
        (["a"] * 60 + ["b"] * 70 + ["c"] * 70, "1 among 2 images of normal"),
        ([*("",) * 60, *("b",) * 140], "2 among 2 images of normal"),
    ],
)
def test_too_few_patients_get_one_line(patients, received):
    with pytest.raises(DataError) as caught:
        sample_folds(LABELS[58:], HASHES[58:], patients[58:], folds=5, seed=1)
    assert str(caught.value) == (
        f"5 folds need as many patients, or images of unknown patients, of each class. Received: {received}."
    )
