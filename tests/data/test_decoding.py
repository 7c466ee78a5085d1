import logging
import multiprocessing
import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data import decoding
from pneumo_keras.data.decoding import Decoders, decode_films
from pneumo_keras.data.pictures import Limits

RANDOM = np.random.default_rng(0)


@pytest.fixture
def films(tmp_path):
    images = RANDOM.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index:02}.png")
    return tmp_path, images


def test_films_come_in_the_order_of_their_paths(films):
    folder, images = films
    paths = [str(folder / f"{index:02}.png") for index in range(40)]
    paths.insert(7, str(folder / "none.png"))
    paths.insert(20, "with\0null.png")
    decoded = list(decode_films(paths, size=28, workers=2))
    assert [film.path for film in decoded] == paths
    reasons = {film.path: film.reason for film in decoded if film.image is None}
    assert reasons == {
        paths[7]: "No such file or directory",
        paths[20]: "it cannot be decoded: embedded null byte",
    }
    np.testing.assert_array_equal([film.image for film in decoded if film.image is not None], images)
    assert decoded[0].shape == (28, 28)


def test_paths_are_drawn_as_they_are_needed(films):
    folder, _ = films
    drawn = []

    def draw():
        for index in range(1000):
            drawn.append(index)
            yield str(folder / f"{index % 40:02}.png")

    decoded = decode_films(draw(), size=28, workers=1)
    next(decoded)
    assert len(drawn) <= decoding.AHEAD + 2
    decoded.close()


def hang_or_crash(path, size, limits, shown):
    if "hang" in path:
        time.sleep(60)
    if "crash" in path:
        os._exit(11)
    return decoding.DecodedFilm(path, np.zeros((size, size), np.uint8))


def test_a_decoder_that_hangs_or_crashes_costs_one_film(monkeypatch):
    monkeypatch.setattr(decoding, "decode_file", hang_or_crash)
    started = time.monotonic()
    with Decoders(4, workers=1, limits=Limits(seconds=1)) as decoders:
        decoded = list(decoders.decode(["a", "hang", "b", "crash", "c"]))
    assert [film.reason for film in decoded] == [
        "",
        "it took more than 1 s to decode",
        "",
        "its decoder crashed",
        "",
    ]
    assert time.monotonic() - started < 30


def test_memory_that_a_file_asks_for_is_not_given(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("L", (12_000, 12_000)).save(path)
    assert Path(path).stat().st_size < 500_000
    (decoded,) = decode_films([str(path)], size=28, workers=1)
    assert decoded.reason == "it has 12,000 x 12,000 pixels, more than 50,000,000"


def test_decoders_that_somebody_ended_are_replaced(films):
    folder, _ = films
    with Decoders(28, workers=1) as decoders:
        assert decoders.submit(str(folder / "00.png")).result().image is not None
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        time.sleep(0.5)
        later = [decoders._wait("x", decoders.submit(str(folder / "01.png"))) for _ in range(3)]
    assert later[-1].image is not None
    assert all(film.reason in ("", "its decoder crashed") for film in later)


def test_a_limit_of_memory_that_is_lower_already_stays(monkeypatch):
    given = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1000, 2000))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: given.append(limits))
    monkeypatch.setattr(logging, "disable", lambda: None)
    decoding._settle(3000)
    assert given == [(2000, 2000)]


def test_decoders_that_were_closed_begin_nothing_new(films):
    folder, _ = films
    with Decoders(28, workers=1) as decoders:
        pass
    with pytest.raises(RuntimeError):
        decoders.submit(str(folder / "00.png"))
    assert not multiprocessing.active_children()
