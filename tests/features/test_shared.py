import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from pneumo_keras.features.objects import Objects

from pneumo_keras.data.images import ImageArray
from pneumo_keras.engines import choice
from pneumo_keras.errors import DataError
from pneumo_keras.features import part as part_module
from pneumo_keras.features import shared as module
from pneumo_keras.features.extract import CHUNK, Extractor
from pneumo_keras.features.shared import SharedStore
from pneumo_keras.features.store import Store, list_entries
from pneumo_keras.features.views import PLAIN
from pneumo_keras.model.classifier import FrozenPart
from pneumo_keras.model.preprocessing import build_resizing, build_scaling
from tests.damage import mutate
from tests.toy import SIZE, build_toy_backbone

CHUNKS = 2  # of a part, here
N = 3 * CHUNKS * CHUNK - CHUNK - 5  # three parts, of which the last has one chunk
IMAGES = ImageArray(
    np.random.default_rng(0).integers(0, 256, (N, 12, 12), dtype=np.uint8), np.zeros(N, np.int64)
)
FROZEN = {}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    for user in (part_module, module):
        monkeypatch.setattr(user, "CHUNKS", CHUNKS)


@pytest.fixture(params=["folder", "memory"])
def address(request, tmp_path):
    if request.param == "folder":
        yield str(tmp_path / "shared" / "features")
        return
    yield "memory://bucket/features"
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def counted():
    return []


@pytest.fixture
def build(tmp_path, counted):
    """An extractor on a machine of that name, which counts the chunks that pass its network."""

    def build_runner(backbone):
        stream = choice.build_runner(backbone, engine="keras", precision="float32")

        def count(batches):
            for features in stream(batches):
                counted.append(len(features))
                yield features

        return count

    def build(machine, address, feature_layers=("mixed10",), **settings):
        if feature_layers not in FROZEN:  # built and compiled once
            FROZEN[feature_layers] = FrozenPart(
                build_resizing(12, SIZE),
                build_scaling(SIZE),
                build_toy_backbone(feature_layers=feature_layers),
            )
        store = Store(tmp_path / machine, 10**9)
        shared = address and SharedStore(address, **settings)
        return Extractor(FROZEN[feature_layers], build_runner, {"engine": "keras"}, store, shared or None)

    return build


def list_objects(address):
    files, root = fsspec.core.url_to_fs(address)
    return sorted(path.rpartition("/")[2] for path in files.find(root))


def find_part(address, number):
    """The path of a part of the only entry in a folder."""
    return next(Path(address).glob(f"*/part-{number:06d}.npy"))


def test_a_folder_that_is_made_is_told_of(build, tmp_path, caplog):
    caplog.set_level(logging.INFO, "pneumo_keras")
    for machine in "one", "two":
        build(machine, str(tmp_path / "share")).extract(IMAGES, "images")
    said = f"{tmp_path / 'share'} is not there and is made: or is a share not mounted?"
    assert caplog.messages.count(said) == 1


def test_another_machine_computes_nothing_and_has_the_same_bytes(build, address, counted, caplog):
    caplog.set_level(logging.INFO, "pneumo_keras")
    alone = build("alone", "").extract(IMAGES, "images")[:]
    first = build("one", address).extract(IMAGES, "images")[:]
    assert list_objects(address) == ["about.json", *(f"part-{number:06d}.npy" for number in range(3))]
    counted.clear()
    other = build("two", address)
    other.check_room([(IMAGES, [PLAIN])])
    second = other.extract(IMAGES, "images")[:]
    assert counted == []
    assert alone.tobytes() == first.tobytes() == second.tobytes()
    assert f"Features of images: 5 of 5 chunks from {address}" in caplog.messages
    files = [entry.folder / "features.npy" for entry in list_entries(other.store.folder)]
    assert [np.load(file).tobytes() for file in files] == [alone.tobytes()]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


def test_what_is_only_partly_there_is_completed(build, address, counted):
    build("one", address).extract(IMAGES, "images")
    files, root = fsspec.core.url_to_fs(address)
    files.rm_file(next(path for path in files.find(root) if path.endswith("part-000001.npy")))
    counted.clear()
    second = build("two", address)
    second.check_room([(IMAGES, [PLAIN])])
    assert second._forecast._left == CHUNKS * CHUNK
    features = second.extract(IMAGES, "images")[:]
    assert len(counted) == CHUNKS
    np.testing.assert_array_equal(features, build("one", "").extract(IMAGES, "images")[:])
    assert len(list_objects(address)) == 4


def test_a_warm_cache_is_put_there_as_well(build, address, counted):
    features = build("one", "").extract(IMAGES, "images")[:]
    counted.clear()
    build("one", address).extract(IMAGES, "images")
    np.testing.assert_array_equal(build("two", address).extract(IMAGES, "images")[:], features)
    assert counted == []


def test_a_part_is_put_there_as_soon_as_it_is_whole(build, address, counted):
    extractor = build("one", address)
    build_runner = extractor.build_runner

    def build_breaking(backbone):
        def stream(batches):
            for index, features in enumerate(build_runner(backbone)(batches)):
                if index == 3:
                    raise KeyboardInterrupt
                yield features

        return stream

    with pytest.raises(KeyboardInterrupt):
        replace(extractor, build_runner=build_breaking).extract(IMAGES, "images")
    assert list_objects(address) == ["about.json", "part-000000.npy"]
    counted.clear()
    build("two", address).extract(IMAGES, "images")
    assert len(counted) == 3
    assert len(list_objects(address)) == 4


def test_each_feature_layer_is_shared_by_itself(build, address, counted):
    build("one", address, feature_layers=("mixed4",)).extract(IMAGES, "images")
    counted.clear()
    both = build("two", address, feature_layers=("mixed4", "mixed10")).extract(IMAGES, "images")[:]
    assert len(counted) == 5
    np.testing.assert_array_equal(
        build("three", address, feature_layers=("mixed4", "mixed10")).extract(IMAGES, "images")[:], both
    )
    assert len(counted) == 5


DAMAGES = ["cut", "longer", "flipped", "empty", "another part", "a folder", "a pipe", "endless"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_computed_anew_and_replaced(build, tmp_path, counted, caplog, damage):
    address = str(tmp_path / "shared")
    expected = build("one", address).extract(IMAGES, "images")[:]
    path = find_part(address, 0)
    whole = path.read_bytes()
    path.unlink()
    match damage:
        case "cut":
            path.write_bytes(whole[:-40])
        case "longer":
            path.write_bytes(whole + b"x")
        case "flipped":
            path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
        case "empty":
            path.touch()
        case "another part":
            shutil.copy(find_part(address, 1), path)
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "endless":
            path.symlink_to("/dev/zero")
    counted.clear()
    np.testing.assert_array_equal(build("two", address).extract(IMAGES, "images")[:], expected)
    assert len(counted) == CHUNKS
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    if damage in ("cut", "longer", "flipped", "empty", "another part"):
        (line,) = warnings
        assert line.startswith(f"{path} is damaged (it")
        assert line.endswith(") and is not used")
    if damage == "a folder":  # what cannot be replaced stays
        (line,) = warnings
        assert line.startswith(f"{address} cannot be written (")
    else:
        assert path.read_bytes() == whole


def test_200_mutations_of_the_objects_change_no_feature(build, tmp_path, counted, caplog):
    caplog.set_level(logging.ERROR)
    address = str(tmp_path / "shared")

    def build_fast(machine):
        return replace(build(machine, address), build_runner=build_averaging(counted))

    expected = build_fast("one").extract(IMAGES, "images")[:]
    for seed in range(200):
        lot = np.random.default_rng(seed)
        files = sorted(path for path in Path(address).rglob("*") if path.is_file())
        for _ in range(lot.integers(1, 3)):
            mutate_or_replace(files[lot.integers(len(files))], lot)
        shutil.rmtree(tmp_path / "two", ignore_errors=True)
        extractor = build_fast("two")
        np.testing.assert_array_equal(extractor.extract(IMAGES, "images")[:], expected)
        extractor.release()
        outside = {path.name for path in tmp_path.iterdir()}
        assert outside == {"one", "two", "shared"}
    assert len(counted) > 150  # or nothing was damaged


def build_averaging(counted):
    """A network that needs no compiling."""

    def average(batches):
        for images in batches:
            counted.append(len(images))
            yield np.repeat(images.mean(axis=(1, 2, 3))[:, None], 6, axis=1)

    return lambda backbone: average


def mutate_or_replace(file, lot):
    if file.exists() and file.stat().st_size and lot.integers(8):
        mutate(file, lot)
    else:
        file.unlink(missing_ok=True)


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_a_store_that_cannot_be_written_is_told_once_and_the_features_stay(
    build, address, counted, monkeypatch, caplog
):
    monkeypatch.setattr(Objects, "write", refuse)
    extractor = build("one", address)
    features = extractor.extract(IMAGES, "images")[:]
    extractor.extract(IMAGES, "images", PLAIN.mirror())
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"{address} cannot be written (Permission denied): what is computed stays on this machine"
    ]
    counted.clear()
    np.testing.assert_array_equal(build("one", "").extract(IMAGES, "images")[:], features)
    assert counted == []


def test_a_store_that_fills_up_keeps_what_it_has(build, address, monkeypatch, caplog, counted):
    write, written = Objects.write, []

    def write_two(objects, name, content):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(name)
        write(objects, name, content)

    monkeypatch.setattr(Objects, "write", write_two)
    features = build("one", address).extract(IMAGES, "images")[:]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"{address} cannot be written (No space left on device): what is computed stays on this machine"
    ]
    monkeypatch.undo()
    assert list_objects(address) == ["about.json", "part-000000.npy"]
    np.testing.assert_array_equal(features, build("alone", "").extract(IMAGES, "images")[:])


@pytest.mark.parametrize("method", ["list_sizes", "read"])
def test_a_named_store_that_cannot_be_read_ends_the_job_in_one_line(
    build, address, monkeypatch, counted, method
):
    build("one", address).extract(IMAGES, "images")
    counted.clear()
    monkeypatch.setattr(Objects, method, refuse)
    extractor = build("two", address)
    with pytest.raises(DataError) as caught:
        extractor.extract(IMAGES, "images")
    assert str(caught.value) == (
        f"compute.store must name a store that can be read. Received: {address} (Permission denied). Check "
        "address, driver, credentials and network, or leave compute.store unset"
    )
    assert counted == []


@pytest.mark.parametrize("method", ["__init__", "list_sizes", "read"])
def test_a_store_that_nobody_named_just_now_is_done_without(
    build, address, monkeypatch, caplog, counted, method
):
    expected = build("one", address).extract(IMAGES, "images")[:]
    counted.clear()
    monkeypatch.setattr(Objects, method, refuse)
    extractor = build("two", address, must_answer=False)
    extractor.check_room([(IMAGES, [PLAIN])])
    np.testing.assert_array_equal(extractor.extract(IMAGES, "images")[:], expected)
    extractor.extract(IMAGES, "images", PLAIN.mirror())
    assert len(counted) == 10
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"{address} cannot be read (Permission denied): it is done without"
    ]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("odd://bucket/x", "(Protocol not known: odd)"),
        ("s3::zip://x", "("),
        ("http://127.0.0.1:1/x", "("),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(build, address, words):
    with pytest.raises(DataError, match=r"^compute\.store must name a store that can be read\. ") as caught:
        build("one", address).extract(IMAGES, "images")
    line = str(caught.value)
    assert words in line and len(line) < 500 and line.isprintable()


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DataError, match=r"Received: s3://bucket/x \(Install s3fs to access S3\)\. Check"):
        SharedStore("s3://bucket/x")


def test_a_folder_is_written_whole_and_nothing_else_appears(build, tmp_path):
    build("one", f"file://{tmp_path}/shared").extract(IMAGES, "images")
    names = sorted(path.name for path in (tmp_path / "shared").rglob("*") if path.is_file())
    assert names == ["about.json", "part-000000.npy", "part-000001.npy", "part-000002.npy"]


def test_where_nothing_is_shared_fsspec_is_not_imported():
    code = (
        "import sys\n"
        "from pneumo_keras.config import load_config\n"
        "from pneumo_keras.recipes.network import build_extractor\n"
        "import pneumo_keras.recipes.train, pneumo_keras.recipes.evaluate, pneumo_keras.recipes.sweep\n"
        "from tests.toy import build_toy_backbone\n"
        "from pneumo_keras.model.classifier import build_frozen_part\n"
        "frozen = build_frozen_part(build_toy_backbone(), data_size=28)\n"
        "for settings in [], ['compute.store=memory://x']:\n"
        "    extractor = build_extractor(load_config('demo', settings), frozen)\n"
        "    print(extractor.shared is not None, 'fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "False False\nTrue True\n", done.stderr
