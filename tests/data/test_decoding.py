import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data import decoding
from pneumo_keras.data.decoding import decode_films
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
    decoded = list(
        decode_films(["a", "hang", "b", "crash", "c"], size=4, workers=1, limits=Limits(seconds=1))
    )
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
