"""Images out of DICOM files, as a viewer would show them. Needs pydicom; codecs for compressed ones."""

import io
import math

import numpy as np
import pydicom
from jaxtyping import Float32, Int
from PIL import Image
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from pneumo_keras.data.dicom_grey import INVERTED, UPRIGHT, to_grey
from pneumo_keras.data.dicom_header import Header, flatten_groups
from pneumo_keras.data.dicom_pixels import PixelFormat, read_array, read_format, read_stored
from pneumo_keras.data.dicom_tables import choose_white, load_table
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
        grey = _show_colour(header, form)
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
        raise DataError(f"it holds {int(frames):,} pictures: one image a file")
    dataset.NumberOfFrames = 1


def _show_colour(header: Header, form: PixelFormat) -> Float32[np.ndarray, "height width"]:
    if form.photometric not in COLOURS:
        raise DataError(f"its Photometric Interpretation {form.photometric[:20]!r} is not known")
    if form.samples != (1 if form.photometric == PALETTE else len(LUMINANCE)):
        raise DataError(f"it is {form.photometric} with {form.samples} numbers a pixel")
    if form.photometric == PALETTE:
        return _show_palette(header, form)
    pixels = read_array(header.dataset, form, raw=form.allocated > 8)
    if form.photometric.startswith(LUMINOUS) and form.allocated > 8:  # pydicom changes those of 8 bits alone
        luminance = pixels[..., 0].astype(np.float32)
    else:
        luminance = pixels.astype(np.float32) @ LUMINANCE
    return (255 * luminance / np.float32(2**form.stored - 1)).clip(0, 255)


def _show_palette(header: Header, form: PixelFormat) -> Float32[np.ndarray, "height width"]:
    stored, (low, high) = read_stored(header.dataset, form)
    tables = [
        load_table(
            header,
            header.dataset,
            "palette",
            low,
            high,
            descriptor=f"{colour}PaletteColorLookupTableDescriptor",
            data=f"{colour}PaletteColorLookupTableData",
        )
        for colour in ("Red", "Green", "Blue")
    ]
    red_green_blue = [table for table in tables if table]
    if len(red_green_blue) < len(LUMINANCE):
        return _show_segmented_palette(header.dataset, stored)
    values = stored.astype(np.float64)
    colour = np.stack([table.look_up(values) for table in red_green_blue], axis=-1)
    white = choose_white(header, "palette", *red_green_blue)
    return (colour @ LUMINANCE * (255 / white)).astype(np.float32)


def _show_segmented_palette(
    dataset: Dataset, stored: Int[np.ndarray, "height width"]
) -> Float32[np.ndarray, "height width"]:
    try:
        colour = apply_color_lut(stored, dataset)
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises anything where elements are missing, empty or too short
        raise DataError("its palette is missing or damaged") from error
    luminance = colour[..., : len(LUMINANCE)].astype(np.float32) @ LUMINANCE  # there may be alpha behind
    return luminance * np.float32(255 / np.iinfo(colour.dtype).max)


def _find_aspect(header: Header) -> float:
    """Height of a pixel over its width, of the first element that says so.

    References:
        DICOM PS3.3, C.7.6.3.1.7: an aspect ratio counts where there is no spacing.
    """
    found = []
    for keyword in SPACINGS:
        height, width, *_ = (*header.list_numbers(keyword), None, None)
        if not height or not width:  # zeros stand for what nobody measured
            continue
        if height > 0 and width > 0:
            found.append(height / width)
        else:
            header.notes.append(f"its {dictionary_description(keyword)} is negative: not used")
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
