import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data.image_preparation import prepare_image
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.kinds import Limits
from pneumo_keras.data.pictures import load_image
from pneumo_keras.errors import DataError
from tests.data.hostile import build_chunk

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (28, 28), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(60), np.arange(40)).astype(np.uint8)


def save(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def load(picture, kind="PNG", size=None, **options):
    image = load_image(save(picture, kind, **options))
    return prepare_image(image, Preparation(size or min(image.size)))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_an_image_of_the_right_size_comes_as_it_was_saved(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(load(Image.fromarray(IMAGE), kind, **options), IMAGE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_fractions_of_the_full_range(kind):
    wide = Image.fromarray(IMAGE.astype(np.uint16) * 257)
    np.testing.assert_array_equal(load(wide, kind), IMAGE)
    dark = Image.fromarray(IMAGE.astype(np.uint16) * 16)  # 12 bits in 16: dark, and not stretched
    assert load(dark, kind).max() == round(255 * 16 / 257)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_with_white_at_zero_is_inverted(dtype):
    # Pillow inverts images of eight bits when it saves them, too.
    stored = IMAGE if dtype == np.uint8 else (255 - IMAGE.astype(np.uint16)) * 257
    file = save(Image.fromarray(stored), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(prepare_image(load_image(file), Preparation(28)), IMAGE)


def test_colour_becomes_luminance_and_what_is_transparent_black():
    colour = np.zeros((28, 28, 3), np.uint8)
    colour[..., 1] = 200
    assert load(Image.fromarray(colour))[0, 0] == round(0.587 * 200)
    see_through = np.dstack([np.full((28, 28, 3), 200, np.uint8), np.full((28, 28), 255, np.uint8)])
    see_through[:14, :, 3] = 0
    image = load(Image.fromarray(see_through))
    assert (image[0, 0], image[-1, 0]) == (0, 200)


def build_png(values, bits, transparent, *, channels=1):
    """A PNG file of two rows, grey or in colour, in which one value is transparent."""
    values = np.repeat(np.asarray(values), channels)
    if bits == 16:
        row = values.astype(">u2").tobytes()
    else:
        digits = np.unpackbits(values.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
        row = np.packbits(digits.reshape(-1)).tobytes()
    header = struct.pack(">IIBBBBB", len(values) // channels, 2, bits, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"tRNS", struct.pack(">H", transparent) * channels),
        (b"IDAT", zlib.compress(2 * (b"\0" + row))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(build_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize(("bits", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)])
def test_a_value_that_is_transparent_in_a_png_is_black_whatever_its_bits(bits, channels):
    white = 2**bits - 1
    values = np.array([0, white // 2, white, 0, white // 3, white])
    for transparent in values:
        image = np.asarray(load_image(build_png(values, bits, transparent, channels=channels)))
        expected = np.where(values == transparent, 0, values * (255 / white))
        np.testing.assert_allclose(image, [expected, expected], atol=1)


def test_of_the_images_in_a_jpeg_file_the_first_counts():
    first, second = (Image.fromarray(image).convert("RGB") for image in (SMOOTH, SMOOTH[::2, ::2]))
    content = save(first, "MPO", save_all=True, append_images=[second], quality=95)
    image = np.asarray(load_image(content))
    np.testing.assert_allclose(image, SMOOTH, atol=8)


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA", "LA"])
def test_grey_images_saved_in_colour_modes_come_out_the_same(mode):
    np.testing.assert_array_equal(load(Image.fromarray(IMAGE).convert(mode)), IMAGE)


def test_a_bilevel_image_is_black_and_white():
    assert set(np.unique(load(Image.fromarray(IMAGE).convert("1")))) == {0, 255}


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_an_image_is_turned_upright(mode):
    picture = Image.fromarray(IMAGE if mode == "L" else IMAGE.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown turned by 90 degrees clockwise
    np.testing.assert_array_equal(
        load(picture, "TIFF" if mode == "L" else "PNG", exif=exif), np.rot90(IMAGE, -1)
    )


def test_jpeg_is_close():
    smooth = np.asarray(Image.fromarray(SMOOTH).resize((64, 64)))
    assert np.abs(load(Image.fromarray(smooth), "JPEG", quality=95).astype(int) - smooth).max() < 8


def refuse(source, **limits):
    with pytest.raises(DataError) as refusal:
        load_image(source, Limits(**limits))
    return str(refusal.value)


def test_what_is_no_image_has_its_reason(tmp_path):
    assert refuse(tmp_path / "none.png") == "No such file or directory"
    assert refuse(tmp_path) == "it is a folder that cannot be read"
    os.mkfifo(tmp_path / "pipe.png")
    assert refuse(tmp_path / "pipe.png") == "it is not an ordinary file"
    assert refuse(b"") == "the file is empty"
    no_image = "it is not a PNG, JPEG, TIFF, BMP, WebP or DICOM file, or a damaged one"
    assert refuse(b"<html><script>alert(1)</script></html>") == no_image
    assert refuse(save(Image.fromarray(IMAGE), "GIF")) == no_image
    whole = save(Image.fromarray(IMAGE))
    assert refuse(whole[:40]) == no_image
    assert refuse(whole[:-300]).startswith("it cannot be decoded: ")


def test_what_costs_too_much_is_refused_before_it_is_decoded(tmp_path):
    png = save(Image.new("L", (300, 200)))
    assert refuse(png, pixels=59_999) == "it has 300 x 200 pixels, more than 59,999"
    (tmp_path / "large.png").write_bytes(png + bytes(2000 - len(png)))
    assert refuse(tmp_path / "large.png", bytes=1000) == "it has 2,000 bytes, and at most 1,000 are read"
    assert load_image(png, Limits(pixels=60_000)).size == (300, 200)


def test_a_file_with_several_images_is_refused():
    frames = [Image.fromarray(IMAGE), Image.fromarray(IMAGE.T)]
    assert refuse(save(frames[0], "TIFF", save_all=True, append_images=frames[1:])) == (
        "it has 2 images, and must have one"
    )


INSIDES = ("object", "None", "unpack", "index", "argument", "operand", "Error", "0x", "buffer", "(")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_damage_is_named_in_words_that_not_only_programmers_know(kind):
    whole = save(Image.fromarray(RANDOM.integers(0, 256, (40, 40), dtype=np.uint8)), kind)
    random, reasons = np.random.default_rng(0), []
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(random.integers(1, 20)):
            content[random.integers(len(content))] = random.integers(256)
        try:
            load_image(bytes(content[: random.integers(len(content) // 2, len(content) + 1)]))
        except DataError as error:
            reasons.append(str(error))
    assert reasons
    assert all(reason.startswith("it ") and not any(word in reason for word in INSIDES) for reason in reasons)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_grey_values_without_a_range_are_refused(dtype):
    assert refuse(save(Image.fromarray(IMAGE.astype(dtype)), "TIFF")) == (
        "its grey values have no known range: save it with 8 or 16 bits"
    )


def test_twelve_bits_are_fractions_of_their_own_range():
    image = load_image(build_tiff_of_12_bits(IMAGE))
    np.testing.assert_allclose(prepare_image(image, Preparation(28)), IMAGE, atol=1)


def build_tiff_of_12_bits(image):
    """As a detector writes it: two pixels in three bytes."""
    values = (image * (4095 / 255)).round().astype(np.uint16)
    bits = np.unpackbits(values[..., None].byteswap().view(np.uint8), axis=-1)[..., 4:]
    pixels = np.packbits(bits.reshape(len(image), -1), axis=-1).tobytes()
    tags = [
        (256, 3, image.shape[1]),
        (257, 3, image.shape[0]),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, image.shape[0]),
        (279, 4, len(pixels)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    header = struct.pack("<2sHI", b"II", 42, 8 + len(pixels))
    return header + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)
