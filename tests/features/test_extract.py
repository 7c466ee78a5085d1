import functools
import logging
import os
import shutil
import signal
import tempfile
import threading
import tracemalloc
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pneumo_keras.errors import DataError, ModelError, SettingsError
from pneumo_keras.features import extract as module
from pneumo_keras.features import store as store_module
from pneumo_keras.features import views as views_module
from pneumo_keras.features.augmentation import AugmentationRanges
from pneumo_keras.features.extract import CHUNK, Extractor
from pneumo_keras.features.store import Store, list_entries
from pneumo_keras.features.views import PLAIN, build_augmented_views, build_perturbed_view
from pneumo_keras.model.classifier import build_scaling
from pneumo_keras.storage.chunked_array import ChunkedArray
from tests.damage import mutate
from tests.images import ImageArray
from tests.networks import KERAS, build_network
from tests.toy import SIZE, build_toy_backbone

N = 2 * CHUNK + 5
STRENGTHS = AugmentationRanges(rotation_degrees=15.0, horizontal_flip=True, brightness=0.1, contrast=0.1)
MIRRORED = PLAIN.mirror()


def draw_images(seed, n=N):
    random = np.random.default_rng(seed)
    return ImageArray(random.integers(0, 256, (n, 12, 12), dtype=np.uint8), random.integers(0, 2, n))


IMAGES, OTHERS = draw_images(0), draw_images(1)


@functools.cache
def build_backbone(feature_layers):
    """Built and compiled once; who changes it builds its own."""
    return build_toy_backbone(feature_layers=feature_layers)


def build_toy_extractor(
    cache, limit=10**9, feature_layers=("mixed10",), backbone=None, build_runner=KERAS, **about
):
    backbone = backbone or build_backbone(feature_layers)
    return Extractor(
        network=build_network(backbone, build_runner, **about),
        store=Store(cache, limit),
    )


@pytest.fixture
def counted():
    return []


@pytest.fixture
def build_extractor(tmp_path, counted):
    def build_runner(backbone):
        stream = KERAS(backbone)

        def count(batches):
            for features in stream(batches):
                counted.append(features.shape)
                yield features

        return count

    def build(**settings):
        return build_toy_extractor(tmp_path, **{"build_runner": build_runner, **settings})

    return build


def build_view(index=1, seed=3):
    return build_augmented_views(index, STRENGTHS, seed=seed)[-1]


def compute_directly(feature_layers, view=PLAIN, images=IMAGES):
    arrays = view.enlarge(images.images, np.arange(len(images)), SIZE)[..., None]
    return np.asarray(build_backbone(feature_layers)(build_scaling(SIZE)(arrays)))


def test_features_are_those_of_the_network(build_extractor):
    extractor = build_extractor(feature_layers=("mixed10", "mixed4"))
    features = extractor.extract(IMAGES, "images")[:]
    np.testing.assert_allclose(features, compute_directly(("mixed10", "mixed4")), atol=1e-6)


def test_a_second_time_they_come_from_the_cache(build_extractor, counted):
    first = build_extractor().extract(IMAGES, "images")[:]
    passes = len(counted)
    np.testing.assert_array_equal(build_extractor().extract(IMAGES, "images")[:], first)
    assert (passes, len(counted)) == (3, 3)


def test_a_feature_layer_that_is_there_is_not_computed_again(build_extractor, counted):
    build_extractor(feature_layers=("mixed4",)).extract(IMAGES, "images")
    both = build_extractor(feature_layers=("mixed4", "mixed10"))
    np.testing.assert_allclose(
        both.extract(IMAGES, "images")[:], compute_directly(("mixed4", "mixed10")), atol=1e-6
    )
    assert counted == [(CHUNK, 6)] * 6


@pytest.mark.parametrize(
    "change", ["images", "weights", "graph", "engine", "view", "package", "keras", "jax"]
)
def test_whatever_changes_features_changes_their_address(build_extractor, counted, monkeypatch, change):
    build_extractor().extract(IMAGES, "images")
    images, view, settings = IMAGES, PLAIN, {}
    match change:
        case "images":
            images = ImageArray(np.roll(IMAGES.images, 1, axis=0), IMAGES.labels)
        case "engine":
            settings = {"engine": "other"}
        case "view":
            view = build_view()
        case "weights" | "graph":
            backbone = build_backbone.__wrapped__(("mixed10",))
            settings = {"backbone": backbone}
            if change == "weights":
                backbone.weights[0].assign(backbone.weights[0] * 1.5)
            else:
                backbone.get_layer("mixed4_norm").epsilon = 0.5
        case "package":
            monkeypatch.setattr("pneumo_keras.__version__", "next")
        case "keras" | "jax":
            find = module.importlib.metadata.version
            monkeypatch.setattr(
                module.importlib.metadata, "version", lambda name: "next" if name == change else find(name)
            )
    extractor = build_extractor(**settings)
    extractor.extract(images, "images", view)
    assert len(counted) == 6


def test_the_version_of_what_the_engine_runs_on_is_part_of_the_address():
    assert "openvino" not in module.list_versions("keras")
    assert set(module.list_versions("openvino")) >= {"pneumo-keras", "keras", "jax", "jaxlib", "openvino"}


def test_every_way_of_varying_images_has_an_address_of_its_own(build_extractor, counted, monkeypatch):
    def extract(ranges=STRENGTHS, seed=3, mirrored=False):
        view = build_perturbed_view(ranges, seed=seed)
        build_extractor().extract(IMAGES, "images", view.mirror() if mirrored else view)
        return len(counted)

    assert [extract(), extract()] == [3, 3]
    assert extract(seed=4) == 6
    changes = {"zoom": 1.1, "aspect": 1.1, "shift": 0.1, "gamma": 1.1, "fill": "mirror", "contrast": 0.2}
    assert extract(mirrored=True) == 9
    for times, change in enumerate(changes.items(), start=4):
        assert extract(replace(STRENGTHS, **dict([change]))) == 3 * times
    monkeypatch.setattr(views_module, "list_drawing_versions", lambda: {"pillow": "another"})
    assert extract() == 30


@pytest.mark.parametrize("view", [PLAIN, MIRRORED, build_view()])
def test_features_do_not_depend_on_the_size_of_a_chunk(build_extractor, monkeypatch, view):
    whole = build_extractor().extract(IMAGES, "images", view)[:]
    for user in (module, store_module):
        monkeypatch.setattr(user, "CHUNK", CHUNK - 3)
    other = build_extractor(engine="other").extract(IMAGES, "images", view)[:]
    np.testing.assert_allclose(other, whole, atol=1e-6)


def test_labels_do_not_change_features(build_extractor, counted):
    build_extractor().extract(IMAGES, "images")
    build_extractor().extract(ImageArray(IMAGES.images, 1 - IMAGES.labels), "images")
    assert len(counted) == 3


def test_an_augmented_view_is_another_and_repeats_itself(build_extractor, tmp_path):
    extractor = build_extractor()
    plain = extractor.extract(IMAGES, "images")[:]
    view = extractor.extract(IMAGES, "images", build_view())[:]
    other = extractor.extract(IMAGES, "images", build_view(index=2))[:]
    assert np.abs(view - plain).max() > 1e-3
    assert np.abs(view - other).max() > 1e-3
    again = build_extractor(engine="elsewhere").extract(IMAGES, "images", build_view())[:]
    np.testing.assert_array_equal(again, view)


def test_a_varied_view_is_that_of_the_images_whatever_came_before(build_extractor):
    extractor = build_extractor()
    view = build_perturbed_view(STRENGTHS, seed=3)
    expected = compute_directly(("mixed10",), view)
    np.testing.assert_allclose(extractor.extract(IMAGES, "images", view)[:], expected, atol=1e-5)
    images, mirrored = (each.enlarge(IMAGES.images, range(N), SIZE) for each in (view, view.mirror()))
    np.testing.assert_allclose(mirrored, images[:, :, ::-1], atol=1e-3)


def test_images_larger_than_an_image_are_averaged_before_they_are_varied():
    checkers = (np.indices((4 * SIZE, 4 * SIZE)).sum(axis=0) % 2 * 255).astype(np.uint8)
    images = build_perturbed_view(AugmentationRanges(rotation_degrees=15.0), seed=1).enlarge(
        checkers[None], [0], SIZE
    )
    centre = images[0, SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4]
    np.testing.assert_allclose(centre, 127.5, atol=2)


@pytest.mark.parametrize("view", [PLAIN, build_view()])
def test_a_broken_off_extraction_goes_on_where_it_stopped(build_extractor, counted, view):
    whole = build_extractor(engine="undisturbed").extract(IMAGES, "images", view)[:]
    extractor = build_extractor()
    counted.clear()
    build_runner = extractor.network.build_runner

    def build_breaking(layers):
        def stream(batches):
            for index, features in enumerate(build_runner(layers)(batches)):
                if index == 2:
                    raise KeyboardInterrupt
                yield features

        return stream

    object.__setattr__(extractor.network, "build_runner", build_breaking)
    with pytest.raises(KeyboardInterrupt):
        extractor.extract(IMAGES, "images", view)
    counted.clear()
    np.testing.assert_array_equal(build_extractor().extract(IMAGES, "images", view)[:], whole)
    assert len(counted) == 1


def test_a_full_cache_loses_the_oldest_features(build_extractor, counted):
    build_extractor(engine="first").extract(IMAGES, "images")
    second = build_extractor(engine="second", limit=3500)
    second.check_space([(IMAGES, [PLAIN])])
    second.extract(IMAGES, "images")
    counted.clear()
    build_extractor(engine="second").extract(IMAGES, "images")
    assert counted == []
    build_extractor(engine="first").extract(IMAGES, "images")
    assert len(counted) == 3


def test_features_are_asked_for_once(build_extractor, caplog):
    extractor = build_extractor()
    with caplog.at_level(logging.INFO, "pneumo_keras"):
        first = extractor.extract(IMAGES, "images")
        assert extractor.extract(ImageArray(IMAGES.images, IMAGES.labels), "images") is first
        extractor.extract(IMAGES, "images", MIRRORED)
    assert [line.split(":")[0] for line in caplog.messages] == [
        "Features of images",
        "Features of images, mirrored",
    ]


def test_some_feature_layers_of_all_that_were_extracted_at_once(build_extractor, counted):
    both = build_extractor(feature_layers=("mixed4", "mixed10")).extract(IMAGES, "images")
    np.testing.assert_allclose(both.select(["mixed10"])[:], compute_directly(("mixed10",)), atol=1e-6)
    assert counted == [(CHUNK, 12)] * 3


def test_ten_views_in_a_tiny_cache_are_refused_before_anything_is_computed(build_extractor, counted):
    extractor = build_extractor(limit=11 * N * 6 * 4)
    views = build_augmented_views(10, STRENGTHS, seed=1)
    extractor.check_space([(IMAGES, views)])
    with pytest.raises(SettingsError, match=r"cache_gigabytes must be at least .* lower augmentation.views"):
        extractor.check_space([(IMAGES, [PLAIN, *views]), (OTHERS, [PLAIN])])
    assert counted == []
    assert list_entries(extractor.store.cache) == []


def test_features_that_are_there_need_no_more_room_on_the_disk(build_extractor, monkeypatch):
    extractor = build_extractor()
    extractor.extract(IMAGES, "images")
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    extractor.check_space([(IMAGES, [PLAIN])])
    with pytest.raises(DataError, match=r"take another 0\.01 GB in .* Received: 0\.00 GB free"):
        extractor.check_space([(IMAGES, [PLAIN, MIRRORED])])


@dataclass
class EndlessImages:
    """Images that are made when they are read, and remember how many were read at once."""

    n: int
    most: int = 0
    shape = (64, 64)

    def __len__(self):
        return self.n

    def fingerprint(self):
        return str(self.n)

    def read(self, rows):
        indices = np.arange(self.n)[rows]
        self.most = max(self.most, len(indices))
        return np.tile((indices % 256).astype(np.uint8)[:, None, None], (1, *self.shape))


def test_images_are_never_in_memory_all_at_once(build_extractor):
    def average(batches):
        for arrays in batches:
            yield np.repeat(arrays.mean(axis=(1, 2, 3))[:, None], 6, axis=1)

    peaks = []
    for n in (500, 10_000):  # 2 and 40 MB
        images = EndlessImages(n)
        tracemalloc.start()
        build_extractor(build_runner=lambda backbone: average).extract(images, "images")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert images.most == CHUNK
    assert peaks[1] - peaks[0] < 2e6


def kill_after(chunks, store):
    """Runs in a process of its own and is killed in the middle of an extraction."""
    extractor = build_toy_extractor(store, build_runner=lambda backbone: break_network(backbone, chunks))
    extractor.extract(IMAGES, "images")


def break_network(backbone, chunks):
    def kill(batches):
        for index, features in enumerate(KERAS(backbone)(batches)):
            if index == chunks:
                os.kill(os.getpid(), signal.SIGKILL)
            yield features

    return kill


@pytest.mark.system
def test_a_killed_extraction_goes_on_at_the_chunk_where_it_stopped(build_extractor, counted, tmp_path):
    process = get_context("spawn").Process(target=kill_after, args=(2, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    features = build_extractor().extract(IMAGES, "images")[:]
    assert len(counted) == 1
    np.testing.assert_array_equal(features, build_extractor(engine="whole").extract(IMAGES, "images")[:])


def test_two_threads_that_share_a_cache_compute_features_once(build_extractor, counted):
    extractors = [build_extractor() for _ in range(2)]
    threads = [threading.Thread(target=one.extract, args=(IMAGES, "images")) for one in extractors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 3


def extract_damaged(build_extractor, damage, view=PLAIN):
    """Features of two feature layers before and after something was done to their entries."""
    feature_layers = ("mixed4", "mixed10")
    before = build_extractor(feature_layers=feature_layers).extract(IMAGES, "images", view)[:]
    folders = sorted(entry.folder for entry in list_entries(build_extractor().store.cache))
    damage(folders)
    return before, build_extractor(feature_layers=feature_layers).extract(IMAGES, "images", view)[:]


@pytest.mark.parametrize("view", [PLAIN, build_view()])
def test_a_flipped_bit_has_one_chunk_computed_anew_and_says_so(build_extractor, counted, caplog, view):
    def flip(folders):
        counted.clear()
        content = bytearray((folders[0] / "features.npy").read_bytes())
        content[-13] ^= 64
        (folders[0] / "features.npy").write_bytes(content)

    before, after = extract_damaged(build_extractor, flip, view)
    np.testing.assert_array_equal(after, before)
    assert len(counted) == 1
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert ": 1 of 3 chunks of mixed" in warning
    assert warning.endswith(" are damaged and are recomputed")
    counted.clear()
    build_extractor(feature_layers=("mixed4", "mixed10")).extract(IMAGES, "images", view)
    assert counted == []


@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 200), marks=pytest.mark.system)])
def test_whatever_happens_to_the_files_the_features_are_the_same(build_extractor, caplog, seeds):
    caplog.set_level(logging.CRITICAL)
    extractor = build_extractor(feature_layers=("mixed4", "mixed10"))
    expected = extractor.extract(IMAGES, "images")[:]
    for seed in seeds:
        random = np.random.default_rng(seed)
        files = sorted(extractor.store.folder.glob("*/[af]*"))
        for _ in range(random.integers(1, 4)):
            mutate_or_replace(files[random.integers(len(files))], random)
        extractor = build_extractor(feature_layers=("mixed4", "mixed10"))
        extractor.check_space([(IMAGES, [PLAIN])])
        np.testing.assert_array_equal(extractor.extract(IMAGES, "images")[:], expected)


def mutate_or_replace(file, random):
    kind = random.integers(12)
    if kind > 2 and file.is_file() and file.stat().st_size:
        mutate(file, random)
        return
    file.unlink(missing_ok=True)
    match kind:
        case 1:
            os.mkfifo(file)
        case 2:
            file.symlink_to("/dev/zero")


def test_features_that_are_no_numbers_are_refused(build_extractor):
    def spoil(backbone):
        def stream(batches):
            for index, features in enumerate(KERAS(backbone)(batches)):
                features = np.array(features)
                features[3, 2] = np.nan if index == 1 else 0
                yield features

        return stream

    with pytest.raises(ModelError) as caught:
        build_extractor(build_runner=spoil).extract(IMAGES, "images")
    assert str(caught.value) == (
        "Features of images must be finite numbers. Received: NaN or infinity from the frozen network. "
        "Check the file of model.weights, or set compute.precision to float32."
    )


@pytest.mark.parametrize("full", ["features.npy", "about.json"])
def test_no_room_for_features_is_one_line_and_what_was_computed_stays(
    build_extractor, counted, monkeypatch, full
):
    whole = build_extractor(engine="undisturbed").extract(IMAGES, "images")[:]
    counted.clear()
    write = ChunkedArray.write

    def fill_disk(*_, **__):
        raise OSError(28, "No space left on device")

    def write_one(array, chunk, rows):
        write(array, chunk, rows) if chunk == 0 else fill_disk()

    match full:
        case "features.npy":
            monkeypatch.setattr(ChunkedArray, "write", write_one)
        case "about.json":
            monkeypatch.setattr(store_module, "write_atomically", fill_disk)
    with pytest.raises(DataError) as caught:
        build_extractor().extract(IMAGES, "images")
    assert str(caught.value) == (
        f"{build_extractor().store.folder}: the cache must take the features. Received: No space left on "
        "device. Free space there, or name another folder with PNEUMO_KERAS_CACHE; what was computed stays."
    )
    assert len(counted) == (2 if full == "features.npy" else 0)
    monkeypatch.undo()
    counted.clear()
    np.testing.assert_array_equal(build_extractor().extract(IMAGES, "images")[:], whole)
    assert len(counted) == (2 if full == "features.npy" else 3)


@pytest.fixture
def readable_only():
    """A folder whose files can be read and not written, by root neither, from the call on."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    user = os.geteuid()

    def lock():
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        if user == 0:
            os.seteuid(65534)

    yield folder, lock
    os.seteuid(user)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_warm_cache_that_can_only_be_read_will_do(readable_only, caplog):
    folder, lock = readable_only
    first = build_toy_extractor(folder).extract(IMAGES, "images")[:]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    lock()
    caplog.clear()
    caplog.set_level(logging.INFO, "pneumo_keras")
    extractor = build_toy_extractor(folder)
    extractor.check_space([(IMAGES, [PLAIN])])
    np.testing.assert_array_equal(extractor.extract(IMAGES, "images")[:], first)
    assert caplog.messages == ["Features of images: from the cache"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("state", ["cold", "damaged", "not there"])
def test_a_cache_that_can_only_be_read_and_lacks_features_gets_one_line(readable_only, state):
    folder, lock = readable_only
    extractor = build_toy_extractor(folder)
    if state != "not there":
        extractor.extract(OTHERS if state == "cold" else IMAGES, "images")
    if state == "damaged":
        (entry,) = list_entries(folder)
        mutate(entry.folder / "features.npy", np.random.default_rng(1))
    lock()
    with pytest.raises(DataError) as caught:
        build_toy_extractor(folder).extract(IMAGES, "images")
    assert str(caught.value) == (
        f"{folder}/features: the cache must take the features. Received: Permission denied. Free space "
        "there, or name another folder with PNEUMO_KERAS_CACHE; what was computed stays."
    )
    if state == "not there":
        with pytest.raises(DataError, match="must take the features"):
            extractor.check_space([(IMAGES, [PLAIN])])
