import gc
import hashlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from pneumo_keras.storage.kept import PREPARED

from pneumo_keras.data import builder, preparation
from pneumo_keras.data import prepared as prepared_module
from pneumo_keras.data.builder import ImageBuilder, to_png
from pneumo_keras.data.images import ImageArray, hash_labels
from pneumo_keras.data.pneumonia_mnist import archive, load_split
from pneumo_keras.data.pneumonia_mnist.npz_file import NpzFile
from pneumo_keras.errors import DataError
from tests.damage import mutate
from tests.images import load

KILLED = """
import os, sys
from pathlib import Path
from pneumo_keras.data import builder, preparation
from pneumo_keras.data.pneumonia_mnist import load_split, npz_file
images = []
def die_at_the_fifth(image):
    images.append(image)
    return os._exit(9) if len(images) == 5 else to_png(image)
to_png, builder.to_png = builder.to_png, die_at_the_fifth
npz = npz_file.NpzFile(Path(sys.argv[1]), "", "a" * 64, False)
load_split(npz, "train", size=28, cache=Path(sys.argv[2]))
"""


@pytest.fixture
def npz(write_npz):
    path = write_npz()
    return NpzFile(path, "", hashlib.sha256(path.read_bytes()).hexdigest(), is_official=False)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def prepared(npz, cache):
    return load_split(npz, "train", size=28, cache=cache)


def test_images_come_back_as_they_were(npz, cache):
    raw = np.load(npz.path)
    for split in ("train", "val", "test"):
        images = load(load_split(npz, split, size=28, cache=cache))
        assert np.array_equal(images.images, raw[f"{split}_images"])
        assert np.array_equal(images.labels, raw[f"{split}_labels"][:, 0])
        assert (images.images.dtype, images.labels.dtype) == (np.uint8, np.int64)


def test_more_images_than_are_read_at_once_come_back_in_order(write_npz, cache):
    arrays = np.zeros((600, 28, 28), np.uint8)
    arrays[:, 0, 0], arrays[:, 0, 1] = np.arange(600) % 256, np.arange(600) // 256
    labels = np.arange(600) % 2
    path = write_npz(train_images=arrays, train_labels=labels)
    images = load(load_split(NpzFile(path, "", "b" * 64, False), "train", size=28, cache=cache))
    assert np.array_equal(images.images, arrays)
    assert np.array_equal(images.labels, labels)


def test_the_folder_is_addressed_by_size_version_content_and_split(npz, cache, prepared):
    name = f"pneumonia_mnist-28-1.1.0-{npz.sha256[:16]}-train"
    assert prepared.folder == cache / "datasets" / name
    assert [path.name for path in prepared.folder.parent.glob("*-*") if path.suffix != ".lock"] == [name]


def test_images_are_known_without_decoding_one(npz, cache, prepared, monkeypatch):
    raw = np.load(npz.path)
    whole = ImageArray(raw["train_images"], raw["train_labels"][:, 0].astype(np.int64))
    monkeypatch.delattr(prepared_module.Image, "open")
    images = load_split(npz, "train", size=28, cache=cache)
    assert (len(images), images.shape) == (12, (28, 28))
    assert images.fingerprint() == prepared.fingerprint() == whole.fingerprint()
    assert hash_labels(images.labels) == hash_labels(whole.labels)


def test_other_labels_of_the_same_images_leave_the_fingerprint_and_change_the_hash_of_labels(
    write_npz, npz, cache, prepared
):
    labels = 1 - np.load(npz.path)["train_labels"]
    other = NpzFile(write_npz("other.npz", train_labels=labels), "", "f" * 64, is_official=False)
    images = load_split(other, "train", size=28, cache=cache)
    assert images.fingerprint() == prepared.fingerprint()
    assert hash_labels(images.labels) != hash_labels(prepared.labels)


def test_any_rows_are_read_in_any_order(npz, prepared):
    images = np.load(npz.path)["train_images"]
    rows = np.array([11, 0, 5, 5])
    assert np.array_equal(prepared.read(rows), images[rows])
    assert np.array_equal(prepared.read(slice(2, 20, 3)), images[2:20:3])
    assert prepared.read(slice(12, 20)).shape == (0, 28, 28)


def test_preparing_and_reading_hold_a_few_images_at_a_time(write_npz, cache, monkeypatch):
    monkeypatch.setattr(archive, "CHUNK_BYTES", 64 * 1024)
    monkeypatch.setattr(builder, "SHARD_BYTES", 256 * 1024)
    n = 2000  # 8 MB
    arrays = np.random.default_rng(0).integers(0, 256, (n, 64, 64), np.uint8)
    labels = (np.arange(n) % 2).astype(np.uint8)
    npz = NpzFile(write_npz(size=64, train_images=arrays, train_labels=labels), "", "e" * 64, False)
    load_split(npz, "val", size=64, cache=cache)  # what is imported and set up once
    tracemalloc.start()
    images = load_split(npz, "train", size=64, cache=cache)
    _, preparing = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    same = all(
        np.array_equal(images.read(slice(at, at + 50)), arrays[at : at + 50]) for at in range(0, n, 50)
    )
    _, reading = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(list(images.folder.rglob("*.array_record*"))) == 32
    assert same
    assert max(preparing, reading) < 3e6


def test_a_prepared_file_is_neither_read_nor_prepared_again(npz, cache, prepared, monkeypatch):
    npz.path.unlink()
    monkeypatch.delattr(preparation, "take_turn")  # a cache that is only readable will do
    assert len(load(load_split(npz, "train", size=28, cache=cache))) == 12


def find_records(prepared):
    (records,) = prepared.folder.rglob("*.array_record*")
    return records


def expect_whole(npz, cache, caplog):
    """The images are as they were, and the user is told that they were prepared anew."""
    raw = np.load(npz.path)
    images = load(load_split(npz, "train", size=28, cache=cache))
    assert np.array_equal(images.images, raw["train_images"])
    assert np.array_equal(images.labels, raw["train_labels"][:, 0])
    (line,) = caplog.messages
    assert line.startswith(f"Prepared images in {cache}/datasets/pneumonia_mnist-28-1.1.0-{npz.sha256[:16]}")
    assert "-train are damaged and are prepared anew: " in line
    caplog.clear()
    load(load_split(npz, "train", size=28, cache=cache))
    assert caplog.messages == []


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "name", ["labels.npy", "checksums.npy", "metadata.json", "dataset_info.json", "features.json", "seal"]
)
def test_a_damaged_note_has_images_prepared_anew(npz, cache, prepared, caplog, name, seed):
    (file,) = prepared.folder.rglob(name)
    mutate(file, np.random.default_rng(seed))
    expect_whole(npz, cache, caplog)


@pytest.mark.parametrize("seed", range(24))
def test_damaged_records_have_images_prepared_anew(npz, cache, prepared, caplog, seed):
    lot, records = np.random.default_rng(seed), find_records(prepared)
    if seed >= 12:  # among the images, not in the padding, of which nothing is read
        content = bytearray(records.read_bytes())
        start = lot.integers(100, 8000)
        content[start : start + 200] = lot.bytes(200)
        records.write_bytes(content)
    else:
        records.write_bytes(records.read_bytes()[: lot.integers(8000)])
    expect_whole(npz, cache, caplog)


def test_records_of_other_images_are_found(write_npz, npz, cache, prepared, caplog):
    raw = np.load(npz.path)
    other = NpzFile(write_npz("other.npz", train_images=raw["train_images"][::-1]), "", "c" * 64, False)
    strangers = load_split(other, "train", size=28, cache=cache)
    find_records(prepared).write_bytes(find_records(strangers).read_bytes())
    expect_whole(npz, cache, caplog)


def test_a_whole_folder_of_other_images_is_found(write_npz, npz, cache, prepared, caplog):
    labels = 1 - np.load(npz.path)["train_labels"]
    other = NpzFile(write_npz("other.npz", train_labels=labels), "", "c" * 64, False)
    strangers = load_split(other, "train", size=28, cache=cache)
    shutil.rmtree(prepared.folder)
    shutil.copytree(strangers.folder, prepared.folder)
    expect_whole(npz, cache, caplog)


@pytest.mark.parametrize("kind", ["no records", "empty", "file", "pipe", "no tree", "no seal"])
def test_what_is_gone_or_something_else_is_prepared_anew(npz, cache, prepared, caplog, kind):
    match kind:
        case "no records":
            find_records(prepared).unlink()
        case "no tree":
            (prepared.folder / "pneumonia_mnist").rename(cache / "elsewhere")
        case "no seal":
            (prepared.folder / "seal").unlink()
        case "empty" | "file" | "pipe":
            shutil.rmtree(prepared.folder)
            match kind:
                case "empty":
                    prepared.folder.mkdir()
                case "file":
                    prepared.folder.touch()
                case "pipe":
                    os.mkfifo(prepared.folder)
    expect_whole(npz, cache, caplog)


def test_notes_that_cannot_be_read_once_are_read_again(npz, cache, prepared, caplog, monkeypatch):
    load_array, failed = np.load, []

    def fail_once(path, **settings):
        if path == prepared.folder / "labels.npy" and not failed:
            failed.append(path)
            raise OSError(5, "Input/output error")
        return load_array(path, **settings)

    monkeypatch.setattr(np, "load", fail_once)
    expect_whole(npz, cache, caplog)
    assert failed


def test_labels_are_never_unpickled(npz, cache, prepared, caplog):
    np.save(prepared.folder / "labels.npy", np.array([0, None], object), allow_pickle=True)
    expect_whole(npz, cache, caplog)


def test_threads_that_meet_damage_prepare_once(npz, cache, prepared, caplog):
    expected = prepared.read(slice(None))
    find_records(prepared).unlink()
    images = load_split(npz, "train", size=28, cache=cache)
    with ThreadPoolExecutor(4) as pool:
        for arrays in pool.map(images.read, [slice(None)] * 4):
            assert np.array_equal(arrays, expected)
    made = [record for record in caplog.records if "prepared anew" in record.message]
    assert 1 <= len(made) <= 4


def test_images_whose_source_is_gone_are_named(npz, cache, prepared):
    find_records(prepared).unlink()
    npz.path.unlink()
    with pytest.raises(DataError) as error:
        load(load_split(npz, "train", size=28, cache=cache))
    assert str(error.value).startswith(f"{npz.path}: the file must be a whole npz archive")


def test_images_that_are_prepared_anew_in_vain_are_named(npz, cache, prepared, monkeypatch):
    find_records(prepared).unlink()
    images = replace(load_split(npz, "train", size=28, cache=cache), mend=lambda is_whole: None)
    with pytest.raises(DataError) as error:
        images.read(slice(None))
    assert str(error.value) == (
        f"{prepared.folder}: the prepared images must be whole. Received: they cannot be read. "
        "Remove that folder; the next run prepares it again."
    )


def test_damage_in_a_cache_that_cannot_be_written_is_told_in_one_line(npz, cache, prepared, monkeypatch):
    mutate(prepared.folder / "labels.npy", np.random.default_rng(0))

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(preparation, "take_turn", refuse)
    with pytest.raises(DataError) as error:
        load_split(npz, "train", size=28, cache=cache)
    assert str(error.value) == (
        f"{prepared.folder}: the cache must take the prepared images. Received: [Errno 30] Read-only file "
        "system. Make room there, or name another folder with PNEUMO_KERAS_CACHE."
    )


FULL = """
import logging, resource, sys
from pathlib import Path
from pneumo_keras.data.pneumonia_mnist import load_split, npz_file
from pneumo_keras.errors import PneumoError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
npz = npz_file.NpzFile(Path(sys.argv[1]), "", sys.argv[2], False)
try:
    load_split(npz, "train", size=28, cache=Path(sys.argv[3]))
except PneumoError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("limit", [0, 100, 1000, 4000])
def test_no_room_for_images_is_told_in_one_line_and_leaves_nothing_behind(npz, cache, limit):
    # No file may grow beyond a limit: to whoever writes, the same as a disk that is full.
    done = subprocess.run(
        [sys.executable, "-c", FULL, npz.path, npz.sha256, cache, str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"refused: {cache}/datasets/pneumonia_mnist-28-")
    assert "the cache must take the prepared images. Received: " in line
    assert line.endswith("Make room there, or name another folder with PNEUMO_KERAS_CACHE.")
    assert {path.suffix for path in (cache / "datasets").glob("*-*")} <= {".lock"}
    assert len(load(load_split(npz, "train", size=28, cache=cache))) == 12


def test_two_at_once_prepare_once(npz, cache, monkeypatch):
    encoded, go_on = [], threading.Event()

    def encode_slowly(image):
        encoded.append(image)
        go_on.wait(10)
        return to_png(image)

    monkeypatch.setattr(builder, "to_png", encode_slowly)
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(load_split, npz, "train", size=28, cache=cache) for _ in range(2)]
        time.sleep(0.3)
        go_on.set()
    assert both[0].result().folder == both[1].result().folder
    assert len(encoded) == 12


def test_a_preparation_killed_half_way_is_not_mistaken_for_a_whole_one(npz, cache):
    killed = subprocess.run([sys.executable, "-c", KILLED, npz.path, cache], check=False)
    assert killed.returncode == 9
    left = [path.name for path in (cache / "datasets").iterdir()]
    assert ".pneumonia_mnist-28-1.1.0-aaaaaaaaaaaaaaaa-train.partial" in left
    prepared = load_split(NpzFile(npz.path, "", "a" * 64, False), "train", size=28, cache=cache)
    assert len(load(prepared)) == 12
    assert not list((cache / "datasets").glob("*.partial"))
    assert not list(prepared.folder.rglob("incomplete*"))


def test_a_refused_file_leaves_nothing_behind(write_npz, cache):
    path = write_npz(val_labels=np.array([0, 1, 2, 0, 1, 1]))
    with pytest.raises(DataError) as error:
        load_split(NpzFile(path, "", "a" * 64, False), "val", size=28, cache=cache)
    assert str(error.value) == (
        f"{path}: the labels of split 'val' must be 0 (normal) or 1 (pneumonia). Received: 2. "
        "Mend the file, or leave data.path unset to use the official one."
    )
    assert {path.suffix for path in (cache / "datasets").glob("*-*")} <= {".lock"}


def test_a_file_damaged_within_its_images_leaves_nothing_behind(npz, cache):
    content = bytearray(npz.path.read_bytes())
    content[2000:2100] = bytes(100)
    npz.path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"plain arrays\. Received: Bad CRC-32 for file 'train_images\.npy'\."
    ):
        load_split(npz, "train", size=28, cache=cache)
    assert {path.suffix for path in (cache / "datasets").glob("*-*")} <= {".lock"}


def test_another_size_than_the_prepared_one_names_the_setting(npz, cache, prepared):
    with pytest.raises(DataError, match=r"Received: 28 px\. Set data\.size to 28\."):
        load_split(npz, "train", size=64, cache=cache)


def test_a_cache_that_cannot_be_written_is_named(npz, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as error:
        load_split(npz, "train", size=28, cache=tmp_path / "file")
    assert str(error.value).startswith(
        f"{tmp_path}/file/datasets/pneumonia_mnist-28-1.1.0-{npz.sha256[:16]}-train: the cache must "
        "take the prepared images. Received: [Errno 20] Not a directory"
    )


def test_the_builder_is_an_ordinary_one_of_tfds(prepared):
    info = prepared.builder.info
    assert (info.name, str(info.version), info.config_name) == ("pneumonia_mnist", "1.1.0", "28")
    assert set(info.release_notes) == {"1.1.0", "1.0.0"}
    assert prepared.builder.builder_config.description == "Images of 28 x 28 pixels."
    assert info.features["label"].names == ["normal", "pneumonia"]
    assert info.features["image"].shape == (28, 28, 1)
    assert info.redistribution_info.license == ("CC BY 4.0, https://creativecommons.org/licenses/by/4.0/")
    assert info.homepage == "https://medmnist.com"
    assert "kermany2018" in info.citation
    example = prepared.builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})[0]
    assert example["image"].startswith(b"\x89PNG")


def test_the_builder_leaves_the_name_in_the_register_alone():
    assert tfds.builder_cls("pneumonia_mnist") is not ImageBuilder


def test_what_is_on_disk_tells_licence_and_counts(prepared):
    (notes,) = prepared.folder.rglob("1.1.0/metadata.json")
    assert json.loads(notes.read_text())["class_counts"] == [4, 8]
    assert "CC BY 4.0" in notes.with_name("LICENSE").read_text()


def test_pillow_reads_what_was_written(prepared, tmp_path):
    image = np.arange(784, dtype=np.uint8).reshape(28, 28)
    (tmp_path / "image.png").write_bytes(to_png(image))
    with Image.open(tmp_path / "image.png") as pixels:
        assert (pixels.mode, pixels.format) == ("L", "PNG")
        assert np.array_equal(np.asarray(pixels), image)


def test_prepared_images_are_known_without_tfds(npz, cache, prepared):
    code = (
        "import sys, pathlib\n"
        "from pneumo_keras.data.pneumonia_mnist import load_split, npz_file\n"
        "npz = npz_file.NpzFile(pathlib.Path(sys.argv[1]), '', sys.argv[2], False)\n"
        "images = load_split(npz, 'train', size=28, cache=pathlib.Path(sys.argv[3]))\n"
        "print(len(images.labels), images.fingerprint(), 'tensorflow_datasets' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, npz.path, npz.sha256, cache], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"12 {prepared.fingerprint()} False\n"


def test_images_go_to_other_processes_and_are_not_prepared_anew_there(npz, prepared, cache):
    images = prepared.read(slice(None))
    there = pickle.loads(pickle.dumps(prepared))
    assert np.array_equal(there.read(slice(None)), images)
    assert there.fingerprint() == prepared.fingerprint()
    shutil.move(cache, cache.with_name("elsewhere"))
    other = pickle.loads(pickle.dumps(prepared))
    with pytest.raises(DataError) as caught:
        other.read(slice(0, 3))
    assert str(caught.value) == (
        f"{prepared.folder}: prepared images must be readable on every machine of a cluster. Received: they "
        f"are not on {socket.gethostname()}. Name a folder that all share with PNEUMO_KERAS_CACHE."
    )
    assert not cache.exists()


def list_prepared(cache):
    return sorted(path.name.rpartition("-")[2] for path in (cache / "datasets").glob("[!.]*-*"))


def test_prepared_images_that_were_used_longest_ago_go_where_they_are_too_many(npz, cache):
    for split in ("test", "train", "val"):
        load_split(npz, split, size=28, cache=cache)
    assert list_prepared(cache) == ["test", "train", "val"]
    for age, split in enumerate(("val", "train", "test")):
        for path in (cache / "datasets").glob(f"*-{split}"):
            for file in (path, *path.rglob("*")):
                os.utime(file, (1e9 - age, 1e9 - age))
    size = sum(item.size for item in PREPARED.list_items(cache).values())
    load_split(npz, "test", size=28, cache=cache)  # which was the oldest until now
    load_split(replace(npz, sha256="b" * 64), "val", size=28, cache=cache, limit=size)
    assert list_prepared(cache) == ["test", "val", "val"]
    assert len(load(load_split(npz, "train", size=28, cache=cache)).images)


def test_prepared_images_in_use_stay_where_others_are_prepared(npz, cache):
    images = load_split(npz, "train", size=28, cache=cache)
    load_split(npz, "val", size=28, cache=cache)
    gc.collect()
    load_split(npz, "test", size=28, cache=cache, limit=1)
    assert list_prepared(cache) == ["test", "train"]
    assert PREPARED.clear(cache) != []
    assert load(images).images.shape == images.read(slice(None)).shape
    del images
    gc.collect()
    assert PREPARED.clear(cache) == []
    assert list_prepared(cache) == []
