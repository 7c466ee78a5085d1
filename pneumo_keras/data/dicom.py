"""Images out of DICOM files, as a viewer would show them. Needs pydicom; codecs for compressed ones."""

import io
import math

import numpy as np
import pydicom
from jaxtyping import Float32
from PIL import Image
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from pneumo_keras.data.dicom_grey import INVERTED, UPRIGHT, to_grey
from pneumo_keras.data.dicom_header import Header, flatten_groups
from pneumo_keras.data.dicom_pixels import PixelFormat, read_array, read_format, read_stored
from pneumo_keras.data.pictures import NOTE, Limits, check_pixels
from pneumo_keras.errors import DataError

PALETTE, LUMINOUS = "PALETTE COLOR", "YBR_FULL"
COLOURS = ("RGB", PALETTE, LUMINOUS, "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
SQUARE, FLATTEST = (
    1.01,
    10.0,
)  # aspects: below the first, pixels count as square; above the last, none are believed


def load_dicom(file: io.BytesIO, limits: Limits) -> Image.Image:
    """The image of a DICOM file, grey, 0 (black) to 255 (white), Pillow's mode "F", of square pixels.

    Its `info` has a note where the file contradicts itself; docs/images.md says what is done then.

    Raises:
        DataError: It has no image, or several, or one that cannot be read.

    References:
        DICOM PS3.3, C.7.6.3 and C.7.6.16.2; `dicom_grey` for grey values.
    """
    header = Header(_load_dataset(file))
    dataset = header.dataset
    _check_frames(header)
    for keyword in ("Columns", "Rows"):
        setattr(dataset, keyword, header.read_integer(keyword, 0, 2**16 - 1))
    check_pixels(dataset.Columns, dataset.Rows, limits)
    flatten_groups(dataset)
    form = read_format(header)
    if form.photometric in (INVERTED, UPRIGHT):
        if form.samples != 1:
            raise DataError(f"it is {form.photometric} with {form.samples} numbers a pixel: it must be 1")
        stored, bounds = read_stored(dataset, form)
        grey = to_grey(stored, header, *bounds)
    else:
        grey = _show_colour(dataset, form)
    square = _to_square_pixels(Image.fromarray(grey), _find_aspect(header), limits)
    square.info[NOTE] = "; ".join(header.notes)
    return square


def _load_dataset(file: io.BytesIO) -> Dataset:
    try:
        return pydicom.dcmread(file, force=True)  # those without a preamble, too: `pictures` knows them
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises anything on damaged files
        raise DataError("its DICOM elements are damaged") from error


def _check_frames(header: Header) -> None:
    dataset = header.dataset
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise DataError("its pixels are fractions without a known range (Float Pixel Data)")
    if not dataset.get("PixelData"):
        raise DataError("it is a DICOM file without a picture")
    frames = header.find_number("NumberOfFrames") or 1
    if frames > 1:
        raise DataError(f"it holds {int(frames):,} pictures: one film a file")
    dataset.NumberOfFrames = 1


def _show_colour(dataset: Dataset, form: PixelFormat) -> Float32[np.ndarray, "height width"]:
    if form.photometric not in COLOURS:
        raise DataError(f"its Photometric Interpretation {form.photometric[:20]!r} is not known")
    if form.samples != (1 if form.photometric == PALETTE else len(LUMINANCE)):
        raise DataError(f"it is {form.photometric} with {form.samples} numbers a pixel")
    bits = form.stored
    values = read_array(dataset, form, raw=form.allocated > 8)
    if form.photometric == PALETTE:
        values = _apply_palette(values, dataset)
        bits = 8 * values.dtype.itemsize
    if form.photometric.startswith(LUMINOUS) and form.allocated > 8:  # pydicom changes those of 8 bits alone
        luminance = values[..., 0].astype(np.float32)
    else:
        luminance = values[..., : len(LUMINANCE)].astype(np.float32) @ LUMINANCE  # a palette may bring alpha
    return (255 * luminance / np.float32(2**bits - 1)).clip(0, 255)


def _apply_palette(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    try:
        return apply_color_lut(values, dataset)
    except MemoryError:
        raise
    except Exception as error:  # of elements that are missing, empty or too short
        raise DataError("its palette is damaged") from error


def _find_aspect(header: Header) -> float:
    """Height of a pixel over its width, of the first element that says so.

    References:
        DICOM PS3.3, C.7.6.3.1.7: an aspect ratio counts where there is no spacing.
    """
    found = []
    for keyword in SPACINGS:
        height, width, *_ = (*header.list_numbers(keyword), None, None)
        if height and width and height > 0 and width > 0:
            found.append(height / width)
        elif height is not None or width is not None:
            header.notes.append(f"its {dictionary_description(keyword)} cannot be used")
    aspect = next(iter(found), 1.0)
    if any(max(other / aspect, aspect / other) >= SQUARE for other in found):
        header.notes.append(f"its elements disagree on the shape of a pixel: taken as {aspect:g} to 1")
    return aspect


def _to_square_pixels(image: Image.Image, aspect: float, limits: Limits) -> Image.Image:
    """The image with as many pixels along the coarser axis as along the finer one, or fewer of both."""
    if max(aspect, 1 / aspect) < SQUARE:
        return image
    if max(aspect, 1 / aspect) > FLATTEST:
        raise DataError(
            f"its pixels are {aspect:g} times as high as wide: more than {FLATTEST:g} to 1 is no image"
        )
    width, height = image.width * max(1, 1 / aspect), image.height * max(1, aspect)
    shrink = min(1.0, math.sqrt(limits.pixels / (width * height)))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return image.resize(size, Image.Resampling.BILINEAR)
