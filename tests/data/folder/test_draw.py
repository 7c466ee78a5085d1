from pathlib import Path

import numpy as np
import pytest

from pneumo_keras.arrays import SPLITS
from pneumo_keras.data.folder.files import ImageFile, draw_splits
from pneumo_keras.errors import DataError
from tests.images import ImageArray, load, load_phantom_splits, write_images

N = 200
LABELS = (np.arange(N) % 4 > 0).astype(np.int64)
NAMES = [f"{index:04}.png" for index in range(N)]
NOBODY = [""] * N
TEST_ROWS = (
    "2 12 38 40 43 61 63 66 72 73 74 80 83 90 96 101 102 108 117 123 143 151 154 155 169 170 177 179 182 195"
)


def draw(names=NAMES, labels=LABELS, patients=NOBODY, splits=SPLITS):
    """By split the rows of its images."""
    files = [
        ImageFile(Path(name), name, str(label), patient=patient)
        for name, label, patient in zip(names, labels, patients, strict=True)
    ]
    drawn = draw_splits(files, splits, positive="1", source="images")
    rows = {name: row for row, name in enumerate(names)}
    return {split: [rows[file.name] for file in chosen] for split, chosen in drawn.items()}


def to_splits(drawn, names=NAMES):
    return {names[row]: split for split, rows in drawn.items() for row in rows}


def test_every_image_is_drawn_once_and_a_split_has_about_a_tenth_of_each_class():
    n = 20_000
    names, labels = [f"{index}.png" for index in range(n)], (np.arange(n) % 4 > 0).astype(np.int64)
    drawn = draw(names, labels, [""] * n)
    assert sorted(row for rows in drawn.values() for row in rows) == list(range(n))
    assert all(rows == sorted(rows) for rows in drawn.values())
    for split, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert len(drawn[split]) / n == pytest.approx(share, abs=0.01)
        assert labels[drawn[split]].mean() == pytest.approx(0.75, abs=0.03)


def test_the_draw_depends_on_names_alone():
    order = np.random.default_rng(0).permutation(N)
    again = draw([NAMES[row] for row in order], LABELS[order])
    assert to_splits(again, [NAMES[row] for row in order]) == to_splits(draw())


@pytest.mark.parametrize("patients", [NOBODY, [f"p{index // 5}" for index in range(N)]])
def test_images_that_come_and_go_move_no_other_image(patients):
    before = to_splits(draw(patients=patients))
    new = [f"new {index}.png" for index in range(10)]
    grown = draw([*new, *NAMES], np.append([0] * 10, LABELS), ["p3"] * 10 + patients)
    after = to_splits(grown, [*new, *NAMES])
    assert {name: after[name] for name in NAMES} == before
    kept = to_splits(draw(NAMES[20:], LABELS[20:], patients[20:]), NAMES[20:])
    assert kept == {name: before[name] for name in NAMES[20:]}


def test_what_is_drawn_stays_so_from_one_version_to_the_next():
    assert " ".join(map(str, draw()["test"])) == TEST_ROWS


def test_a_patient_is_in_one_split():
    patients = [f"p{index // 5}" for index in range(N)]
    drawn = draw(patients=patients)
    splits_of = {patient: set() for patient in patients}
    for split, rows in drawn.items():
        for row in rows:
            splits_of[patients[row]].add(split)
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert len({split for splits in splits_of.values() for split in splits}) == 3


def test_images_of_unknown_patients_are_drawn_one_by_one():
    patients = ["p"] * 50 + [""] * 150
    drawn = draw(patients=patients)
    assert sum(bool({0, 49} & set(rows)) for rows in drawn.values()) == 1
    assert len({split for split, rows in drawn.items() if max(rows) > 50}) == 3


def test_a_patient_is_no_image_of_that_name():
    assert to_splits(draw(patients=NAMES)) != to_splits(draw())


def test_two_splits_leave_about_nine_tenths():
    drawn = draw(splits=("train", "val"))
    assert set(drawn) == {"train", "val"}
    assert drawn["val"] == draw()["val"]
    assert len(drawn["train"]) == pytest.approx(180, abs=15)


@pytest.mark.parametrize("few", [1, 2])
def test_a_split_without_a_class_is_refused(few):
    labels = np.array([0] * few + [1] * 100)
    with pytest.raises(DataError) as caught:
        draw(NAMES[: len(labels)], labels, NOBODY[: len(labels)])
    assert str(caught.value) == (
        "images: about a tenth of the images, or patients, is drawn for each split, and each must "
        f"have some of both classes. Received: none of the other class for 'val', of {few}. State the splits "
        "(folders train, val and test, or the column split), or add images."
    )


def to_pixels(images):
    return {image.tobytes() for image in load(images).images}


def test_images_that_are_added_move_no_other_image(tmp_path, splits, open_data):
    path, more = tmp_path / "plain", load_phantom_splits((20, 2, 2), seed=3)["train"]
    write_images(path, splits["train"])
    before = {split: to_pixels(open_data(path).open_split(split)) for split in SPLITS}
    for label in (0, 1):
        some = ImageArray(more.images[more.labels == label], more.labels[more.labels == label])
        write_images(tmp_path / "more", some)
    for image in (tmp_path / "more").rglob("*.png"):
        image.rename(path / image.parent.name / f"{image.stem}a.png")
    after = {split: to_pixels(open_data(path).open_split(split)) for split in SPLITS}
    assert all(before[split] <= after[split] for split in SPLITS)
    assert sum(map(len, after.values())) == 50
