import numpy as np
import pytest

from pneumo_keras.arrays import SPLITS
from pneumo_keras.errors import DataError
from tests.images import load, write_images


@pytest.fixture
def write_table(tmp_path, splits):
    """Writes the images of a split as numbered files, and a CSV of what is stated of each."""
    path = tmp_path / "images" / "images.csv"
    write_images(path.parent, splits["train"], classes=("lungs", "lungs"))

    def write(*columns, encoding="utf-8", **values):
        n = len(splits["train"])
        stated = {
            "path": [f"lungs/{index:04}.png" for index in range(n)],
            "label": np.array(["NORMAL", "PNEUMONIA"])[splits["train"].labels],
            **values,
        }
        lines = [",".join(str(stated[column][index]) for column in columns) for index in range(n)]
        path.write_text("\n".join([",".join(columns), *lines]) + "\n", encoding=encoding)
        return path

    return write


def refuse(call, *arguments):
    with pytest.raises(DataError) as caught:
        call(*arguments)
    return str(caught.value)


def test_images_come_in_the_order_of_the_lines(write_table, splits, open_data):
    stated = np.array(SPLITS)[np.arange(30) % 3]
    data = open_data(write_table("path", "label", "split", split=stated))
    for index, split in enumerate(SPLITS):
        images = load(data.open_split(split))
        assert np.array_equal(images.images, splits["train"].images[index::3])
        assert np.array_equal(images.labels, splits["train"].labels[index::3])
    assert data.open_all is None


def test_further_columns_are_kept_and_empty_cells_are_missing(write_table, open_data):
    stated = np.array(SPLITS)[np.arange(30) % 3]
    ages = [" 3.5", "", "NaN", "unknown", "7"] * 6
    data = open_data(
        write_table("path", "age", "label", "split", "", split=stated, age=ages, **{"": ["x"] * 30})
    )
    assert data.name_images("val").columns == {"age": ("", "7", "", "3.5", "", "", "7", "", "3.5", "")}
    plain = open_data(write_table("path", "label"))
    assert plain.name_images(None).columns == plain.name_images("test").columns == {}


def test_a_table_without_splits_can_be_had_whole_and_drawn(write_table, splits, open_data):
    data = open_data(write_table("label", "path"))
    assert np.array_equal(load(data.open_all()).images, splits["train"].images)
    assert [len(data.open_split(split)) for split in SPLITS] == [21, 3, 6]


def test_the_draw_knows_images_by_their_names_and_not_by_their_lines(write_table, open_data):
    path = write_table("path", "label")
    before = load(open_data(path).open_split("test")).images
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert np.array_equal(load(open_data(path).open_split("test")).images, before[::-1])


def test_no_patient_is_in_two_drawn_splits(write_table, splits, open_data, tmp_path):
    patients = np.arange(30) // 2
    splits["train"].images[:, 0, 0] = patients  # so that images tell whose they are
    write_images(tmp_path / "images", splits["train"], classes=("lungs", "lungs"))
    names = [f"A{patient}" for patient in patients]  # of which every split gets some of both classes
    data = open_data(write_table("path", "label", "patient", patient=names))
    drawn = {split: set(load(data.open_split(split)).images[:, 0, 0].tolist()) for split in SPLITS}
    assert sum(map(len, drawn.values())) == len(set.union(*drawn.values())) == 15
    assert min(map(len, drawn.values())) > 0


def test_splits_are_known_by_any_of_their_names(write_table, splits, open_data):
    stated = ["Train", " valid", "TEST", "train", "dev ", "test", "TRAIN", "Validation", "Test", "train"] * 3
    data = open_data(write_table("path", "label", "split", split=stated))
    assert [len(data.open_split(split)) for split in SPLITS] == [12, 9, 9]


def test_a_patient_is_one_in_whatever_form_a_spreadsheet_wrote_the_number(write_table, open_data):
    spelt = [
        "12",
        "12.0",
        "00012",
        " 12 ",
        "12.",
        "nan",
        "NaN",
        "None",
        "#N/A",
        "NA",
        "<NA>",
        "",
        "0",
        "00",
        "1.5",
        "P012",
    ]
    patients = spelt + ["120"] * 14
    names = open_data(write_table("path", "label", "patient", patient=patients)).name_images(None)
    assert names.patients[:16] == ("12",) * 5 + ("",) * 7 + ("0", "0", "1.5", "P012")


def test_a_table_of_a_spreadsheet_is_read(write_table, open_data):
    assert len(open_data(write_table("path", "label", encoding="utf-8-sig")).open_all()) == 30


def test_labels_of_numbers_are_names(write_table, splits, open_data):
    path = write_table("path", "label", label=splits["train"].labels)
    assert np.array_equal(open_data(path, positive="1").open_all().labels, splits["train"].labels)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ": the first line must name the columns, path and label among them. Received: nothing."),
        (
            "file,label\n",
            ": the first line must name the columns, path and label among them. Received: file, label.",
        ),
        ("path,label\na.png,\n", ", line 2, must have a path and a label. Received: a.png."),
        (
            "path,label,split\na.png,x,holdout\n",
            ", line 2, must name a split, one of train, val, valid, validation, dev, test. "
            "Received: holdout. Without that column splits are drawn.",
        ),
        (
            "path,label,split\na.png,x\n",
            ", line 2, must name a split, one of train, val, valid, validation, dev, test. "
            "Received: nothing. Without that column splits are drawn.",
        ),
        (
            "path,label\na.png,x\na.png,y\n",
            ": every image must have one line. Received: a.png in two.",
        ),
    ],
)
def test_a_table_that_breaks_a_rule_gets_one_line(tmp_path, open_data, text, line):
    path = tmp_path / "images.csv"
    path.write_text(text)
    assert refuse(open_data, path) == f"{path}{line}"


def test_a_file_that_is_no_table_gets_one_line(tmp_path, open_data):
    path = tmp_path / "images.npz"
    path.write_bytes(b"PK\x03\x04\xff\xfe")
    assert refuse(open_data, path) == (
        f"{path} must be a CSV in UTF-8, or a folder of images. Received: 'utf-8' codec can't decode byte "
        '0xff in position 4: invalid start byte. An npz file needs data.source="pneumonia_mnist".'
    )


@pytest.mark.parametrize("spelt", ["b/../a.png", "link.png", "folder/a.png"])
def test_one_image_under_two_names_is_refused(tmp_path, open_data, spelt):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.png").touch()
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "folder").symlink_to(tmp_path)
    path = tmp_path / "images.csv"
    path.write_text(f"path,label,split\na.png,x,train\n{spelt},x,test\n")
    assert refuse(open_data, path) == (
        f"{path}: every image must have one line. Received: {spelt} in two, the first time as a.png."
    )


def test_an_image_that_is_not_there_is_named(write_table, open_data):
    path = write_table("path", "label")
    (path.parent / "lungs" / "0007.png").unlink()
    assert refuse(open_data(path).open_all) == (
        f"{path}: every image must be one that can be read. Received: 1 of 30 that cannot, first "
        "lungs/0007.png: No such file or directory. Repair or remove them."
    )


def test_files_and_patients_of_a_split_are_known_without_reading_an_image(
    write_table, open_data, decoded_files
):
    stated = np.array(SPLITS)[np.arange(30) % 3]
    patients = ["" if index < 3 else f"p{index // 6}" for index in range(30)]
    names = open_data(
        write_table("path", "label", "split", "patient", split=stated, patient=patients)
    ).name_images
    assert names("val").files == tuple(f"lungs/{index:04}.png" for index in range(1, 30, 3))
    assert names("val").patients == tuple(patients[1::3])
    assert open_data(write_table("path", "label")).name_images(None).patients is None
    assert not decoded_files
