import hashlib
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from pneumo_keras.data.pneumonia_mnist import builder
from pneumo_keras.data.pneumonia_mnist import prepared as prepared_module
from pneumo_keras.data.pneumonia_mnist.builder import PneumoniaMnist, to_png
from pneumo_keras.data.pneumonia_mnist.prepared import load_prepared, read_films
from pneumo_keras.data.pneumonia_mnist.source import Source
from pneumo_keras.errors import DataError

KILLED = """
import os, sys
from pathlib import Path
from pneumo_keras.data.pneumonia_mnist import builder, prepared, source
films = []
def die_at_the_fifth(image):
    films.append(image)
    return os._exit(9) if len(films) == 5 else to_png(image)
to_png, builder.to_png = builder.to_png, die_at_the_fifth
npz = source.Source(Path(sys.argv[1]), "", "a" * 64, False)
prepared.load_prepared(npz, "train", size=28, cache=Path(sys.argv[2]))
"""


@pytest.fixture
def source(write_npz):
    path = write_npz()
    return Source(path, "", hashlib.sha256(path.read_bytes()).hexdigest(), is_official=False)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def prepared(source, cache):
    return load_prepared(source, "train", size=28, cache=cache)


def test_films_come_back_as_they_were(source, cache):
    raw = np.load(source.path)
    for split in ("train", "val", "test"):
        films = read_films(load_prepared(source, split, size=28, cache=cache))
        assert np.array_equal(films.images, raw[f"{split}_images"])
        assert np.array_equal(films.labels, raw[f"{split}_labels"][:, 0])
        assert (films.images.dtype, films.labels.dtype) == (np.uint8, np.int64)


def test_more_films_than_are_read_at_once_come_back_in_order(write_npz, cache):
    images = np.zeros((600, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(600) % 256, np.arange(600) // 256
    labels = np.arange(600) % 2
    path = write_npz(train_images=images, train_labels=labels)
    films = read_films(load_prepared(Source(path, "", "b" * 64, False), "train", size=28, cache=cache))
    assert np.array_equal(films.images, images)
    assert np.array_equal(films.labels, labels)


def test_the_folder_is_addressed_by_size_version_content_and_split(source, cache, prepared):
    name = f"pneumonia_mnist-28-1.0.0-{source.sha256[:16]}-train"
    assert prepared.folder == cache / "datasets" / name
    assert [path.name for path in prepared.folder.parent.iterdir() if path.suffix != ".lock"] == [name]


def test_class_counts_are_noted_when_the_split_is_verified(source, cache, prepared):
    assert prepared.to_class_counts() == (4, 8)
    assert load_prepared(source, "train", size=28, cache=cache).to_class_counts() == (4, 8)
    assert load_prepared(source, "test", size=28, cache=cache).to_class_counts() == (3, 5)


def test_a_prepared_file_is_neither_read_nor_prepared_again(source, cache, prepared, monkeypatch):
    source.path.unlink()
    monkeypatch.delattr(prepared_module, "FileLock")  # a cache that is only readable will do
    assert len(read_films(load_prepared(source, "train", size=28, cache=cache))) == 12


def test_films_that_are_gone_are_named(prepared):
    for file in prepared.folder.rglob("*-train.array_record*"):
        file.unlink()
    with pytest.raises(DataError) as error:
        read_films(prepared)
    assert str(error.value) == (
        f"{prepared.folder}: the prepared films must be whole. Received: they cannot be read. "
        "Remove that folder; the next run prepares it again."
    )


def test_an_emptied_folder_is_named(source, cache, prepared):
    (prepared.folder / "pneumonia_mnist").rename(cache / "elsewhere")
    with pytest.raises(DataError) as error:
        load_prepared(source, "train", size=28, cache=cache)
    assert str(error.value) == (
        f"{prepared.folder}: the prepared films must be whole. Received: it is empty. "
        "Remove that folder; the next run prepares it again."
    )


def test_two_at_once_prepare_once(source, cache, monkeypatch):
    encoded, go_on = [], threading.Event()

    def encode_slowly(image):
        encoded.append(image)
        go_on.wait(10)
        return to_png(image)

    monkeypatch.setattr(builder, "to_png", encode_slowly)
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(load_prepared, source, "train", size=28, cache=cache) for _ in range(2)]
        time.sleep(0.3)
        go_on.set()
    assert both[0].result().folder == both[1].result().folder
    assert len(encoded) == 12


def test_a_preparation_killed_half_way_is_not_mistaken_for_a_whole_one(source, cache):
    killed = subprocess.run([sys.executable, "-c", KILLED, source.path, cache], check=False)
    assert killed.returncode == 9
    left = [path.name for path in (cache / "datasets").iterdir()]
    assert ".pneumonia_mnist-28-1.0.0-aaaaaaaaaaaaaaaa-train.partial" in left
    prepared = load_prepared(Source(source.path, "", "a" * 64, False), "train", size=28, cache=cache)
    assert len(read_films(prepared)) == 12
    assert not list((cache / "datasets").glob("*.partial"))
    assert not list(prepared.folder.rglob("incomplete*"))


def test_a_refused_file_leaves_nothing_behind(write_npz, cache):
    path = write_npz(val_labels=np.array([0, 1, 2, 0, 1, 1]))
    with pytest.raises(DataError) as error:
        load_prepared(Source(path, "", "a" * 64, False), "val", size=28, cache=cache)
    assert str(error.value) == (
        f"{path}: the labels of split 'val' must be 0 (normal) or 1 (pneumonia). Received: 2. "
        "Mend the file, or leave data.path unset to use the official one."
    )
    assert [path.suffix for path in (cache / "datasets").iterdir()] in ([], [".lock"])


def test_another_size_than_the_prepared_one_names_the_setting(source, cache, prepared):
    with pytest.raises(DataError, match=r"Received: 28 px\. Set data\.size to 28\."):
        load_prepared(source, "train", size=64, cache=cache)


def test_a_cache_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as error:
        load_prepared(source, "train", size=28, cache=tmp_path / "file")
    assert str(error.value).startswith(
        f"{tmp_path}/file/datasets/pneumonia_mnist-28-1.0.0-{source.sha256[:16]}-train: the cache must "
        "take the prepared films. Received: [Errno 20] Not a directory"
    )


def test_the_builder_is_an_ordinary_one_of_tfds(prepared):
    info = prepared.builder.info
    assert (info.name, str(info.version), info.config_name) == ("pneumonia_mnist", "1.0.0", "28")
    assert [config.name for config in PneumoniaMnist.BUILDER_CONFIGS] == ["28", "64", "128", "224"]
    assert info.features["label"].names == ["normal", "pneumonia"]
    assert info.features["image"].shape == (28, 28, 1)
    assert info.redistribution_info.license == ("CC BY 4.0, https://creativecommons.org/licenses/by/4.0/")
    assert info.homepage == "https://medmnist.com"
    assert "kermany2018" in info.citation
    example = prepared.builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})[0]
    assert example["image"].startswith(b"\x89PNG")


def test_the_builder_leaves_the_name_in_the_register_alone():
    assert tfds.builder_cls("pneumonia_mnist") is not PneumoniaMnist


def test_what_is_on_disk_tells_licence_and_counts(prepared):
    (notes,) = prepared.folder.rglob("1.0.0/metadata.json")
    assert json.loads(notes.read_text())["class_counts"] == [4, 8]
    assert "CC BY 4.0" in notes.with_name("LICENSE").read_text()


def test_pillow_reads_what_was_written(prepared, tmp_path):
    film = np.arange(784, dtype=np.uint8).reshape(28, 28)
    (tmp_path / "film.png").write_bytes(to_png(film))
    with Image.open(tmp_path / "film.png") as image:
        assert (image.mode, image.format) == ("L", "PNG")
        assert np.array_equal(np.asarray(image), film)
