"""Images out of picture files: PNG, JPEG, TIFF, BMP, WebP and DICOM.

The same for training folders, predictions and explanations. Whatever is in a file, the result is an image or
a reason: a `DataError` in a few words without the file's name, which the caller has.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from pneumo_keras.data.kinds import SIGNATURE_BYTES, Limits, check_pixels, is_dicom
from pneumo_keras.errors import DataError
from pneumo_keras.storage.bounded_reading import read_ordinary

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
FORMATS_IN_WORDS = "PNG, JPEG, TIFF, BMP, WebP or DICOM"
MULTI_PICTURE = "MPO"  # JPEG files of phones: viewers show the first image, others are previews or depths
PNG_DEPTH = 24  # where a PNG file has its bits a sample (PNG, 11.2.2)
TRANSPARENT = "transparency"  # in the info of an image of Pillow
WIDE = "I;16"  # how Pillow's modes of 16 bits begin
DAMAGES = {
    "its end is missing": ("truncated", "end of file", "not enough"),
    "it is too large once decompressed": ("data too large",),
}
"""Kinds of damage, by words of decoders' messages."""
OUT_OF_MEMORY = "it takes too much memory to decode"

Source = Path | bytes

LIMITS = Limits()


def load_image(source: Source, limits: Limits = LIMITS) -> Image.Image:
    """The image of a file, upright and grey: 0 (black) to 255 (white).

    Colour becomes luminance (ITU-R BT.601), what is transparent becomes black, 16 bits become fractions of
    the full range: nothing is stretched, so that an image in a wrong range is found out of distribution.

    Args:
        source: Path of the file, or its content.
        limits: What it may cost.

    Returns:
        In Pillow's mode "L", or "F" where the file has more than 8 bits.

    Raises:
        DataError: There is no image in it that can be read.
    """
    try:
        content = source if isinstance(source, bytes) else read_ordinary(source, most=limits.bytes)
        if not content:
            raise DataError("the file is empty")
        load = _load_dicom if is_dicom(content[:SIGNATURE_BYTES]) else _load_picture
        return load(io.BytesIO(content), limits)
    except DataError:
        raise
    except IsADirectoryError as error:
        raise DataError("it is a folder that cannot be read") from error
    except Exception as error:  # decoders raise anything on damaged files
        if isinstance(error, OSError) and error.errno:  # the system's, not a decoder's
            raise DataError(str(error.strerror)) from error
        raise _to_damage(error) from error


def _load_dicom(file: io.BytesIO, limits: Limits) -> Image.Image:
    from pneumo_keras.data import dicom  # with pydicom, which takes long to import

    return dicom.load_dicom(file, limits)


def _load_picture(file: io.BytesIO, limits: Limits) -> Image.Image:
    try:
        picture = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise DataError(f"it is not a {FORMATS_IN_WORDS} file, or a damaged one") from None
    except Image.DecompressionBombError:
        raise DataError(f"it has more than {limits.pixels:,} pixels") from None
    with picture:
        check_pixels(*picture.size, limits)
        frames = getattr(picture, "n_frames", 1)
        if frames > 1 and picture.format != MULTI_PICTURE:
            raise DataError(f"it has {frames:,} images, and must have one")
        if picture.format == "PNG":
            _rescale_transparency(picture, depth=file.getbuffer()[PNG_DEPTH])
        return convert_picture(picture)


def convert_picture(picture: Image.Image) -> Image.Image:
    """A picture of any mode, upright and grey as `load_image` returns it.

    Raises:
        DataError: Its mode ("I" or "F") does not tell the range of its grey values.
    """
    # White at zero: Pillow inverts pixels of 8 bits alone.
    tags = getattr(picture, "tag_v2", {})
    inverted = tags.get(PHOTOMETRIC_INTERPRETATION) == 0
    (bits, *_) = tags.get(BITSPERSAMPLE, (16,))
    grey = _to_grey(ImageOps.exif_transpose(picture), white=2**bits - 1, inverted=inverted)
    grey.info = {}  # without what the file itself may have under the name of a note
    return grey


def _rescale_transparency(picture: Image.Image, *, depth: int) -> None:
    """Brings the value that is transparent in a PNG file to the range that Pillow brings its pixels to."""
    value = picture.info.get(TRANSPARENT)
    if isinstance(value, int) and picture.mode == "L":
        picture.info[TRANSPARENT] = value * 255 // (2**depth - 1)
    elif isinstance(value, tuple) and depth > 8:
        picture.info[TRANSPARENT] = tuple(one >> 8 for one in value)


def _to_grey(picture: Image.Image, *, white: int, inverted: bool) -> Image.Image:
    if picture.mode.startswith(WIDE):
        values = np.asarray(picture)
        grey = values.astype(np.float32) * np.float32(255 / white)
        grey = 255 - grey if inverted else grey
        grey[values == picture.info.get(TRANSPARENT)] = 0
        return Image.fromarray(grey)
    if picture.mode in ("I", "F"):
        raise DataError("its grey values have no known range: save it with 8 or 16 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    return picture if picture.mode == "L" else picture.convert("RGB").convert("L")


def _to_damage(error: Exception) -> DataError:
    if isinstance(error, MemoryError):
        return DataError(OUT_OF_MEMORY)
    message = str(error).lower()
    kinds = (kind for kind, words in DAMAGES.items() if any(word in message for word in words))
    return DataError(f"it cannot be decoded: {next(kinds, 'it is damaged')}")
