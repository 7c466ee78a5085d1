"""Images out of DICOM files, as a viewer would show them. Needs pydicom; codecs for compressed ones.

Grey values go through four steps: stored, modality, values of interest, presentation. What is missing or
empty does nothing. Where elements contradict each other, one of them is chosen, and the image gets a note;
docs/images.md has the table of these choices. pydicom's own steps take no empty elements, no tables of 8 bits
in words and no wrong bits of tables, which devices write.

References:
    DICOM PS3.3, C.7.6.3 (pixels), C.7.6.16.2 (functional groups), C.11.1 (modality), C.11.2 (values of
    interest), C.11.6 (presentation).
"""

import io
import math
from dataclasses import dataclass

import numpy as np
import pydicom
from jaxtyping import Float32, Float64, Int
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from pneumo_keras.data.dicom_pixels import BYTE, Header, PixelFormat, read_array, read_format, read_stored
from pneumo_keras.data.kinds import NOTE, Limits, check_pixels
from pneumo_keras.errors import DataError

INVERTED, UPRIGHT = "MONOCHROME1", "MONOCHROME2"
INVERSE, IDENTITY = "INVERSE", "IDENTITY"
LINEAR, EXACT, SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"
PALETTE, LUMINOUS = "PALETTE COLOR", "YBR_FULL"
COLOURS = ("RGB", PALETTE, LUMINOUS, "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
WORD = 16  # bits
GROUPS = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
MACROS = (
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "PixelMeasuresSequence",
    "FramePixelDataPropertiesSequence",
)
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
SQUARE = 1.01  # aspects below count as square
FLATTEST = 10.0  # aspects above are none of an image

Values = Float64[np.ndarray, "..."]
Grey = Float32[np.ndarray, "height width"]


def load_dicom(file: io.BytesIO, limits: Limits) -> Image.Image:
    """The image of a DICOM file, grey, 0 (black) to 255 (white), Pillow's mode "F", of square pixels.

    Its `info` has a note where the file contradicts itself.

    Raises:
        DataError: It has no image, or several, or one that cannot be read.
    """
    try:
        dataset = pydicom.dcmread(file, force=True)  # those without a preamble, too
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises anything on damaged files
        raise DataError("its DICOM elements are damaged") from error
    header = Header(dataset)
    _check_frames(header)
    for keyword in ("Columns", "Rows"):
        setattr(dataset, keyword, header.read_integer(keyword, 0, 2**16 - 1))
    check_pixels(dataset.Columns, dataset.Rows, limits)
    _flatten_groups(dataset)
    form = read_format(header)
    if form.photometric in (INVERTED, UPRIGHT):
        if form.samples != 1:
            raise DataError(f"it is {form.photometric} with {form.samples} numbers a pixel: it must be 1")
        stored, bounds = read_stored(dataset, form)
        grey = _show_grey(stored, header, *bounds)
    else:
        grey = _show_colour(header, form)
    square = _to_square_pixels(Image.fromarray(grey), _find_aspect(header), limits)
    square.info[NOTE] = "; ".join(header.notes)
    return square


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


def _flatten_groups(dataset: Dataset) -> None:
    """Moves what functional groups say of the one frame to where objects without them say it."""
    for groups in GROUPS:
        for group in Header(dataset).list_items(groups)[:1]:
            for macro in MACROS:
                for item in Header(group).list_items(macro)[:1]:
                    for element in item:
                        if not element.is_empty:
                            dataset.add(element)


def _show_grey(stored: Int[np.ndarray, "height width"], header: Header, low: int, high: int) -> Grey:
    """Shows stored values, of which `low` is the smallest and `high` the largest that could be stored."""
    if high - low < 2**WORD:
        values, places = np.arange(low, high + 1), stored - low
    else:
        values, places = np.unique(stored, return_inverse=True)
    with np.errstate(over="ignore"):  # far outside a window is outside
        shown, by = _show_interest(header, *_apply_modality(header, values.astype(np.float64), low, high))
    if _is_inverted(header):
        shown = 1 - shown
    grey = (255 * shown).astype(np.float32)[places]
    if stored.min() < stored.max() and np.rint(grey.min()) == np.rint(grey.max()):
        raise DataError(f"its pixels differ, but {by} shows all of them alike")
    return grey


@dataclass(frozen=True)
class _Table:
    """A lookup table: its entries, the value that the first is for, and the bits of an entry as declared."""

    entries: Float64[np.ndarray, " entries"]
    first: int
    bits: int

    def look_up(self, values: Values) -> Values:
        """The entries of values rounded to whole numbers; beyond its ends a table goes on as it ends."""
        places = np.rint(values - self.first).clip(0, len(self.entries) - 1)
        return self.entries[places.astype(np.int64)]


def _apply_modality(
    header: Header, values: Values, low: int, high: int
) -> tuple[Values, float, float, _Table | None]:
    """What values mean to the modality, the lowest and highest that this can be, and the table used."""
    table = _find_table(header, "ModalityLUTSequence", "Modality LUT", low, high)
    slope, intercept = header.find_number("RescaleSlope"), header.find_number("RescaleIntercept")
    if slope is None or intercept is None:  # as DCMTK does it
        if slope not in (None, 1) or intercept not in (None, 0):
            header.notes.append("it has one of Rescale Slope and Rescale Intercept, which was not used")
        slope, intercept = 1.0, 0.0
    if table:
        if (slope, intercept) != (1, 0):
            header.notes.append("it has a Modality LUT and a Rescale Slope: the table was used")
        return table.look_up(values), 0, 2**table.bits - 1, table
    if slope == 0:
        raise DataError("its Rescale Slope is 0: all grey values would be the same")
    ends = low * slope + intercept, high * slope + intercept
    if not np.isfinite([*ends, ends[1] - ends[0]]).all():
        raise DataError(
            f"its Rescale Slope {slope:g} and Rescale Intercept {intercept:g} give no finite values"
        )
    return values * slope + intercept, min(ends), max(ends), None


def _show_interest(
    header: Header, values: Values, lowest: float, highest: float, modality: _Table | None
) -> tuple[Values, str]:
    """Values as 0 to 1, by a lookup table, or else a window, or else their full range; and by which."""
    table = _find_table(header, "VOILUTSequence", "VOI LUT", lowest, highest)
    if table:
        return table.look_up(values) / _choose_white(header, "VOI LUT", table), "its VOI LUT"
    window = _choose_window(header)
    if window:
        center, width, _ = window
        return _apply_window(values, *window), f"its window (center {center:g}, width {width:g})"
    if modality:
        highest = _choose_white(header, "Modality LUT", modality)
    by = f"the full range of its values ({lowest:,.10g} to {highest:,.10g})"
    return (values - lowest) / (highest - lowest), by


def _choose_window(header: Header) -> tuple[float, float, str] | None:
    """Center, width and function of the first window that can be used."""
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
            return center, width, function
        unusable = unusable or width
    if unusable:
        header.notes.append(f"its Window Width {unusable:g} cannot be used: shown over the full range")
    return None


def _apply_window(values: Values, center: float, width: float, function: str) -> Values:
    """The functions of C.11.2.1.2 and C.11.2.1.3."""
    if function == SIGMOID:
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == LINEAR:
        center, width = center - 0.5, width - 1
    start = center - width / 2
    return ((values - start) / width).clip(0, 1) if width else (values > start).astype(np.float64)


def _is_inverted(header: Header) -> bool:
    """Whether the smallest value is white: the presentation's shape says so, or else the pixels' kind."""
    photometric = header.find_text("PhotometricInterpretation")
    shape = header.find_text("PresentationLUTShape")
    if shape not in (INVERSE, IDENTITY):
        return photometric == INVERTED
    if (shape == INVERSE) != (photometric == INVERTED):
        done = "inverted" if shape == INVERSE else "not inverted"
        header.notes.append(f"{photometric} with a Presentation LUT Shape {shape}: {done}")
    return shape == INVERSE


def _find_table(header: Header, keyword: str, name: str, lowest: float, highest: float) -> _Table | None:
    """The first lookup table of a sequence that has data."""
    tables = (_load_table(header, item, name, lowest, highest) for item in header.list_items(keyword))
    return next((table for table in tables if table), None)


def _load_table(
    header: Header, item: Dataset, name: str, lowest: float, highest: float, prefix: str = "LUT"
) -> _Table | None:
    """The lookup table of an item for values from `lowest` to `highest`, None where it has no data.

    References:
        DICOM PS3.3, C.11.1.1, C.11.2.1.1 and C.7.6.3.1.6: entries of 8 bits come one or two in a word.
    """
    described = _read_words(header, item, f"{prefix}Descriptor")
    if len(described) < 3:  # pydicom would not know what kind of element the data are
        return None
    words = _read_words(header, item, f"{prefix}Data")
    if not words:
        return None
    declared, first, bits = described[:3]
    declared = declared or 2**WORD
    is_packed = len(words) == (declared + 1) // 2 or (bits <= BYTE and max(words) >= 2**BYTE)
    if len(words) < declared and is_packed:
        words, bits = np.asarray(words, "<u2").view(np.uint8).tolist(), BYTE
    entries = np.array(words[:declared], np.float64)
    if len(entries) < declared:
        header.notes.append(f"its {name} has {len(entries):,} entries of {declared:,}")
    # Signed where values can be negative, and where the table would be out of reach.
    if first >= 2 ** (WORD - 1) and (lowest < 0 or first > highest):
        first -= 2**WORD
    return _Table(entries, first, bits)


def _read_words(header: Header, item: Dataset, keyword: str) -> list[int]:
    """The words of an element, whether they are given as numbers or as bytes."""
    element = item.get_item(keyword)
    value = None if element is None else element.value
    if isinstance(value, bytes):
        _, little_endian = header.dataset.original_encoding
        kind = ">u2" if little_endian is False else "<u2"
        return np.frombuffer(value[: len(value) // 2 * 2], kind).tolist()
    numbers = Header(item).list_numbers(keyword)
    return [int(number) % 2**WORD for number in numbers if number is not None]


def _choose_white(header: Header, name: str, *tables: _Table) -> int:
    """The largest value of tables' entries by the bits declared, unless these are wrong.

    Some devices declare the bits of the words that entries are stored in, and have fewer: dcm4che, Horos and
    Cornerstone go by the entries then.
    """
    bits = tables[0].bits
    needed = max(1, *(int(table.entries.max()).bit_length() for table in tables))
    if needed > bits or needed < bits == WORD:
        header.notes.append(f"its {name} declares {bits} bits and has {needed}: scaled by these")
        bits = needed
    return 2**bits - 1


def _show_colour(header: Header, form: PixelFormat) -> Grey:
    if form.photometric not in COLOURS:
        raise DataError(f"its Photometric Interpretation {form.photometric[:20]!r} is not known")
    if form.samples != (1 if form.photometric == PALETTE else len(LUMINANCE)):
        raise DataError(f"it is {form.photometric} with {form.samples} numbers a pixel")
    if form.photometric == PALETTE:
        stored, bounds = read_stored(header.dataset, form)
        return _show_palette(stored, header, *bounds)
    pixels = read_array(header.dataset, form, raw=form.allocated > BYTE)
    if form.photometric.startswith(LUMINOUS) and form.allocated > BYTE:  # pydicom changes those of 8 bits
        luminance = pixels[..., 0].astype(np.float32)
    else:
        luminance = pixels.astype(np.float32) @ LUMINANCE
    return (255 * luminance / np.float32(2**form.stored - 1)).clip(0, 255)


def _show_palette(stored: Int[np.ndarray, "height width"], header: Header, low: int, high: int) -> Grey:
    """Shows stored values by lookup tables; pydicom's own cuts values off at the bits of an entry."""
    prefixes = (f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue"))
    found = [_load_table(header, header.dataset, "palette", low, high, prefix) for prefix in prefixes]
    tables = [table for table in found if table]
    if len(tables) < len(LUMINANCE):
        return _show_segmented_palette(stored, header.dataset)
    values = stored.astype(np.float64)
    colour = np.stack([table.look_up(values) for table in tables], axis=-1)
    return (colour @ LUMINANCE * (255 / _choose_white(header, "palette", *tables))).astype(np.float32)


def _show_segmented_palette(stored: Int[np.ndarray, "height width"], dataset: Dataset) -> Grey:
    try:
        colour = apply_color_lut(stored, dataset)
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises anything where elements are missing, empty or too short
        raise DataError("its palette is missing or damaged") from error
    luminance = colour[..., : len(LUMINANCE)].astype(np.float32) @ LUMINANCE  # alpha may follow
    return luminance * np.float32(255 / np.iinfo(colour.dtype).max)


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
