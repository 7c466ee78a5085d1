from pathlib import Path

import pytest

from pneumo_keras.arrays import SPLITS
from pneumo_keras.data.folder.files import ImageFile, name_patients
from pneumo_keras.data.sources import KERMANY, NOBODY


def name(*paths, pattern=KERMANY, patients=None):
    stated = patients or [""] * len(paths)
    files = [ImageFile(Path(path), path, "x", patient=one) for path, one in zip(paths, stated, strict=True)]
    return [(file.patient, file.numbering) for file in name_patients(files, pattern, source="clinic")]


@pytest.mark.parametrize(
    ("file", "patient"),
    [
        ("person123_bacteria_45.jpeg", "person123"),
        ("person123_virus_45.jpeg", "person123"),
        ("person447_virus_921_1.jpeg", "person447"),
        ("IM-0123-0001.jpeg", "IM-0123"),
        ("IM-0123-0001-0002.png", "IM-0123"),
        ("NORMAL2-IM-0123-0001.jpeg", "NORMAL2-IM-0123"),
        ("NORMAL2-IM-0123-0001-0002.jpeg", "NORMAL2-IM-0123"),
        ("person123.jpeg", ""),
        ("person_bacteria_1.jpeg", ""),
        ("my-IM-0123-0001.jpeg", ""),
        ("IM-0123.jpeg", ""),
        ("0001.png", ""),
    ],
)
def test_names_of_kermany_tell_the_patient(file, patient):
    assert name(f"NORMAL/{file}") == [(patient, "")]


def test_test_images_of_kermany_have_several_numberings():
    file = "person1_virus_6.jpeg"
    folders = ("train/P", "chest/VAL/P", "test/P", "a/train/test/P", "P")
    told = [name(f"{folder}/{file}")[0] for folder in folders]
    train, test = ("train-person1", "train"), ("test-person1", "test")
    assert told == [train, train, test, test, ("person1", "")]


def test_it_is_said_how_many_patients_were_found_by_their_names(caplog):
    caplog.set_level("INFO", "pneumo_keras")
    name("P/person1_virus_6.jpeg", "P/person1_virus_7.jpeg", "P/person2_virus_8.jpeg", "P/other.png")
    name("P/17_a.png", "P/17_b.png", "P/18_a.png", pattern=r"^(\d+)_")
    name("P/a.png", "P/b.png")
    name("P/a.png", "P/b.png", pattern=r"^(\d+)_")
    told = "have the patient in their names (data.patient_pattern is"
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", f"clinic: 3 of 4 files {told} kermany): 2 patients"),
        ("INFO", f"clinic: 3 of 3 files {told} ^(\\d+)_): 2 patients"),
        ("WARNING", f"clinic: 0 of 2 files {told} ^(\\d+)_): 0 patients"),
    ]


def test_names_that_every_folder_has_are_those_of_no_patient(caplog):
    assert name("P/a/IM-0001-0001.dcm", "P/b/IM-0001-0001.dcm", "P/b/IM-0001-0002.dcm") == [("", "")] * 3
    assert caplog.messages == [
        "clinic: files are named like those of Kermany et al., but 1 of those names are in several "
        "folders, first IM-0001-0001.dcm: no patients are taken from them. "
        "A CSV with the column patient can state the patients"
    ]


@pytest.mark.parametrize("pattern", [r"^(\d+)_", r"^(?P<patient>\d+)_(a|b)", r"(?:^|-)(\d+)_"])
def test_a_pattern_finds_the_patient_in_the_name_of_the_file(pattern):
    paths = ("P/17_a.png", "12_x/0017_b.png", "P/x.png", "P/person1_virus_6.jpeg")
    assert name(*paths, pattern=pattern) == [("17", ""), ("17", ""), ("", ""), ("", "")]


def test_a_group_that_takes_no_part_tells_nobody():
    assert name("P/17_a.png", "P/_a.png", pattern=r"^(\d+)?_") == [("17", ""), ("", "")]


def test_no_pattern_takes_no_patients_from_names():
    assert name("P/person1_virus_6.jpeg", pattern=NOBODY) == [("", "")]


@pytest.mark.parametrize("pattern", [KERMANY, r"person(\d)"])
def test_patients_of_a_table_win_over_names(pattern):
    paths = ("P/person1_virus_6.jpeg", "P/person2_virus_7.jpeg")
    assert name(*paths, pattern=pattern, patients=["a", ""]) == [("a", ""), ("", "")]


@pytest.mark.parametrize(("pattern", "called"), [(KERMANY, "person{}_virus_{}"), (r"^([^-]+)-", "{}-{}")])
def test_splits_that_are_drawn_keep_patients_of_names_apart(tmp_path, open_data, pattern, called):
    for number in range(200):
        image = tmp_path / ("NORMAL", "PNEUMONIA")[number % 2] / f"{called.format(number // 4, number)}.png"
        image.parent.mkdir(exist_ok=True)
        image.touch()  # nobody reads it
    data = open_data(tmp_path, patient_pattern=pattern)
    drawn = {split: data.name_images(split) for split in SPLITS}
    patients = {split: set(names.patients) for split, names in drawn.items()}
    assert sum(len(names.files) for names in drawn.values()) == 200
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 50
    assert min(map(len, patients.values())) > 0
