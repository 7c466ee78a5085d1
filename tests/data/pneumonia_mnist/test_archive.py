import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from pneumo_keras.arrays import SPLITS
from pneumo_keras.data.pneumonia_mnist import archive as module
from pneumo_keras.data.pneumonia_mnist.archive import open_archive, save_archive
from pneumo_keras.errors import DataError
from tests.images import ImageArray, load_archive

NEXT_STEP = "Correct the file, or leave data.path unset to use the official one."
KEYS = "train_images, train_labels, val_images, val_labels, test_images, test_labels"


def load(path, size=28):
    return {split: load_archive(path, split, size=size) for split in SPLITS}


def refuse(path, size=28):
    with pytest.raises(DataError) as error:
        load(path, size)
    message = str(error.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_images_and_labels_keep_the_order_of_the_file(write_npz):
    path = write_npz()
    images = load(path)
    raw = np.load(path)
    assert list(images) == ["train", "val", "test"]
    for split in images:
        assert np.array_equal(images[split].images, raw[f"{split}_images"])
        assert images[split].images.dtype == np.uint8
        assert images[split].labels.tolist() == raw[f"{split}_labels"][:, 0].tolist()
        assert images[split].labels.dtype == np.int64


def test_flat_labels_are_as_good(write_npz):
    path = write_npz(val_labels=np.array([0, 1, 1, 0, 1, 1], np.int32))
    assert load(path)["val"].labels.tolist() == [0, 1, 1, 0, 1, 1]


def test_colour_becomes_grey_by_itu_r_601(write_npz):
    images = np.zeros((6, 28, 28, 3), np.uint8)
    images[0], images[1], images[2], images[3] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255,) * 3
    grey = load(write_npz(val_images=images))["val"].images
    assert grey.shape == (6, 28, 28)
    # 0.299, 0.587 and 0.114 of 255
    assert [int(image[5, 5]) for image in grey] == [76, 150, 29, 255, 0, 0]


def test_a_missing_array_is_named(write_npz):
    path = write_npz(val_labels=None, test_images=None)
    assert refuse(path) == (
        f"the file must contain the arrays {KEYS}. Received: train_images, train_labels, val_images, "
        f"test_labels; missing val_labels, test_images. {NEXT_STEP}"
    )


def test_a_foreign_archive_is_refused(tmp_path):
    path = tmp_path / "foreign.npz"
    np.savez(path, x=np.zeros(3))
    assert refuse(path) == (
        f"the file must contain the arrays {KEYS}. Received: x; missing {KEYS}. {NEXT_STEP}"
    )


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and then nothing", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "junk.npz"
    path.write_bytes(content)
    assert refuse(path) == (
        "the file must be an intact npz archive of plain arrays. Received: File is not a zip file. "
        f"{NEXT_STEP}"
    )


def test_a_truncated_archive_is_refused(write_npz):
    path = write_npz()
    path.write_bytes(path.read_bytes()[:-300])
    assert refuse(path) == (
        "the file must be an intact npz archive of plain arrays. Received: File is not a zip file. "
        f"{NEXT_STEP}"
    )


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (40, "File name in directory 'train_images.npy' and header "),
        (
            60,
            "train_images.npy is not a plain array: Error -3 while decompressing data: ",
        ),
        (2000, "Bad CRC-32 for file 'train_images.npy'."),
    ],
)
def test_a_damaged_archive_is_refused(write_npz, start, reason):
    path = write_npz()
    content = bytearray(path.read_bytes())
    content[start : start + 100] = bytes(100)
    path.write_bytes(content)
    message = refuse(path)
    assert message.startswith(f"the file must be an intact npz archive of plain arrays. Received: {reason}")
    assert message.endswith(f" {NEXT_STEP}")
    assert ".." not in message


def test_an_array_of_objects_is_never_unpickled(write_npz):
    path = write_npz(val_labels=np.array([0, 1, 1, 0, 1, None], object))
    assert refuse(path) == (
        "the file must be an intact npz archive of plain arrays. Received: val_labels.npy must be "
        f"a plain array of numbers. {NEXT_STEP}"
    )


def test_a_member_that_is_no_array_is_refused(write_npz):
    path = write_npz(val_images=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("val_images.npy", "a text, no array")
    assert refuse(path) == (
        "the file must be an intact npz archive of plain arrays. Received: val_images.npy is not a plain "
        f"array: the magic string is not correct; expected b'\\x93NUMPY', got b'a text'. {NEXT_STEP}"
    )


def test_images_must_be_bytes(write_npz):
    path = write_npz(test_images=np.zeros((8, 28, 28), np.float32))
    assert refuse(path) == f"the images of split 'test' must be uint8. Received: float32. {NEXT_STEP}"


@pytest.mark.parametrize("shape", [(12, 28, 30), (12, 28), (12, 28, 28, 4), (12, 28, 30, 3), ()])
def test_images_must_be_square(write_npz, shape):
    path = write_npz(train_images=np.zeros(shape, np.uint8))
    assert refuse(path) == (
        "the images of split 'train' must be square, (n, h, h) grey or (n, h, h, 3) colour. "
        f"Received: {shape}. {NEXT_STEP}"
    )


def test_a_split_must_have_images(write_npz):
    path = write_npz(val_images=np.zeros((0, 28, 28), np.uint8), val_labels=np.zeros((0, 1), np.uint8))
    assert refuse(path) == f"split 'val' must have images. Received: none. {NEXT_STEP}"


def test_labels_must_be_integers(write_npz):
    path = write_npz(val_labels=np.zeros((6, 1)))
    assert refuse(path) == (f"the labels of split 'val' must be integers. Received: float64. {NEXT_STEP}")


@pytest.mark.parametrize("shape", [(6, 2), (), (6, 1, 1)])
def test_labels_must_be_one_an_image(write_npz, shape):
    path = write_npz(val_labels=np.zeros(shape, np.uint8))
    assert refuse(path) == (
        f"the labels of split 'val' must be (n,) or (n, 1). Received: {shape}. {NEXT_STEP}"
    )


def test_images_and_labels_must_match(write_npz):
    path = write_npz(val_labels=np.array([0, 1, 1], np.uint8))
    assert refuse(path) == (
        f"split 'val' must have one label for each image. Received: 6 images, 3 labels. {NEXT_STEP}"
    )


def test_a_strange_label_is_named_with_its_split(write_npz):
    path = write_npz(val_labels=np.array([0, 1, 7, -1, 0, 1], np.int8))
    assert refuse(path) == (
        f"the labels of split 'val' must be 0 (normal) or 1 (pneumonia). Received: -1, 7. {NEXT_STEP}"
    )


def test_images_that_are_only_evaluated_may_be_of_one_class(write_npz):
    path = write_npz(test_labels=np.ones((8, 1), np.uint8))
    assert open_archive(path, "test", size=28).labels.tolist() == [1] * 8


@pytest.mark.parametrize("split", ["train", "val"])
def test_both_classes_must_be_there(write_npz, split):
    count = {"train": 12, "val": 6}[split]
    path = write_npz(**{f"{split}_labels": np.zeros((count, 1), np.uint8)})
    assert refuse(path) == (
        f"split '{split}' must have images of both classes. Received: {count} normal, 0 pneumonia. "
        f"{NEXT_STEP}"
    )


def test_images_of_another_size_name_the_setting(write_npz):
    assert refuse(write_npz(size=64)) == (
        "the images must be 28 px, as set in data.size. Received: 64 px. Set data.size to 64."
    )


def test_images_of_a_size_that_no_setting_takes_must_be_resized(write_npz):
    assert refuse(write_npz(size=32), size=64) == (
        "the images must be 64 px, as set in data.size. Received: 32 px. "
        "Resize the images to one of 28, 64, 128, 224 px."
    )


def test_no_image_is_read_before_it_is_asked_for(write_npz):
    path = write_npz()
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    images = open_archive(path, "train", size=28)
    assert len(images.labels) == 12
    with pytest.raises(DataError, match="Bad CRC-32"):
        list(images.iterate())


@pytest.mark.parametrize("shape", [(10**9, 28, 28), (11, 28, 28)])
def test_what_the_file_does_not_hold_is_never_allocated(write_npz, shape):
    path = write_npz(val_images=None)
    with zipfile.ZipFile(path, "a") as archive, archive.open("val_images.npy", "w") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(12 * 28 * 28))
    declared = np.prod(shape)
    assert refuse(path) == (
        "the file must be an intact npz archive of plain arrays. Received: val_images.npy declares "
        f"{declared:,} bytes and holds 9,408. {NEXT_STEP}"
    )


def test_images_are_read_in_small_parts_and_come_back_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 5 * 784)
    arrays = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
    images = ImageArray(arrays, np.arange(12) % 2)
    save_archive(tmp_path / "images.npz", dict.fromkeys(SPLITS, images))
    parts = list(open_archive(tmp_path / "images.npz", "val", size=28).iterate())
    assert [len(part) for part in parts] == [5, 5, 2]
    assert np.array_equal(np.concatenate(parts), arrays)


def test_images_in_the_order_of_fortran_are_as_good(write_npz):
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    path = write_npz(val_images=np.asfortranarray(images))
    assert np.array_equal(load(path)["val"].images, images)


def test_what_is_saved_is_what_numpy_reads(tmp_path):
    arrays = np.random.default_rng(0).integers(0, 256, (600, 28, 28), np.uint8)
    images = ImageArray(arrays, np.arange(600) % 2)
    save_archive(tmp_path / "images.npz", {"test": images})
    with np.load(tmp_path / "images.npz") as saved:
        assert saved.files == ["test_images", "test_labels"]
        assert np.array_equal(saved["test_images"], arrays)
        assert saved["test_labels"].dtype == np.uint8
        assert np.array_equal(saved["test_labels"], images.labels[:, None])


def test_labels_are_read_without_the_images(write_npz):
    path = write_npz()
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    assert len(open_archive(path, "train").labels) == 12


def test_only_the_asked_split_is_opened(write_npz):
    path = write_npz(test_images=np.zeros(3), test_labels=np.array(["no label"]))
    assert len(load_archive(path, "train", size=28)) == 12
    assert refuse(path).startswith("the images of split 'test' must be uint8.")


def write_member(path, name, shape, content, descr="|u1"):
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{name}.npy", "w") as file,
    ):
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in content:
            file.write(part)


def test_labels_of_another_kind_are_refused_in_little_memory(write_npz):
    path = write_npz(val_labels=None)
    write_member(path, "val_labels", (2**25, 1), [bytes(2**24)] * 16, descr="<f8")
    tracemalloc.start()
    try:
        assert refuse(path) == f"the labels of split 'val' must be integers. Received: float64. {NEXT_STEP}"
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_more_labels_than_images_are_refused_in_little_memory(write_npz):
    path = write_npz(val_labels=None)
    write_member(path, "val_labels", (2**25, 1), [bytes(2**24)] * 2)
    tracemalloc.start()
    try:
        assert "one label for each image" in refuse(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_an_archive_with_two_arrays_of_one_name_is_refused(write_npz):
    path = write_npz()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Duplicate name")
        write_member(path, "val_labels", (6, 1), [bytes([0, 1, 0, 1, 0, 1])])
    assert "holds 'val_labels.npy' more than once" in refuse(path)
