import hashlib
import os
import pickle
import shutil
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

from pneumo_keras.data.images import hash_labels
from pneumo_keras.data.pneumonia_mnist import archive, tfds_images
from pneumo_keras.data.pneumonia_mnist import prepared as module
from pneumo_keras.data.pneumonia_mnist.archive import NpzFile
from pneumo_keras.data.pneumonia_mnist.prepared import load_prepared
from pneumo_keras.data.pneumonia_mnist.tfds_images import to_png
from pneumo_keras.errors import DataError
from pneumo_keras.storage.cache import PREPARED
from tests.damage import mutate
from tests.images import ImageArray, load

VERSION = "2.0.0"


@pytest.fixture
def npz(write_npz):
    path = write_npz()
    return NpzFile(path, "", hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def prepared(npz, cache):
    return load_prepared(npz, "train", size=28, cache=cache)


@pytest.fixture
def folder(npz, cache):
    return cache / "datasets" / f"pneumonia_mnist-28-{VERSION}-{npz.sha256[:16]}-train"


def list_prepared(cache):
    return sorted(path.name.rpartition("-")[2] for path in (cache / "datasets").glob("[!.]*-*"))


def test_images_come_back_as_they_were(npz, cache):
    raw = np.load(npz.path)
    for split in ("train", "val", "test"):
        images = load(load_prepared(npz, split, size=28, cache=cache))
        assert np.array_equal(images.images, raw[f"{split}_images"])
        assert np.array_equal(images.labels, raw[f"{split}_labels"][:, 0])
        assert (images.images.dtype, images.labels.dtype) == (np.uint8, np.int64)


def test_more_images_than_are_read_at_once_come_back_in_order(write_npz, cache):
    arrays = np.zeros((600, 28, 28), np.uint8)
    arrays[:, 0, 0], arrays[:, 0, 1] = np.arange(600) % 256, np.arange(600) // 256
    path = write_npz(train_images=arrays, train_labels=np.arange(600) % 2)
    images = load(load_prepared(NpzFile(path, "", "b" * 64), "train", size=28, cache=cache))
    assert np.array_equal(images.images, arrays)
    assert np.array_equal(images.labels, np.arange(600) % 2)


def test_the_folder_is_addressed_by_size_version_content_and_split(cache, prepared, folder):
    assert list((cache / "datasets").glob("[!.]*")) == [folder]
    assert prepared.folder == folder / "pneumonia_mnist" / "28" / VERSION


def test_images_are_known_without_decoding_one(npz, cache, prepared, monkeypatch):
    raw = np.load(npz.path)
    whole = ImageArray(raw["train_images"], raw["train_labels"][:, 0].astype(np.int64))
    monkeypatch.delattr(module.Image, "open")
    images = load_prepared(npz, "train", size=28, cache=cache)
    assert (len(images), images.shape) == (12, (28, 28))
    assert images.fingerprint() == prepared.fingerprint() == whole.fingerprint()
    assert hash_labels(images.labels) == hash_labels(whole.labels)


def test_other_labels_of_the_same_images_leave_the_fingerprint(write_npz, npz, cache, prepared):
    labels = 1 - np.load(npz.path)["train_labels"]
    other = NpzFile(write_npz("other.npz", train_labels=labels), "", "f" * 64)
    images = load_prepared(other, "train", size=28, cache=cache)
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
    monkeypatch.setattr(tfds_images, "SHARD_BYTES", 256 * 1024)
    n = 1000  # 4 MB
    arrays = np.random.default_rng(0).integers(0, 256, (n, 64, 64), np.uint8)
    labels = (np.arange(n) % 2).astype(np.uint8)
    npz = NpzFile(write_npz(size=64, train_images=arrays, train_labels=labels), "", "e" * 64)
    load_prepared(npz, "val", size=64, cache=cache)  # what is imported and set up once
    tracemalloc.start()
    images = load_prepared(npz, "train", size=64, cache=cache)
    same = all(
        np.array_equal(images.read(slice(at, at + 50)), arrays[at : at + 50]) for at in range(0, n, 50)
    )
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(list(images.folder.glob("*.array_record*"))) == 16
    assert same
    assert most < 2.5e6


def test_a_prepared_file_is_neither_read_nor_prepared_again(npz, cache, prepared, monkeypatch):
    npz.path.unlink()
    monkeypatch.delattr(module, "wait_for_lock")  # a cache that is only readable will do
    assert len(load(load_prepared(npz, "train", size=28, cache=cache))) == 12


def expect_whole(npz, cache, caplog):
    """The images are as they were, and the user is told that they were prepared again."""
    raw = np.load(npz.path)
    images = load(load_prepared(npz, "train", size=28, cache=cache))
    assert np.array_equal(images.images, raw["train_images"])
    assert np.array_equal(images.labels, raw["train_labels"][:, 0])
    (line,) = caplog.messages
    assert line.startswith(
        f"Prepared images in {cache}/datasets/pneumonia_mnist-28-{VERSION}-{npz.sha256[:16]}"
    )
    assert "are damaged and are prepared again (" in line
    caplog.clear()
    load(load_prepared(npz, "train", size=28, cache=cache))
    assert caplog.messages == []


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["summary.npz", "dataset_info.json", "features.json"])
def test_damage_beside_the_images_changes_nothing_that_is_read(npz, cache, prepared, folder, name, seed):
    raw = np.load(npz.path)
    (file,) = folder.rglob(name)
    mutate(file, np.random.default_rng(seed))
    images = load(load_prepared(npz, "train", size=28, cache=cache))
    assert np.array_equal(images.images, raw["train_images"])
    assert np.array_equal(images.labels, raw["train_labels"][:, 0])


@pytest.mark.parametrize("seed", range(12))
def test_damaged_records_have_images_prepared_anew(npz, cache, prepared, caplog, seed):
    random = np.random.default_rng(seed)
    (records,) = prepared.folder.glob("*.array_record*")
    content = records.read_bytes()
    start = int(random.integers(100, 8000))  # among the images, not in the padding, of which nothing is read
    if seed % 2:
        content = content[:start] + random.bytes(200) + content[start + 200 :]
    records.write_bytes(content if seed % 2 else content[:start])
    expect_whole(npz, cache, caplog)


@pytest.mark.parametrize("kind", ["no records", "empty", "file", "no tree", "no summary"])
def test_what_is_gone_or_something_else_is_prepared_anew(npz, cache, prepared, folder, caplog, kind):
    match kind:
        case "no records":
            for records in prepared.folder.glob("*.array_record*"):
                records.unlink()
        case "no tree":
            shutil.rmtree(folder / "pneumonia_mnist")
        case "no summary":
            (folder / "summary.npz").unlink()
        case "empty" | "file":
            shutil.rmtree(folder)
            folder.mkdir() if kind == "empty" else folder.touch()
    expect_whole(npz, cache, caplog)


def test_threads_that_meet_damage_read_what_was_prepared_anew(npz, cache, prepared, folder):
    expected = prepared.read(slice(None))
    shutil.rmtree(folder / "pneumonia_mnist")
    images = load_prepared(npz, "train", size=28, cache=cache)
    with ThreadPoolExecutor(4) as pool:
        for arrays in pool.map(images.read, [slice(None)] * 4):
            assert np.array_equal(arrays, expected)


def test_images_whose_source_is_gone_are_named(npz, cache, prepared, folder):
    shutil.rmtree(folder / "pneumonia_mnist")
    npz.path.unlink()
    with pytest.raises(DataError) as error:
        load(load_prepared(npz, "train", size=28, cache=cache))
    assert str(error.value).startswith(f"{npz.path}: the file must be an intact npz archive")


def test_images_that_are_prepared_again_in_vain_are_named(npz, cache, prepared, folder, monkeypatch):
    shutil.rmtree(folder / "pneumonia_mnist")
    images = load_prepared(npz, "train", size=28, cache=cache)
    monkeypatch.setattr(tfds_images, "to_png", lambda _: b"no image")
    with pytest.raises(DataError, match=r"Remove that folder; the next run prepares it again\.") as error:
        images.read(slice(None))
    assert str(error.value).startswith(f"{folder}: the prepared images must be intact. Received: ")


def test_a_cache_that_cannot_be_written_is_named(npz, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as error:
        load_prepared(npz, "train", size=28, cache=tmp_path / "file")
    assert str(error.value).startswith(
        f"{tmp_path}/file/datasets/pneumonia_mnist-28-{VERSION}-{npz.sha256[:16]}-train: the cache must "
        "take the prepared images. Received: [Errno 20] Not a directory"
    )


LOAD = """
import os, resource, sys
from pathlib import Path
from pneumo_keras.data.pneumonia_mnist import tfds_images
from pneumo_keras.data.pneumonia_mnist.archive import NpzFile
from pneumo_keras.data.pneumonia_mnist.prepared import load_prepared
from pneumo_keras.errors import PneumoError
to_png, limit, images = tfds_images.to_png, int(sys.argv[4]), []
def die_at_the_fifth(image):
    images.append(image)
    return os._exit(9) if len(images) == 5 else to_png(image)
if limit < 0:
    tfds_images.to_png = die_at_the_fifth
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit,) * 2)
try:
    load_prepared(NpzFile(Path(sys.argv[1]), "", sys.argv[2]), "train", size=28, cache=Path(sys.argv[3]))
except PneumoError as error:
    print("refused:", error)
"""


@pytest.mark.system
@pytest.mark.parametrize("limit", [0, 100, 1000, 4000])
def test_no_room_for_images_is_told_in_one_line_and_leaves_nothing_behind(npz, cache, limit):
    # No file may grow beyond a limit: to whoever writes, the same as a disk that is full.
    command = [sys.executable, "-c", LOAD, npz.path, npz.sha256, cache, str(limit)]
    (line,) = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert line.startswith(f"refused: {cache}/datasets/pneumonia_mnist-28-")
    assert "the cache must take the prepared images. Received: " in line
    assert line.endswith("Free some space there, or name another folder with PNEUMO_KERAS_CACHE.")
    assert {path.suffix for path in (cache / "datasets").glob("*-*")} <= {".lock"}
    assert len(load(load_prepared(npz, "train", size=28, cache=cache))) == 12


@pytest.mark.system
def test_a_preparation_killed_half_way_is_not_mistaken_for_a_whole_one(npz, cache, folder):
    killed = subprocess.run([sys.executable, "-c", LOAD, npz.path, npz.sha256, cache, "-1"], check=False)
    assert killed.returncode == 9
    assert (cache / "datasets" / f".{folder.name}.partial").is_dir()
    prepared = load_prepared(npz, "train", size=28, cache=cache)
    assert len(load(prepared)) == 12
    assert not list((cache / "datasets").glob(".*.partial"))
    assert not list(folder.rglob("incomplete*"))


def test_two_at_once_prepare_once(npz, cache, monkeypatch):
    encoded, go_on = [], threading.Event()

    def encode_slowly(image):
        encoded.append(image)
        go_on.wait(10)
        return to_png(image)

    monkeypatch.setattr(tfds_images, "to_png", encode_slowly)
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(load_prepared, npz, "train", size=28, cache=cache) for _ in range(2)]
        time.sleep(0.3)
        go_on.set()
    assert both[0].result().folder == both[1].result().folder
    assert len(encoded) == 12


def test_a_refused_file_leaves_nothing_behind(write_npz, cache):
    path = write_npz(val_labels=np.array([0, 1, 2, 0, 1, 1]))
    with pytest.raises(DataError, match=r"must be 0 \(normal\) or 1 \(pneumonia\)\. Received: 2\."):
        load_prepared(NpzFile(path, "", "a" * 64), "val", size=28, cache=cache)
    assert list_prepared(cache) == []


def test_a_file_damaged_within_its_images_leaves_nothing_behind(npz, cache):
    content = bytearray(npz.path.read_bytes())
    content[2000:2100] = bytes(100)
    npz.path.write_bytes(content)
    with pytest.raises(DataError, match=r"Received: Bad CRC-32 for file 'train_images\.npy'\."):
        load_prepared(npz, "train", size=28, cache=cache)
    assert {path.suffix for path in (cache / "datasets").glob("*-*")} <= {".lock"}


def test_another_size_than_the_prepared_one_names_the_setting(npz, cache, prepared):
    with pytest.raises(DataError, match=r"Received: 28 px\. Set data\.size to 28\."):
        load_prepared(npz, "train", size=64, cache=cache)


def test_tfds_reads_what_was_prepared(prepared):
    builder = tfds.builder_from_directory(prepared.folder)
    info = builder.info
    assert (info.name, str(info.version), info.config_name) == ("pneumonia_mnist", VERSION, "28")
    assert info.features["label"].names == ["normal", "pneumonia"]
    assert info.features["image"].shape == (28, 28, 1)
    assert info.redistribution_info.license == "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
    assert "kermany2018" in info.citation
    example = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})[0]
    assert example["image"].startswith(b"\x89PNG")
    assert example["label"] == prepared.labels[0]


def test_the_register_of_tfds_keeps_its_own_data_set_of_that_name():
    assert tfds.builder_cls("pneumonia_mnist") is not tfds_images._ImageBuilder


def test_prepared_images_are_known_without_tfds(npz, cache, prepared):
    code = (
        "import sys, pathlib\n"
        "from pneumo_keras.data.pneumonia_mnist.archive import NpzFile\n"
        "from pneumo_keras.data.pneumonia_mnist.prepared import load_prepared\n"
        "npz = NpzFile(pathlib.Path(sys.argv[1]), '', sys.argv[2])\n"
        "images = load_prepared(npz, 'train', size=28, cache=pathlib.Path(sys.argv[3]))\n"
        "print(len(images.labels), images.fingerprint(), 'tensorflow_datasets' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, npz.path, npz.sha256, cache], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"12 {prepared.fingerprint()} False\n"


def test_images_go_to_other_processes_and_are_not_prepared_anew_there(prepared, cache):
    images = prepared.read(slice(None))
    there = pickle.loads(pickle.dumps(prepared))
    assert np.array_equal(there.read(slice(None)), images)
    assert there.fingerprint() == prepared.fingerprint()
    shutil.move(cache, cache.with_name("elsewhere"))
    with pytest.raises(DataError, match="must be readable on every machine of a cluster") as caught:
        pickle.loads(pickle.dumps(prepared)).read(slice(0, 3))
    assert "Name a folder that all share with PNEUMO_KERAS_CACHE." in str(caught.value)
    assert not cache.exists()


def test_prepared_images_that_were_used_longest_ago_go_where_they_are_too_many(npz, cache):
    for split in ("test", "train", "val"):
        load_prepared(npz, split, size=28, cache=cache)
    for age, split in enumerate(("val", "train", "test")):
        for path in (cache / "datasets").glob(f"*-{split}"):
            for file in (path, *path.rglob("*")):
                os.utime(file, (1e9 - age, 1e9 - age))
    size = sum(item.size for item in PREPARED.list_items(cache).values())
    load_prepared(npz, "test", size=28, cache=cache)  # which was the oldest until now
    load_prepared(replace(npz, sha256="b" * 64), "val", size=28, cache=cache, limit=size)
    assert list_prepared(cache) == ["test", "val", "val"]
    assert len(load(load_prepared(npz, "train", size=28, cache=cache)).images)
