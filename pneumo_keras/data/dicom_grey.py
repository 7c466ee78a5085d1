"""Grey values of DICOM files as a viewer shows them: stored, modality, values of interest, presentation.

What is missing or empty does nothing. Where elements contradict each other, one of them is chosen, and the
image gets a note; docs/images.md has the table of these choices.

References:
    DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (modality), C.11.2 (values of interest), C.11.6 (presentation).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from pneumo_keras.data.dicom_header import Header
from pneumo_keras.data.dicom_tables import Table, Values, choose_white, load_table
from pneumo_keras.errors import DataError

INVERTED, UPRIGHT = "MONOCHROME1", "MONOCHROME2"
INVERSE, IDENTITY = "INVERSE", "IDENTITY"
LINEAR, EXACT, SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"
EACH = 2**16  # values that can be stored, at most, where each is shown once

Step = Callable[[Values], Values]


@dataclass(frozen=True)
class Modality:
    """What makes stored values those that the modality means.

    Attributes:
        mean: Stored values to these.
        lowest: Of them.
        highest: Of them.
        table: Where they come out of one.
    """

    mean: Step
    lowest: float
    highest: float
    table: Table | None = None


@dataclass(frozen=True)
class Interest:
    """What makes values of interest visible.

    Attributes:
        show: Values to what is shown, 0 to 1.
        name: In the words of a message.
    """

    show: Step
    name: str


def to_grey(
    stored: Int[np.ndarray, "height width"], header: Header, low: int, high: int
) -> Float32[np.ndarray, "height width"]:
    """Shows stored values.

    Args:
        stored: As they are in the file.
        header: Of the file.
        low: The smallest value that can be stored.
        high: The largest value that can be stored.

    Returns:
        0 (black) to 255 (white).

    Raises:
        DataError: Some element makes no sense, or all that differs would look alike.
    """
    modality = _build_modality(header, low, high)
    interest = _choose_interest(header, modality)
    inverted = _find_inversion(header)

    def show(values: Values) -> Float32[np.ndarray, "..."]:
        with np.errstate(over="ignore"):  # far outside a window is outside
            shown = interest.show(modality.mean(values))
        return (255 * (1 - shown if inverted else shown)).astype(np.float32)

    if high - low < EACH:
        grey = show(np.arange(low, high + 1, dtype=np.float64))[stored - low]
    else:
        grey = show(stored.astype(np.float64))
    if stored.min() < stored.max() and np.rint(grey.min()) == np.rint(grey.max()):
        raise DataError(f"its pixels differ, but {interest.name} shows all of them alike")
    return grey


def _build_modality(header: Header, low: int, high: int) -> Modality:
    table = _load_table(header, "ModalityLUTSequence", "Modality LUT", low, high)
    slope, intercept = header.find_number("RescaleSlope"), header.find_number("RescaleIntercept")
    if slope is None or intercept is None:  # as DCMTK does it
        if slope not in (None, 1) or intercept not in (None, 0):
            header.notes.append("it has one of Rescale Slope and Rescale Intercept, which was not used")
        slope, intercept = 1.0, 0.0
    if table:
        if (slope, intercept) != (1, 0):
            header.notes.append("it has a Modality LUT and a Rescale Slope: the table was used")
        return Modality(table.look_up, 0, 2**table.bits - 1, table)
    if slope == 0:
        raise DataError("its Rescale Slope is 0: all grey values would be the same")
    ends = low * slope + intercept, high * slope + intercept
    if not np.isfinite([*ends, ends[1] - ends[0]]).all():
        raise DataError(
            f"its Rescale Slope {slope:g} and Rescale Intercept {intercept:g} give no finite values"
        )
    return Modality(lambda values: values * slope + intercept, min(ends), max(ends))


def _choose_interest(header: Header, modality: Modality) -> Interest:
    """A lookup table, or else the first window that can be used, or else all values that can be."""
    lowest, highest = modality.lowest, modality.highest
    table = _load_table(header, "VOILUTSequence", "VOI LUT", lowest, highest)
    if table:
        white = choose_white(header, "VOI LUT", table)
        return Interest(lambda values: table.look_up(values) / white, "its VOI LUT")
    window = _choose_window(header)
    if window:
        return window
    if modality.table:
        highest = choose_white(header, "Modality LUT", modality.table)
    span = highest - lowest
    return Interest(
        lambda values: (values - lowest) / span,
        f"the full range of its values ({lowest:,.10g} to {highest:,.10g})",
    )


def _choose_window(header: Header) -> Interest | None:
    function = header.find_text("VOILUTFunction") or LINEAR
    if function not in (LINEAR, EXACT, SIGMOID):
        header.notes.append(f"its VOI LUT Function {function[:20]!r} is unknown: taken as {LINEAR}")
        function = LINEAR
    unusable = None
    pairs = zip(header.list_numbers("WindowCenter"), header.list_numbers("WindowWidth"), strict=False)
    for center, width in pairs:
        if center is None or not width:  # a width of 0 stands for no window
            continue
        if width >= 1 or (width > 0 and function != LINEAR):
            return Interest(
                _build_window(center, width, function), f"its window (center {center:g}, width {width:g})"
            )
        unusable = unusable or width
    if unusable:
        header.notes.append(f"its Window Width {unusable:g} cannot be used: shown over the full range")
    return None


def _build_window(center: float, width: float, function: str) -> Step:
    """The functions of C.11.2.1.2 and C.11.2.1.3."""
    if function == SIGMOID:
        return lambda values: 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == LINEAR:
        center, width = center - 0.5, width - 1
    start = center - width / 2
    if not width:
        return lambda values: (values > start).astype(np.float64)
    return lambda values: ((values - start) / width).clip(0, 1)


def _find_inversion(header: Header) -> bool:
    """Whether the smallest value is white: the presentation's shape says so, or else the pixels' kind."""
    photometric, shape = (
        header.find_text("PhotometricInterpretation"),
        header.find_text("PresentationLUTShape"),
    )
    if shape not in (INVERSE, IDENTITY):
        return photometric == INVERTED
    if (shape == INVERSE) != (photometric == INVERTED):
        done = "inverted" if shape == INVERSE else "not inverted"
        header.notes.append(f"{photometric} with a Presentation LUT Shape {shape}: {done}")
    return shape == INVERSE


def _load_table(header: Header, keyword: str, name: str, lowest: float, highest: float) -> Table | None:
    """The first lookup table of a sequence that has data."""
    for item in header.list_items(keyword):
        if table := load_table(header, item, name, lowest, highest):
            return table
    return None
