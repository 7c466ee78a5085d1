import numpy as np
import pytest

from pneumo_keras.arrays import SPLITS
from pneumo_keras.data.folder.draw import draw_splits
from pneumo_keras.errors import DataError

N = 200
LABELS = (np.arange(N) % 4 > 0).astype(np.int64)
NAMES = [f"{index:04}.png" for index in range(N)]
NOBODY = [""] * N


def draw(names=NAMES, labels=LABELS, patients=NOBODY, splits=SPLITS):
    return draw_splits(names, labels, patients, splits=splits, place="films")


def test_every_film_is_drawn_once_and_shares_are_alike():
    drawn = draw()
    assert sorted(row for rows in drawn.values() for row in rows) == list(range(N))
    assert {split: len(rows) for split, rows in drawn.items()} == {"train": 160, "val": 20, "test": 20}
    assert {split: LABELS[rows].mean() for split, rows in drawn.items()} == dict.fromkeys(SPLITS, 0.75)
    assert drawn["test"] == sorted(drawn["test"]) != list(range(0, N, 10))


def test_the_draw_depends_on_names_alone():
    order = np.random.default_rng(0).permutation(N)
    before, after = draw(), draw([NAMES[row] for row in order], LABELS[order])
    assert {NAMES[row] for row in before["val"]} == {NAMES[order[row]] for row in after["val"]}


def test_a_patient_stands_in_one_split():
    patients = [f"p{index // 5}" for index in range(N)]
    drawn = draw(patients=patients)
    splits_of = {patient: set() for patient in patients}
    for split, rows in drawn.items():
        for row in rows:
            splits_of[patients[row]].add(split)
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert all(abs(LABELS[rows].mean() - 0.75) < 0.06 for rows in drawn.values())
    assert len(drawn["train"]) == pytest.approx(160, abs=10)


def test_films_of_nobody_are_drawn_each_for_itself():
    patients = ["p"] * 50 + [""] * 150
    drawn = draw(patients=patients)
    assert sum(bool({0, 49} & set(rows)) for rows in drawn.values()) == 1
    assert len({split for split, rows in drawn.items() if max(rows) > 50}) == 3


def test_two_splits_leave_nine_tenths():
    assert {split: len(rows) for split, rows in draw(splits=("train", "val")).items()} == {
        "train": 180,
        "val": 20,
    }


@pytest.mark.parametrize("few", [0, 1, 2, 3, 5])
def test_few_films_of_a_class_are_drawn_as_far_as_they_reach(few):
    labels = np.array([0] * few + [1] * 40)
    names, patients = NAMES[: len(labels)], NOBODY[: len(labels)]
    if few < 3:
        with pytest.raises(DataError) as caught:
            draw(names, labels, patients)
        assert str(caught.value) == (
            "films: splits are drawn from at least 3 films, or patients, of each class. "
            f"Received: {few} of one. Add films, or state the splits."
        )
    else:
        assert all(0 < labels[rows].mean() < 1 for rows in draw(names, labels, patients).values())
