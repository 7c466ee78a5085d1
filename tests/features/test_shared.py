import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

from pneumo_keras.errors import DataError
from pneumo_keras.features.extract import CHUNK, Extractor
from pneumo_keras.features.shared import SharedStore
from pneumo_keras.features.store import Store, list_entries
from pneumo_keras.features.views import PLAIN
from tests.damage import mutate
from tests.images import ImageArray
from tests.networks import build_network
from tests.toy import build_toy_backbone

CHUNKS = 3
N = CHUNKS * CHUNK - 5
IMAGES = ImageArray(
    np.random.default_rng(0).integers(0, 256, (N, 12, 12), dtype=np.uint8), np.zeros(N, np.int64)
)


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


@pytest.fixture(scope="module")
def frozen():
    return {
        layers: build_toy_backbone(feature_layers=layers) for layers in (("mixed4",), ("mixed4", "mixed10"))
    }


@pytest.fixture
def build(tmp_path, counted, frozen):
    """An extractor on a machine of that name, which averages images and counts the chunks."""

    def build(machine, address, feature_layers=("mixed4",), **settings):
        def build_averaging(backbone):
            def average(batches):
                for images in batches:
                    counted.append(len(images))
                    yield np.repeat(images.mean(axis=(1, 2, 3))[:, None], backbone.output_shape[-1], axis=1)

            return average

        shared = SharedStore(address, **settings) if address else None
        store = Store(tmp_path / machine, 10**9)
        return Extractor(build_network(frozen[feature_layers], build_averaging), store, shared)

    return build


def list_files(address):
    files, root = fsspec.core.url_to_fs(address)
    return sorted(path.rpartition("/")[2] for path in files.find(root))


def list_warnings(caplog):
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


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
    assert list_files(address) == ["about.json", "features.npy"]
    counted.clear()
    other = build("two", address)
    other.check_space([(IMAGES, [PLAIN])])
    second = other.extract(IMAGES, "images")[:]
    assert counted == []
    assert alone.tobytes() == first.tobytes() == second.tobytes()
    assert f"Features of images: from {address}" in caplog.messages
    assert not any(line.startswith("To pass the network") for line in caplog.messages[-3:])
    assert [entry.images for entry in list_entries(other.store.cache)] == [N]
    assert list_warnings(caplog) == []


def test_a_warm_cache_is_put_there_as_well(build, address, counted):
    features = build("one", "").extract(IMAGES, "images")[:]
    counted.clear()
    build("one", address).extract(IMAGES, "images")
    np.testing.assert_array_equal(build("two", address).extract(IMAGES, "images")[:], features)
    assert counted == []


def test_each_feature_layer_is_shared_by_itself(build, address, counted):
    build("one", address).extract(IMAGES, "images")
    both = build("two", address, feature_layers=("mixed4", "mixed10")).extract(IMAGES, "images")[:]
    counted.clear()
    again = build("three", address, feature_layers=("mixed4", "mixed10")).extract(IMAGES, "images")[:]
    np.testing.assert_array_equal(again, both)
    assert counted == []


@pytest.mark.parametrize(
    ("damage", "computed"),
    [("cut", 3), ("longer", 3), ("flipped", 1), ("empty", 3), ("a folder", 3), ("a pipe", 3), ("endless", 3)],
)
def test_what_is_damaged_is_computed_anew_and_replaced(build, tmp_path, counted, caplog, damage, computed):
    address = str(tmp_path / "shared")
    expected = build("one", address).extract(IMAGES, "images")[:]
    path = next(Path(address).glob("*/features.npy"))
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
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "endless":
            path.symlink_to("/dev/zero")
    counted.clear()
    np.testing.assert_array_equal(build("two", address).extract(IMAGES, "images")[:], expected)
    assert len(counted) == computed
    match damage:
        case "flipped":
            assert list_warnings(caplog) == [
                "Features of images: 1 of 3 chunks of mixed4 are damaged and are recomputed"
            ]
        case "a folder":  # what cannot be replaced stays
            (line,) = list_warnings(caplog)
            assert line.startswith(f"{address} cannot be written (")
            return
        case _:
            assert list_warnings(caplog) == []
    assert path.read_bytes() == whole


@pytest.mark.system
def test_25_mutations_of_what_is_shared_change_no_feature(build, tmp_path, counted, caplog):
    caplog.set_level(logging.ERROR)
    address = str(tmp_path / "shared")
    expected = build("one", address).extract(IMAGES, "images")[:]
    for seed in range(25):
        random = np.random.default_rng(seed)
        files = sorted(path for path in Path(address).rglob("*") if path.is_file())
        mutate(files[random.integers(len(files))], random)
        shutil.rmtree(tmp_path / "two", ignore_errors=True)
        np.testing.assert_array_equal(build("two", address).extract(IMAGES, "images")[:], expected)
    assert len(counted) > 12  # or nothing was damaged


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_a_store_that_cannot_be_written_is_told_once_and_the_features_stay(
    build, address, counted, monkeypatch, caplog
):
    monkeypatch.setattr(SharedStore, "_put_file", refuse)
    extractor = build("one", address)
    features = extractor.extract(IMAGES, "images")[:]
    extractor.extract(IMAGES, "images", PLAIN.mirror())
    assert list_warnings(caplog) == [
        f"{address} cannot be written (Permission denied): what is computed stays on this machine"
    ]
    counted.clear()
    np.testing.assert_array_equal(build("one", "").extract(IMAGES, "images")[:], features)
    assert counted == []


@pytest.mark.parametrize("method", ["info", "get_file"])
@pytest.mark.parametrize("required", [True, False])
def test_a_store_that_cannot_be_read_ends_the_job_where_somebody_has_just_named_it(
    build, address, monkeypatch, caplog, counted, method, required
):
    expected = build("one", address).extract(IMAGES, "images")[:]
    counted.clear()
    files, _ = fsspec.core.url_to_fs(address)
    monkeypatch.setattr(type(files), method, refuse)
    extractor = build("two", address, required=required)
    if required:
        with pytest.raises(DataError) as caught:
            extractor.extract(IMAGES, "images")
        assert str(caught.value) == (
            f"compute.store must name a store that can be read. Received: {address} (Permission denied). "
            "Check address, driver, credentials and network, or leave compute.store unset"
        )
        assert counted == []
        return
    np.testing.assert_array_equal(extractor.extract(IMAGES, "images")[:], expected)
    extractor.extract(IMAGES, "images", PLAIN.mirror())
    assert len(counted) == 2 * CHUNKS
    assert list_warnings(caplog) == [f"{address} cannot be read (Permission denied): continuing without it"]


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
    build("one", address, required=False).extract(IMAGES, "images")


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DataError, match=r"Received: s3://bucket/x \(Install s3fs to access S3\)\. Check"):
        SharedStore("s3://bucket/x")


@pytest.mark.system
def test_where_nothing_is_shared_fsspec_is_not_imported():
    code = (
        "import sys\n"
        "from pneumo_keras.config import load_config\n"
        "from pneumo_keras.recipes.extraction import build_extractor\n"
        "import pneumo_keras.recipes.train, pneumo_keras.recipes.evaluate, pneumo_keras.recipes.sweep\n"
        "from tests.toy import build_toy_backbone\n"
        "from tests.networks import build_network\n"
        "network = build_network(build_toy_backbone())\n"
        "for settings in [], ['compute.store=memory://x']:\n"
        "    extractor = build_extractor(load_config('demo', settings), network)\n"
        "    print(extractor.shared is not None, 'fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "False False\nTrue True\n", done.stderr
