import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pneumo_keras.arrays import SPLITS
from pneumo_keras.data import folder as source
from pneumo_keras.data.folder import DECODING
from pneumo_keras.data.images import count_classes
from pneumo_keras.data.pneumonia_mnist.archive import NpzFile, save_archive
from pneumo_keras.data.pneumonia_mnist.prepared import load_prepared
from pneumo_keras.errors import DataError
from tests.conftest import SHARED
from tests.images import ImageArray, load, sort_by_class, write_images, write_splits
from tests.imports import find_used


def refuse(call, *arguments, **options):
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def test_images_of_the_right_size_come_back_as_they_were(images, splits, open_data):
    data = open_data(images)
    for split in SPLITS:
        opened, expected = load(data.open_split(split)), sort_by_class(splits[split])
        assert np.array_equal(opened.images, expected.images)
        assert np.array_equal(opened.labels, expected.labels)
    assert data.open_all is None


def test_a_folder_and_an_archive_of_the_same_images_have_the_same_fingerprints(
    tmp_path, images, splits, open_data
):
    ordered = {split: sort_by_class(one) for split, one in splits.items()}
    save_archive(tmp_path / "images.npz", ordered)
    npz = NpzFile(tmp_path / "images.npz", "", "a" * 64)
    for split in SPLITS:
        archived = load_prepared(npz, split, size=28, cache=tmp_path / "cache")
        assert open_data(images).open_split(split).fingerprint() == archived.fingerprint()


def test_only_the_images_of_the_split_that_is_asked_for_are_decoded(images, open_data, decoded_files):
    data = open_data(images)
    assert decoded_files == []
    data.open_split("train")
    data.open_split("val")
    assert len(decoded_files) == 42
    assert not [path for path in decoded_files if str(images / "test") in path]
    data.open_split("test")
    assert len(decoded_files) == 56


def test_the_test_images_are_not_even_listed_before(images, open_data):
    shutil.copytree(images / "test" / "NORMAL", images / "test" / "OTHER")
    data = open_data(images)
    data.open_split("train"), data.open_split("val")
    assert refuse(data.open_split, "test") == (
        f"{images}: split 'test' must have images of two classes, in folders with their names or in "
        "the column "
        "label. Received: NORMAL (4), OTHER (4), PNEUMONIA (10). Keep two, and name the one that is "
        "pneumonia with data.positive."
    )


@pytest.mark.parametrize(("kept", "label"), [("NORMAL", 0), ("PNEUMONIA", 1)])
def test_images_that_are_only_evaluated_may_be_of_one_class(images, open_data, kept, label):
    (lost,) = {"NORMAL", "PNEUMONIA"} - {kept}
    for split in ("val", "test"):
        shutil.rmtree(images / split / lost)
    data = open_data(images)
    assert set(data.open_split("test").labels.tolist()) == {label}
    assert "must have images of two classes" in refuse(data.open_split, "val")


def test_one_class_whose_meaning_nobody_knows_is_asked_for(images, open_data):
    shutil.rmtree(images / "test" / "NORMAL")
    (images / "test" / "PNEUMONIA").rename(images / "test" / "infiltrate")
    assert refuse(open_data(images).open_split, "test") == (
        f"{images}: split 'test' has images of one class, which must be the one that data.positive names, "
        "PNEUMONIA, or be named NORMAL. Received: infiltrate (10). Name it with --positive if it is "
        "pneumonia, or rename it to NORMAL."
    )


def test_images_are_prepared_once(images, open_data, decoded_files, tmp_path):
    first = open_data(images).open_split("val")
    again = open_data(images).open_split("val")
    assert (again.array, again.fingerprint()) == (first.array, first.fingerprint())
    assert len(decoded_files) == 12
    (left,) = (tmp_path / "cache" / "datasets").glob("*.npy")
    assert left == first.array.file and left.name.startswith("folder-28-") and left.name.endswith("-val.npy")


@pytest.mark.parametrize("change", ["time", "bytes", "name", "class", "new"])
def test_an_image_that_changes_is_prepared_again(images, open_data, change):
    before = open_data(images).open_split("val").array.file
    image = next((images / "val" / "NORMAL").iterdir())
    match change:
        case "time":
            os.utime(image, ns=(image.stat().st_atime_ns, image.stat().st_mtime_ns + 1))
        case "bytes":
            times = image.stat().st_atime_ns, image.stat().st_mtime_ns
            image.write_bytes(image.read_bytes() + b"\0")
            os.utime(image, ns=times)
        case "name":
            image.rename(image.with_name("z.png"))
        case "class":
            image.rename(images / "val" / "PNEUMONIA" / "z.png")
        case "new":
            shutil.copy(image, image.with_name("z.png"))
    assert open_data(images).open_split("val").array.file != before
    assert len(list(before.parent.glob("folder-*.npy"))) == 2


def test_a_copy_with_the_same_times_is_another_set_of_images(images, open_data, tmp_path):
    shutil.copytree(images, tmp_path / "copy")
    first, other = open_data(images).open_split("val"), open_data(tmp_path / "copy").open_split("val")
    assert first.array.file != other.array.file
    assert first.fingerprint() == other.fingerprint()


def test_larger_images_are_cut_and_brought_to_the_size(tmp_path, open_data):
    arrays = np.zeros((4, 40, 80), np.uint8)
    arrays[:, :, 20:60] = 200  # the square in the middle
    write_images(tmp_path / "wide" / "val", ImageArray(arrays, np.array([0, 1, 0, 1])))
    images = load(open_data(tmp_path / "wide", size=64).open_split("val"))
    assert images.images.shape == (4, 64, 64)
    assert (images.images == 200).all()


@pytest.mark.parametrize(
    "names",
    [
        {"val": "valid"},
        {"val": "validation"},
        {"val": "dev"},
        {"train": "Train", "val": "VALID", "test": "TEST"},
    ],
)
def test_splits_are_known_by_any_of_their_names(images, splits, open_data, names, caplog):
    for name, other in names.items():
        (images / name).rename(images / other)
    data = open_data(images)
    for split in SPLITS:
        assert np.array_equal(load(data.open_split(split)).images, sort_by_class(splits[split]).images)
    assert data.name_images("val").files[0].startswith(f"{names['val']}/")
    assert not caplog.messages


@pytest.mark.parametrize(("first", "second"), [("val", "valid"), ("Test", "test"), ("TRAIN", "train")])
def test_two_folders_for_one_split_are_refused(tmp_path, open_data, first, second):
    for name in (first, second):
        (tmp_path / "clinic" / name).mkdir(parents=True)
    split = "val" if first == "val" else second
    assert refuse(open_data, tmp_path / "clinic") == (
        f"{tmp_path}/clinic: a split must be one folder. Received: {first} and {second} for '{split}'. "
        "Rename one of them, or put their images together."
    )


def test_what_is_in_no_folder_of_a_split_or_class_is_named(images, open_data, caplog):
    for beside in ("holdout", "__MACOSX", ".cache", "train/__MACOSX"):
        (images / beside).mkdir()
    image = next((images / "train" / "NORMAL").iterdir())
    for name in ("loose.PNG", ".hidden.png", "train/b.dcm", "train/NORMAL/._a.png"):
        shutil.copy(image, images / name)
    shutil.copy(image, images / "train" / "__MACOSX" / "a.png")
    (images / "notes.txt").write_text("of other kinds")
    (images / "images.csv").touch()
    data = open_data(images)
    assert len(data.open_split("train")) == 30
    said = "ignored, since it is in no folder of a split or class"
    assert caplog.messages == [f"{images}: {said}: holdout/, loose.PNG", f"{images}/train: {said}: b.dcm"]


def test_of_much_that_is_ignored_the_first_names_are_said(tmp_path, splits, open_data, caplog):
    write_images(tmp_path / "plain", splits["train"])
    for number in range(8):
        shutil.copy(next((tmp_path / "plain" / "NORMAL").iterdir()), tmp_path / "plain" / f"{number}.png")
    open_data(tmp_path / "plain").name_images(None)
    assert caplog.messages == [
        f"{tmp_path}/plain: ignored, since it is in no folder of a split or class: 0.png, "
        "1.png, 2.png, 3.png, 4.png and 3 more"
    ]


def test_names_of_classes_are_free(tmp_path, splits, open_data):
    path = tmp_path / "free"
    write_images(path / "val", splits["val"], classes=("without", "with infiltrate"))
    images = open_data(path, positive="with infiltrate").open_split("val")
    assert count_classes(images.labels) == count_classes(splits["val"].labels)
    turned = open_data(path, positive="without").open_split("val")
    assert count_classes(turned.labels) == count_classes(splits["val"].labels)[::-1]
    assert turned.array.file != images.array.file
    assert refuse(open_data(path).open_split, "val") == (
        f"{path}: split 'val' must have the class that data.positive names, PNEUMONIA. Received: with "
        "infiltrate (10), without (2). Set data.positive, or --positive of eval, to the one that is "
        "pneumonia."
    )


def test_other_classes_than_two_are_listed(images, open_data):
    (images / "val" / "COVID").mkdir()
    assert len(open_data(images).open_split("val")) == 12  # an empty folder is no class
    shutil.copy(next((images / "val" / "NORMAL").iterdir()), images / "val" / "COVID")
    assert refuse(open_data(images).open_split, "val").endswith(
        "Received: COVID (1), NORMAL (2), PNEUMONIA (10). Keep two, and name the one that is pneumonia with "
        "data.positive."
    )


def test_hidden_files_are_not_looked_at(images, splits, open_data):
    (images / ".DS_Store").touch()
    (images / "train" / "NORMAL" / ".DS_Store").touch()
    (images / "train" / ".cache").mkdir()
    (images / "train" / ".cache" / "a.png").touch()
    assert len(open_data(images).open_split("train")) == 30


def test_without_splits_they_are_drawn_and_the_images_can_be_had_whole(tmp_path, splits, open_data, caplog):
    caplog.set_level("INFO", "pneumo_keras")
    path = tmp_path / "plain"
    write_images(path, splits["train"])
    data = open_data(path)
    drawn = {split: load(data.open_split(split)) for split in SPLITS}
    assert {split: len(images) for split, images in drawn.items()} == {"train": 25, "val": 2, "test": 3}
    whole = load(data.open_all())
    assert np.array_equal(whole.images, sort_by_class(splits["train"]).images)
    pixels = [image.tobytes() for images in drawn.values() for image in images.images]
    assert sorted(pixels) == sorted(image.tobytes() for image in whole.images)
    assert all(0 < images.labels.mean() < 1 for images in drawn.values())
    assert caplog.messages == [
        "The images are plain, 28 px",
        f"{path} states no splits: 25 train, 2 val, 3 test images were drawn, the same every time, whatever "
        "the seed",
    ]


def test_without_validation_images_a_tenth_of_the_training_images_becomes_some(
    images, splits, open_data, caplog
):
    shutil.rmtree(images / "val")
    caplog.set_level("INFO", "pneumo_keras")
    data = open_data(images)
    train, val, test = (load(data.open_split(split)) for split in SPLITS)
    assert (len(train), len(val), len(test)) == (26, 4, 14)
    both = [image.tobytes() for image in (*train.images, *val.images)]
    assert sorted(both) == sorted(image.tobytes() for image in splits["train"].images)
    assert caplog.messages[1:] == [
        f"{images} states no validation images: 26 train, 4 val images were drawn, the same every time, "
        "whatever the seed"
    ]


def test_a_split_that_is_not_there_is_named(tmp_path, splits, open_data):
    write_splits(tmp_path / "half", {split: splits[split] for split in ("train", "val")})
    data = open_data(tmp_path / "half")
    assert refuse(data.open_split, "test") == (
        f"{tmp_path}/half: there must be a split 'test'. Received: train, val. Add it, or state no splits to "
        "have them drawn."
    )


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_a_path_without_images_gets_one_line(tmp_path, open_data, place):
    (tmp_path / "empty").mkdir()
    expected = {
        "nowhere": f"data.path must name a folder of images, or a CSV, that can be read. Received: "
        f"{tmp_path}/nowhere (No such file or directory).",
        "empty": f"{tmp_path}/empty must have images of two classes, in folders with their names or in the "
        "column label. Received: no images. Keep two, and name the one that is pneumonia with data.positive.",
    }
    assert refuse(lambda: open_data(tmp_path / place).open_split("train")) == expected[place]


def test_a_folder_that_cannot_be_listed_gets_one_line(images, open_data, monkeypatch):
    data = open_data(images)

    def refuse_to_list(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse_to_list)
    assert refuse(data.open_split, "train") == (
        f"data.path must name a folder of images, or a CSV, that can be read. Received: {images} (Permission "
        "denied)."
    )


def test_files_of_other_kinds_are_ignored_with_a_warning(images, open_data, caplog):
    whole = open_data(images).open_split("train").fingerprint()
    (images / "train" / "NORMAL" / "notes.txt").write_text("Ask Anna")
    (images / "train" / "PNEUMONIA" / "Thumbs.db").touch()
    caplog.clear()
    assert open_data(images).open_split("train").fingerprint() == whole
    said = [message for message in caplog.messages if "other kinds" in message]
    paths = f"{images}/train/NORMAL/notes.txt, {images}/train/PNEUMONIA/Thumbs.db"
    assert said == [f"2 files of other kinds ignored: {paths}"]


def test_broken_images_stop_the_preparation_with_one_line(images, open_data, tmp_path):
    (images / "train" / "NORMAL" / "a.jpg").write_text("no image")
    (images / "train" / "PNEUMONIA" / "b.png").touch()
    assert refuse(open_data(images).open_split, "train") == (
        f"{images}: split 'train': every image must be one that can be read. Received: 2 of 32 that cannot, "
        "first train/NORMAL/a.jpg: it is not a PNG, JPEG, TIFF, BMP, WebP or DICOM file, or a damaged "
        "one. Repair "
        "or remove them."
    )
    assert not list((tmp_path / "cache" / "datasets").glob("*.npy"))
    for path in ("NORMAL/a.jpg", "PNEUMONIA/b.png"):
        (images / "train" / path).unlink()
    assert len(open_data(images).open_split("train")) == 30


def test_the_card_speaks_of_these_images_alone(images, open_data):
    card = open_data(images).card
    assert card.title == "clinic, 28 px"
    assert card.description == "The user's own images, clinic. What they show is unknown."
    assert (card.notice, card.licence, card.citation, card.synthetic) == ("", "", "", False)
    assert (card.medmnist_name, card.files) == (None, {})
    said = " ".join((card.description, *card.limits))
    assert "children" not in said and "MNIST" not in said and str(images.parent) not in said


def test_the_card_of_a_table_has_its_checksum(images, open_data):
    table = images / "images.csv"
    table.write_text("path,label\nval/NORMAL/0002.png,NORMAL\n")
    card = open_data(table).card
    assert card.title == "images.csv, 28 px"
    assert card.files == {"images.csv": hashlib.sha256(table.read_bytes()).hexdigest()}


def test_opening_a_folder_imports_neither_tfds_nor_scikit_learn(images, tmp_path):
    code = (
        "import sys, pathlib\n"
        "from pneumo_keras.data.folder import open_images\n"
        "from pneumo_keras.data.sources import DataOptions\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "open_images(DataOptions(path, 28, (2, 2, 2), path))\n"
        "print(sorted({'tensorflow_datasets', 'sklearn', 'keras', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, images], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.real_data
def test_real_images_written_as_png_are_those_of_the_archive(tmp_path, open_data):
    raw = np.load(SHARED / "data" / "pneumoniamnist.npz")
    real = ImageArray(raw["val_images"][:300], raw["val_labels"][:300, 0].astype(np.int64))
    write_images(tmp_path / "real" / "val", real)
    images = load(open_data(tmp_path / "real").open_split("val"))
    assert np.array_equal(images.images, sort_by_class(real).images)
    assert np.array_equal(images.labels, sort_by_class(real).labels)


OTHERS = {"arrays", "errors", "data.images", "data.sources", "data.folder.files"}
"""Modules that those which make pixels of files import, and that change none of them; with all of storage."""


def test_all_that_makes_pixels_of_files_is_listed():
    """Whoever lets a listed module import another one says here or there what that one does."""
    used = find_used(["data.folder.decoded"], OTHERS)
    assert {name for name in used if not name.startswith(("storage.", "runtime."))} == set(DECODING)


def test_images_are_decoded_anew_by_other_code(images, open_data, decoded_files, monkeypatch):
    n = len(load(open_data(images).open_split("train")).labels)
    load(open_data(images).open_split("train"))
    assert len(decoded_files) == n
    monkeypatch.setattr(source, "fingerprint_code", lambda modules: "other code")
    load(open_data(images).open_split("train"))
    assert len(decoded_files) == 2 * n
