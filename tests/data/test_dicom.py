from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless

from pneumo_keras.data.image_preparation import Preparation, prepare_image
from pneumo_keras.data.pictures import load_film
from pneumo_keras.errors import DataError
from tests.data.dicom_files import build_dataset, save

RANDOM = np.random.default_rng(0)
FILM = RANDOM.integers(0, 256, (28, 28), dtype=np.uint8)


def load(pixels, **tags):
    film = load_film(save(build_dataset(pixels, **tags)))
    return prepare_image(film, Preparation(min(pixels.shape[:2])))


def test_a_film_of_eight_bits_comes_as_it_was_saved():
    np.testing.assert_array_equal(load(FILM), FILM)


def test_where_zero_is_white_the_film_is_inverted():
    np.testing.assert_array_equal(load(255 - FILM, PhotometricInterpretation="MONOCHROME1"), FILM)


def test_the_range_is_that_of_the_bits_stored():
    np.testing.assert_allclose(
        load(FILM.astype(np.uint16) * 16, bits=12), FILM * (255 * 16 / 4095), atol=0.51
    )
    signed = FILM.astype(np.int16) * 16 - 2048
    np.testing.assert_allclose(load(signed, bits=12), FILM * (255 * 16 / 4095), atol=0.51)


def test_slope_intercept_and_window_show_what_a_viewer_shows():
    stored = FILM.astype(np.uint16) * 8
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000}  # -1000 to 3080
    shown = load(stored, bits=12, **tags, WindowCenter=1040.5, WindowWidth=2041)  # 20 to 2060
    expected = ((FILM * 16.0 - 1000 - 20) / 2040 * 255).clip(0, 255)
    np.testing.assert_allclose(shown, expected, atol=0.51)
    assert (shown == 0).any() and (shown == 255).any()
    unwindowed = load(stored, bits=12, **tags)
    np.testing.assert_allclose(unwindowed, FILM * (255 * 8 / 4095), atol=0.51)


def test_of_several_windows_the_first_counts():
    one = load(FILM.astype(np.uint16), bits=12, WindowCenter=128, WindowWidth=256)
    two = load(FILM.astype(np.uint16), bits=12, WindowCenter=[128, 3000], WindowWidth=[256, 10])
    np.testing.assert_array_equal(one, two)


def test_colour_becomes_luminance():
    colour = np.zeros((28, 28, 3), np.uint8)
    colour[..., 1] = 200
    assert load(colour)[0, 0] == round(0.587 * 200)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_films_come_as_they_were_saved(syntax):
    dataset = build_dataset(FILM)
    if syntax == RLELossless:
        dataset.compress(syntax)
        np.testing.assert_array_equal(prepare_image(load_film(save(dataset)), Preparation(28)), FILM)
    else:
        path = pydicom.data.get_testdata_file("JPEGLSNearLossless_08.dcm", download=False)
        assert np.asarray(load_film(Path(path))).std() > 10


def refuse(dataset):
    with pytest.raises(DataError) as refusal:
        load_film(save(dataset))
    return str(refusal.value)


def test_what_is_no_film_has_its_reason():
    several = build_dataset(np.stack([FILM, FILM]).reshape(56, 28), NumberOfFrames=2)
    several.Rows = 28
    assert refuse(several) == "it holds 2 pictures: one film a file"
    without = build_dataset(FILM)
    del without.PixelData
    assert refuse(without) == "it is a DICOM file without a picture"
    huge = build_dataset(FILM)
    huge.Rows = huge.Columns = 60000
    assert refuse(huge) == "it has 60,000 x 60,000 pixels, more than 50,000,000"
    short = build_dataset(FILM)
    short.Rows = 56
    assert refuse(short).startswith("it cannot be decoded: ")
    odd = build_dataset(FILM, WindowCenter=10, WindowWidth=0)
    assert refuse(odd).startswith("it cannot be decoded: ")


def test_a_negative_slope_turns_grey_values_round_with_a_window_and_without():
    slope = {"RescaleSlope": -1, "RescaleIntercept": 255}
    np.testing.assert_array_equal(load(255 - FILM, **slope), FILM)
    windowed = load(255 - FILM, **slope, WindowCenter=128, WindowWidth=256)
    np.testing.assert_allclose(windowed, FILM, atol=1)


def test_grey_values_without_a_range_are_refused():
    flat = build_dataset(FILM, RescaleSlope=0, RescaleIntercept=5)
    assert refuse(flat) == "its grey values have no range"
