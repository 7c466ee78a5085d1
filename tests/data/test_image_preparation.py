import csv
import io
import logging
import zipfile

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data import image_preparation
from pneumo_keras.data.image_preparation import (
    ResizedImages,
    crop_square,
    detect_preparation,
    measure_jpeg,
    prepare_image,
)
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.phantom import PhantomImages
from tests.conftest import SHARED
from tests.images import ImageArray, build_phantom_images

IMAGES = PhantomImages(40, 64, 3).read(slice(None))
LARGE = build_phantom_images(5, size=64, seed=1)
LIKE_TRAINING = Preparation(28, jpeg_quality=75)


def resize(images, size, kernel=Image.Resampling.BILINEAR):
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), kernel)) for image in images])


def save_as_jpeg(image, quality=75):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def to_data(images):
    return ImageArray(images, np.arange(len(images)) % 2)


@pytest.mark.real_data
def test_an_original_becomes_its_training_image_to_the_byte():
    with (
        np.load(SHARED / "data/pneumoniamnist.npz") as npz,
        zipfile.ZipFile(SHARED / "data/originals.zip") as originals,
        (SHARED / "data/originals.csv").open(newline="") as table,
    ):
        names = {name.rpartition("/")[2]: name for name in originals.namelist()}
        rows = list(csv.DictReader(table))
        assert len(rows) == 48
        for row in rows:
            original = Image.open(originals.open(names[row["file"]])).convert("L")
            expected = npz[f"{row['split']}_images"][int(row["index"])]
            np.testing.assert_array_equal(prepare_image(original, LIKE_TRAINING), expected)


@pytest.mark.real_data
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_pneumoniamnist_was_saved_as_jpeg(split):
    with np.load(SHARED / "data/pneumoniamnist.npz") as npz:
        images = npz[f"{split}_images"]
    assert measure_jpeg(images) > 0.93
    assert measure_jpeg(images[:, 4:, 4:]) < 0.1
    assert detect_preparation(to_data(images)) == LIKE_TRAINING


@pytest.mark.parametrize(
    ("width", "height", "left", "top"),
    [(10, 7, 2, 0), (8, 7, 0, 0), (9, 6, 2, 0), (11, 6, 2, 0), (13, 6, 4, 0), (7, 10, 0, 2), (6, 11, 0, 2)],
)
def test_half_a_pixel_of_border_is_rounded_to_even(width, height, left, top):
    """So 1.5 becomes 2 and 2.5 becomes 2, where the floor would be 1 and 2."""
    image = np.arange(width * height, dtype=np.uint8).reshape(height, width)
    edge = min(width, height)
    expected = image[top : top + edge, left : left + edge]
    np.testing.assert_array_equal(np.asarray(crop_square(Image.fromarray(image))), expected)


@pytest.mark.parametrize("quality", [None, 75])
@pytest.mark.parametrize("shape", [(64, 64), (64, 51), (37, 64), (20, 24)])
def test_the_square_in_the_middle_is_resized_and_saved_as_the_training_images_were(shape, quality):
    image = IMAGES[0, : shape[0], : shape[1]]
    small = np.asarray(crop_square(Image.fromarray(image)).resize((28, 28), Image.Resampling.BILINEAR))
    expected = save_as_jpeg(small) if quality else small
    prepared = prepare_image(Image.fromarray(image), Preparation(28, quality))
    np.testing.assert_array_equal(prepared, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_image_of_the_right_size_is_taken_as_it_is(dtype):
    image = resize(IMAGES, 28)[0]
    prepared = prepare_image(Image.fromarray(image.astype(dtype)), LIKE_TRAINING)
    np.testing.assert_array_equal(prepared, image)


def test_what_is_as_wide_as_a_training_image_but_higher_is_prepared():
    image = IMAGES[0, :40, :28]
    np.testing.assert_array_equal(
        prepare_image(Image.fromarray(image), LIKE_TRAINING), save_as_jpeg(image[6:34])
    )


def test_grey_levels_beyond_eight_bits_are_rounded_once_they_are_small():
    image = IMAGES[0].astype(np.float32) + 0.25
    small = Image.fromarray(image).resize((28, 28), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(
        prepare_image(Image.fromarray(image), Preparation(28)), np.asarray(small).round().astype(np.uint8)
    )


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("n", [1, 40])
def test_images_saved_as_jpeg_are_known_by_their_coefficients(size, n):
    saved = np.stack([save_as_jpeg(image) for image in resize(IMAGES[:n], size)])
    assert measure_jpeg(saved) > 0.85


@pytest.mark.parametrize(
    "images",
    [
        resize(IMAGES, 28),
        resize([save_as_jpeg(image) for image in IMAGES], 28),  # what was saved was larger
        np.stack([save_as_jpeg(image) for image in IMAGES])[:, 4:, 3:],  # cut out of what was saved
        np.stack([save_as_jpeg(image, quality=90) for image in IMAGES]),
        np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8),
        np.zeros((20, 28, 28), np.uint8),
        np.full((20, 28, 28), 200, np.uint8),
    ],
    ids=["plain", "shrunk", "cut", "another quality", "noise", "black", "grey"],
)
def test_other_images_were_not_saved_so(images):
    assert measure_jpeg(images) < 0.4
    assert detect_preparation(to_data(images)) == Preparation(images.shape[1])


@pytest.mark.parametrize(("quality", "words"), [(75, "were saved as JPEG of quality 75"), (None, "were not")])
def test_what_was_found_is_said(quality, words, caplog):
    images = resize(IMAGES, 28)
    saved = np.stack([save_as_jpeg(image) if quality else image for image in images])
    with caplog.at_level(logging.INFO):
        assert detect_preparation(to_data(saved)).jpeg_quality == quality
    (line,) = caplog.messages
    assert words in line and "bilinear to 28 x 28 px" in line


@pytest.mark.parametrize("quality", [None, 75])
def test_larger_images_are_prepared_to_the_byte(quality):
    preparation = Preparation(28, quality)
    images = ResizedImages(LARGE, preparation)
    expected = np.stack([prepare_image(Image.fromarray(image), preparation) for image in LARGE.images])
    assert images.shape == (28, 28) and len(images) == 5
    assert np.array_equal(images.read(slice(None)), expected)
    assert np.array_equal(images.read(np.array([3, 0])), expected[[3, 0]])
    assert images.read(slice(0, 0)).shape == (0, 28, 28)
    assert np.array_equal(images.labels, LARGE.labels)


def test_a_fingerprint_tells_the_preparation_and_its_code(monkeypatch):
    def fingerprint(quality):
        return ResizedImages(LARGE, Preparation(28, quality)).fingerprint()

    plain = fingerprint(None)
    assert len({plain, fingerprint(75), LARGE.fingerprint()}) == 3
    monkeypatch.setattr(image_preparation, "fingerprint_code", lambda modules: "other code")
    assert fingerprint(None) != plain
