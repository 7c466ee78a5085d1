import hashlib
import json
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from pneumo_keras.data import builder
from pneumo_keras.data import prepared as prepared_module
from pneumo_keras.data.builder import FilmBuilder, to_png
from pneumo_keras.data.films import FilmArray, hash_labels
from pneumo_keras.data.pneumonia_mnist import archive, load_split
from pneumo_keras.data.pneumonia_mnist.npz_file import NpzFile
from pneumo_keras.errors import DataError
from tests.films import load

KILLED = """
import os, sys
from pathlib import Path
from pneumo_keras.data import builder
from pneumo_keras.data.pneumonia_mnist import load_split, npz_file
films = []
def die_at_the_fifth(image):
    films.append(image)
    return os._exit(9) if len(films) == 5 else to_png(image)
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


def test_films_come_back_as_they_were(npz, cache):
    raw = np.load(npz.path)
    for split in ("train", "val", "test"):
        films = load(load_split(npz, split, size=28, cache=cache))
        assert np.array_equal(films.images, raw[f"{split}_images"])
        assert np.array_equal(films.labels, raw[f"{split}_labels"][:, 0])
        assert (films.images.dtype, films.labels.dtype) == (np.uint8, np.int64)


def test_more_films_than_are_read_at_once_come_back_in_order(write_npz, cache):
    images = np.zeros((600, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(600) % 256, np.arange(600) // 256
    labels = np.arange(600) % 2
    path = write_npz(train_images=images, train_labels=labels)
    films = load(load_split(NpzFile(path, "", "b" * 64, False), "train", size=28, cache=cache))
    assert np.array_equal(films.images, images)
    assert np.array_equal(films.labels, labels)


def test_the_folder_is_addressed_by_size_version_content_and_split(npz, cache, prepared):
    name = f"pneumonia_mnist-28-1.1.0-{npz.sha256[:16]}-train"
    assert prepared.folder == cache / "datasets" / name
    assert [path.name for path in prepared.folder.parent.iterdir() if path.suffix != ".lock"] == [name]


def test_films_are_known_without_decoding_one(npz, cache, prepared, monkeypatch):
    raw = np.load(npz.path)
    whole = FilmArray(raw["train_images"], raw["train_labels"][:, 0].astype(np.int64))
    monkeypatch.delattr(prepared_module.Image, "open")
    films = load_split(npz, "train", size=28, cache=cache)
    assert (len(films), films.shape) == (12, (28, 28))
    assert films.fingerprint() == prepared.fingerprint() == whole.fingerprint()
    assert hash_labels(films.labels) == hash_labels(whole.labels)


def test_other_labels_of_the_same_films_leave_the_fingerprint_and_change_the_hash_of_labels(
    write_npz, npz, cache, prepared
):
    labels = 1 - np.load(npz.path)["train_labels"]
    other = NpzFile(write_npz("other.npz", train_labels=labels), "", "f" * 64, is_official=False)
    films = load_split(other, "train", size=28, cache=cache)
    assert films.fingerprint() == prepared.fingerprint()
    assert hash_labels(films.labels) != hash_labels(prepared.labels)


def test_any_rows_are_read_in_any_order(npz, prepared):
    images = np.load(npz.path)["train_images"]
    rows = np.array([11, 0, 5, 5])
    assert np.array_equal(prepared.read(rows), images[rows])
    assert np.array_equal(prepared.read(slice(2, 20, 3)), images[2:20:3])
    assert prepared.read(slice(12, 20)).shape == (0, 28, 28)


def test_preparing_and_reading_hold_a_few_films_at_a_time(write_npz, cache, monkeypatch):
    monkeypatch.setattr(archive, "CHUNK_BYTES", 64 * 1024)
    monkeypatch.setattr(builder, "SHARD_BYTES", 256 * 1024)
    n = 2000  # 8 MB
    images = np.random.default_rng(0).integers(0, 256, (n, 64, 64), np.uint8)
    labels = (np.arange(n) % 2).astype(np.uint8)
    npz = NpzFile(write_npz(size=64, train_images=images, train_labels=labels), "", "e" * 64, False)
    load_split(npz, "val", size=64, cache=cache)  # what is imported and set up once
    tracemalloc.start()
    films = load_split(npz, "train", size=64, cache=cache)
    _, preparing = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    same = all(np.array_equal(films.read(slice(at, at + 50)), images[at : at + 50]) for at in range(0, n, 50))
    _, reading = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(list(films.folder.rglob("*.array_record*"))) == 32
    assert same
    assert max(preparing, reading) < 3e6


def test_a_prepared_file_is_neither_read_nor_prepared_again(npz, cache, prepared, monkeypatch):
    npz.path.unlink()
    monkeypatch.delattr(prepared_module, "FileLock")  # a cache that is only readable will do
    assert len(load(load_split(npz, "train", size=28, cache=cache))) == 12


def test_films_that_are_gone_are_named(prepared):
    for file in prepared.folder.rglob("*-train.array_record*"):
        file.unlink()
    with pytest.raises(DataError) as error:
        load(prepared)
    assert str(error.value) == (
        f"{prepared.folder}: the prepared films must be whole. Received: they cannot be read. "
        "Remove that folder; the next run prepares it again."
    )


def test_notes_that_are_gone_are_named(npz, cache, prepared):
    (prepared.folder / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"whole\. Received: its notes cannot be read\. Remove that folder"):
        load_split(npz, "train", size=28, cache=cache)


@pytest.mark.parametrize("labels", [np.zeros(3, np.int64), np.zeros(12), np.zeros((12, 1), np.int64)])
def test_labels_of_other_films_are_named(npz, cache, prepared, labels):
    np.save(prepared.folder / "labels.npy", labels)
    with pytest.raises(DataError, match=rf"Received: {labels.size} labels for 12 films\. Remove that folder"):
        load_split(npz, "train", size=28, cache=cache)


def test_labels_are_never_unpickled(npz, cache, prepared):
    np.save(prepared.folder / "labels.npy", np.array([0, None], object), allow_pickle=True)
    with pytest.raises(DataError, match="its notes cannot be read"):
        load_split(npz, "train", size=28, cache=cache)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_films_are_named(npz, cache, prepared, seed):
    (records,) = prepared.folder.rglob("*.array_record*")
    lot, content = np.random.default_rng(seed), bytearray(records.read_bytes())
    start = lot.integers(100, 8000)  # among the films, not in the padding
    content[start : start + 200] = lot.bytes(200)
    records.write_bytes(content)
    with pytest.raises(DataError, match=r"the prepared films must be whole\. Received: they cannot be read"):
        load_split(npz, "train", size=28, cache=cache).read(slice(None))


def test_an_emptied_folder_is_named(npz, cache, prepared):
    (prepared.folder / "pneumonia_mnist").rename(cache / "elsewhere")
    with pytest.raises(DataError) as error:
        load_split(npz, "train", size=28, cache=cache)
    assert str(error.value) == (
        f"{prepared.folder}: the prepared films must be whole. Received: it is empty. "
        "Remove that folder; the next run prepares it again."
    )


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
    assert [path.suffix for path in (cache / "datasets").iterdir()] in ([], [".lock"])


def test_a_file_damaged_within_its_films_leaves_nothing_behind(npz, cache):
    content = bytearray(npz.path.read_bytes())
    content[2000:2100] = bytes(100)
    npz.path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"plain arrays\. Received: Bad CRC-32 for file 'train_images\.npy'\."
    ):
        load_split(npz, "train", size=28, cache=cache)
    assert [path.suffix for path in (cache / "datasets").iterdir()] in ([], [".lock"])


def test_another_size_than_the_prepared_one_names_the_setting(npz, cache, prepared):
    with pytest.raises(DataError, match=r"Received: 28 px\. Set data\.size to 28\."):
        load_split(npz, "train", size=64, cache=cache)


def test_a_cache_that_cannot_be_written_is_named(npz, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as error:
        load_split(npz, "train", size=28, cache=tmp_path / "file")
    assert str(error.value).startswith(
        f"{tmp_path}/file/datasets/pneumonia_mnist-28-1.1.0-{npz.sha256[:16]}-train: the cache must "
        "take the prepared films. Received: [Errno 20] Not a directory"
    )


def test_the_builder_is_an_ordinary_one_of_tfds(prepared):
    info = prepared.builder.info
    assert (info.name, str(info.version), info.config_name) == ("pneumonia_mnist", "1.1.0", "28")
    assert set(info.release_notes) == {"1.1.0", "1.0.0"}
    assert prepared.builder.builder_config.description == "Films of 28 x 28 pixels."
    assert info.features["label"].names == ["normal", "pneumonia"]
    assert info.features["image"].shape == (28, 28, 1)
    assert info.redistribution_info.license == ("CC BY 4.0, https://creativecommons.org/licenses/by/4.0/")
    assert info.homepage == "https://medmnist.com"
    assert "kermany2018" in info.citation
    example = prepared.builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})[0]
    assert example["image"].startswith(b"\x89PNG")


def test_the_builder_leaves_the_name_in_the_register_alone():
    assert tfds.builder_cls("pneumonia_mnist") is not FilmBuilder


def test_what_is_on_disk_tells_licence_and_counts(prepared):
    (notes,) = prepared.folder.rglob("1.1.0/metadata.json")
    assert json.loads(notes.read_text())["class_counts"] == [4, 8]
    assert "CC BY 4.0" in notes.with_name("LICENSE").read_text()


def test_pillow_reads_what_was_written(prepared, tmp_path):
    film = np.arange(784, dtype=np.uint8).reshape(28, 28)
    (tmp_path / "film.png").write_bytes(to_png(film))
    with Image.open(tmp_path / "film.png") as image:
        assert (image.mode, image.format) == ("L", "PNG")
        assert np.array_equal(np.asarray(image), film)


def test_prepared_films_are_known_without_tfds(npz, cache, prepared):
    code = (
        "import sys, pathlib\n"
        "from pneumo_keras.data.pneumonia_mnist import load_split, npz_file\n"
        "npz = npz_file.NpzFile(pathlib.Path(sys.argv[1]), '', sys.argv[2], False)\n"
        "films = load_split(npz, 'train', size=28, cache=pathlib.Path(sys.argv[3]))\n"
        "print(len(films.labels), films.fingerprint(), 'tensorflow_datasets' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, npz.path, npz.sha256, cache], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"12 {prepared.fingerprint()} False\n"
