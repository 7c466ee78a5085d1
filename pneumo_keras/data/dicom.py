"""Films out of DICOM files, as a viewer would show them. Needs pydicom; codecs for compressed ones."""

import io
from typing import Any

import numpy as np
import pydicom
from jaxtyping import Float32
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from pneumo_keras.data.pictures import Limits, check_pixels
from pneumo_keras.errors import DataError

INVERTED, GREY, PALETTE = "MONOCHROME1", ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def load_dicom(file: io.BytesIO, limits: Limits) -> Image.Image:
    """The film of a DICOM file, grey, 0 (black) to 255 (white), Pillow's mode "F".

    The modality's lookup table or slope and intercept, then the first window or lookup table of interest;
    without one, the range of the bits stored. MONOCHROME1, where 0 is white, is inverted.

    Raises:
        DataError: It has no picture, or several.

    References:
        DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (modality), C.11.2 (values of interest).
    """
    dataset = pydicom.dcmread(file)
    if "PixelData" not in dataset:
        raise DataError("it is a DICOM file without a picture")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DataError(f"it holds {frames:,} pictures: one film a file")
    check_pixels(int(dataset.Columns), int(dataset.Rows), limits)
    photometric = str(dataset.PhotometricInterpretation)
    values = pixel_array(dataset)
    grey = _show_grey(values, dataset) if photometric in GREY else _show_colour(values, dataset, photometric)
    return Image.fromarray(255 - grey if photometric == INVERTED else grey)


def _show_grey(values: np.ndarray, dataset: Dataset) -> Float32[np.ndarray, "height width"]:
    shown = apply_voi_lut(apply_modality_lut(values, dataset), dataset)
    low, high = _find_range(dataset)
    if low == high:
        raise DataError("its grey values have no range")
    return (255 * (shown.astype(np.float64) - low) / (high - low)).clip(0, 255).astype(np.float32)


def _find_range(dataset: Dataset) -> tuple[float, float]:
    """Of the values after modality and window, as pydicom computes them."""
    tables: Any = dataset.get("VOILUTSequence") or dataset.get("ModalityLUTSequence")
    if tables:
        return 0, 2 ** int(tables[0].LUTDescriptor[2]) - 1
    bits = int(dataset.BitsStored)
    low, high = (
        (0, 2**bits - 1) if not dataset.PixelRepresentation else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    if "RescaleSlope" in dataset and "RescaleIntercept" in dataset:
        slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
        low, high = low * slope + intercept, high * slope + intercept
    # Where the slope is negative, pydicom's windows end where its range begins.
    windowed = "WindowWidth" in dataset or "WindowCenter" in dataset
    return (low, high) if windowed else (min(low, high), max(low, high))


def _show_colour(
    values: np.ndarray, dataset: Dataset, photometric: str
) -> Float32[np.ndarray, "height width"]:
    bits = int(dataset.BitsStored)
    if photometric == PALETTE:
        values = apply_color_lut(values, dataset)
        bits = 8 * values.dtype.itemsize
    if values.ndim != 3 or values.shape[-1] < len(LUMINANCE):
        raise DataError(f"its pixels are {photometric} of the shape {values.shape}")
    colour = values[..., : len(LUMINANCE)].astype(np.float32)  # the palette may bring an alpha
    return 255 * (colour @ LUMINANCE) / np.float32(2**bits - 1)
