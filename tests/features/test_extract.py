import os
import signal
from multiprocessing import get_context

import numpy as np
import pytest

from pneumo_keras.data.films import FilmArray
from pneumo_keras.engines import choice as engines
from pneumo_keras.features.augmentation import build_augmentation, build_variation
from pneumo_keras.features.extract import CHUNK, Extractor, View
from pneumo_keras.model.preprocessing import build_resizing, build_scaling
from tests.toy import SIZE, build_toy_backbone

N = 2 * CHUNK + 5
RANDOM = np.random.default_rng(0)
FILMS = FilmArray(RANDOM.integers(0, 256, (N, 12, 12), dtype=np.uint8), RANDOM.integers(0, 2, N))


@pytest.fixture
def counted():
    return []


@pytest.fixture
def build_extractor(tmp_path, counted):
    def build(taps=("mixed10",), limit=10**9, **about):
        def build_network(backbone):
            stream = engines.build_runner(backbone, engine="keras", precision="float32")

            def count(batches):
                for features in stream(batches):
                    counted.append(features.shape)
                    yield features

            return count

        return Extractor(
            resize=build_resizing(SIZE),
            scale=build_scaling(SIZE),
            backbone=build_toy_backbone(taps=taps),
            build_network=build_network,
            about={"engine": "keras", **about},
            store=tmp_path / "features",
            limit=limit,
        )

    return build


def build_view(index=1, seed=3):
    augmentation = build_augmentation(
        rotation_degrees=15, horizontal_flip=True, brightness=0.1, contrast=0.1, seed=seed
    )
    return View(build_variation(augmentation), key=(seed, index), about={"view": index, "seed": seed})


def compute_directly(extractor):
    films = FILMS.images[..., None].astype(np.float32)
    return np.asarray(extractor.backbone(extractor.scale(extractor.resize(films))))


def test_features_are_those_of_the_network(build_extractor):
    extractor = build_extractor(taps=("mixed10", "mixed4"))
    features = extractor.extract(FILMS, "films")[:]
    np.testing.assert_allclose(features, compute_directly(extractor), atol=1e-6)


def test_a_second_time_they_come_from_the_cache(build_extractor, counted):
    first = build_extractor().extract(FILMS, "films")[:]
    passes = len(counted)
    np.testing.assert_array_equal(build_extractor().extract(FILMS, "films")[:], first)
    assert (passes, len(counted)) == (3, 3)


def test_a_tap_that_is_there_is_not_computed_again(build_extractor, counted):
    build_extractor(taps=("mixed4",)).extract(FILMS, "films")
    both = build_extractor(taps=("mixed4", "mixed10"))
    np.testing.assert_allclose(both.extract(FILMS, "films")[:], compute_directly(both), atol=1e-6)
    assert counted == [(CHUNK, 6)] * 6


@pytest.mark.parametrize("change", ["films", "weights", "engine", "view"])
def test_whatever_changes_features_changes_their_address(build_extractor, counted, change):
    build_extractor().extract(FILMS, "films")
    films, view, about = FILMS, View(), {}
    if change == "films":
        films = FilmArray(np.roll(FILMS.images, 1, axis=0), FILMS.labels)
    elif change == "engine":
        about = {"engine": "other"}
    elif change == "view":
        view = build_view()
    extractor = build_extractor(**about)
    if change == "weights":
        extractor.backbone.weights[0].assign(extractor.backbone.weights[0] * 1.5)
    extractor.extract(films, "films", view)
    assert len(counted) == 6


def test_labels_do_not_change_features(build_extractor, counted):
    build_extractor().extract(FILMS, "films")
    build_extractor().extract(FilmArray(FILMS.images, 1 - FILMS.labels), "films")
    assert len(counted) == 3


def test_an_augmented_view_is_another_and_repeats_itself(build_extractor, tmp_path):
    extractor = build_extractor()
    plain = extractor.extract(FILMS, "films")[:]
    view = extractor.extract(FILMS, "films", build_view())[:]
    other = extractor.extract(FILMS, "films", build_view(index=2))[:]
    assert np.abs(view - plain).max() > 1e-3
    assert np.abs(view - other).max() > 1e-3
    again = build_extractor(engine="elsewhere").extract(FILMS, "films", build_view())[:]
    np.testing.assert_array_equal(again, view)


@pytest.mark.parametrize("view", [View(), build_view()])
def test_a_broken_off_extraction_goes_on_where_it_stopped(build_extractor, counted, view):
    whole = build_extractor(engine="undisturbed").extract(FILMS, "films", view)[:]
    extractor = build_extractor()
    counted.clear()
    build_network = extractor.build_network

    def build_breaking(backbone):
        def stream(batches):
            for index, features in enumerate(build_network(backbone)(batches)):
                if index == 2:
                    raise KeyboardInterrupt
                yield features

        return stream

    object.__setattr__(extractor, "build_network", build_breaking)
    with pytest.raises(KeyboardInterrupt):
        extractor.extract(FILMS, "films", view)
    counted.clear()
    np.testing.assert_array_equal(build_extractor().extract(FILMS, "films", view)[:], whole)
    assert len(counted) == 1


def test_a_full_cache_loses_the_oldest_features(build_extractor, counted):
    build_extractor(engine="first").extract(FILMS, "films")
    build_extractor(engine="second", limit=3000).extract(FILMS, "films")
    counted.clear()
    build_extractor(engine="second").extract(FILMS, "films")
    assert counted == []
    build_extractor(engine="first").extract(FILMS, "films")
    assert len(counted) == 3


def kill_after(chunks, store):
    """Runs in a process of its own and is killed in the middle of an extraction."""
    extractor = Extractor(
        resize=build_resizing(SIZE),
        scale=build_scaling(SIZE),
        backbone=build_toy_backbone(),
        build_network=lambda backbone: break_network(backbone, chunks),
        about={"engine": "keras"},
        store=store,
        limit=10**9,
    )
    extractor.extract(FILMS, "films")


def break_network(backbone, chunks):
    stream = engines.build_runner(backbone, engine="keras", precision="float32")

    def kill(batches):
        for index, features in enumerate(stream(batches)):
            if index == chunks:
                os.kill(os.getpid(), signal.SIGKILL)
            yield features

    return kill


def test_a_killed_extraction_goes_on_at_the_chunk_where_it_stopped(build_extractor, counted, tmp_path):
    process = get_context("spawn").Process(target=kill_after, args=(2, tmp_path / "features"))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    features = build_extractor().extract(FILMS, "films")[:]
    assert len(counted) == 1
    np.testing.assert_array_equal(features, build_extractor(engine="whole").extract(FILMS, "films")[:])
