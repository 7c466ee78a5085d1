"""Images out of DICOM files, as a viewer would show them. Needs pydicom; gdcm for compressed ones.

Grey values go through four steps: stored, modality, values of interest, presentation. What is missing or
empty does nothing. Where elements contradict each other, one of them is chosen, and the image gets a note;
docs/dicom.md has the table of these choices. pydicom's own steps take no empty elements, no tables of 8 bits
in words and no wrong bits of tables, which devices write.

References:
    DICOM PS3.3, C.7.6.3 (pixels), C.7.6.16.2 (functional groups), C.11.1 (modality), C.11.2 (values of
    interest), C.11.6 (presentation).
"""

import contextlib
import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pydicom
from jaxtyping import Float32, Float64, Int, Shaped
from PIL import Image
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
)

from pneumo_keras.data.kinds import NOTE, Limits, check_pixels
from pneumo_keras.errors import DataError

INVERTED, UPRIGHT = "MONOCHROME1", "MONOCHROME2"
INVERSE, IDENTITY = "INVERSE", "IDENTITY"
LINEAR, EXACT, SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"
PALETTE, LUMINOUS, SUBSAMPLED = "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422"
COLOURS = ("RGB", PALETTE, LUMINOUS, SUBSAMPLED, "YBR_ICT", "YBR_RCT")
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
BYTE, WORD, WIDEST = 8, 16, 32  # bits
GROUPS = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
MACROS = (
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "PixelMeasuresSequence",
    "FramePixelDataPropertiesSequence",
)
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
SQUARE = 1.01  # aspects below count as square
FLATTEST = 10.0  # aspects above are refused
SOI, SIZ, MARK = b"\xff\xd8", b"\xff\x4f\xff\x51", 0xFF  # of JPEG and JPEG-LS, of JPEG 2000, of any segment
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Second bytes of the marks of frame headers, JPEG's and JPEG-LS's."""

Values = Float64[np.ndarray, "..."]
Stored = Int[np.ndarray, "height width"]
Grey = Float32[np.ndarray, "height width"]


def load_dicom(file: io.BytesIO, limits: Limits) -> Image.Image:
    """The image of a DICOM file, grey, 0 (black) to 255 (white), Pillow's mode "F", of square pixels.

    Its `info` has a note where the file contradicts itself.

    Raises:
        DataError: It has no image, or several, or one that cannot be read.
    """
    with _explain_damage("its DICOM elements are damaged"):
        dataset = pydicom.dcmread(file, force=True)  # those without a preamble, too
    header = _Header(dataset)
    _check_frames(header)
    for keyword in ("Columns", "Rows"):
        setattr(dataset, keyword, header.read_integer(keyword, 0, 2**16 - 1))
    check_pixels(dataset.Columns, dataset.Rows, limits)
    _flatten_groups(dataset)
    form = _read_format(header)
    grey = _show_grey(header, form) if form.photometric in (INVERTED, UPRIGHT) else _show_colour(header, form)
    square = _to_square_pixels(Image.fromarray(grey), _find_aspect(header), limits)
    square.info[NOTE] = "; ".join(header.notes)
    return square


@contextlib.contextmanager
def _explain_damage(reason: str) -> Iterator[None]:
    """Gives the reason for whatever pydicom and codecs raise, except for a lack of memory."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(reason) from error


@dataclass(frozen=True)
class _Header:
    """The elements of a data set, and notes where they contradict each other."""

    dataset: Dataset
    notes: list[str] = field(default_factory=list)

    def list_items(self, keyword: str) -> list[Dataset]:
        """The items of a sequence; none where it is missing or empty."""
        value = self.dataset.get(keyword)
        return list(value) if isinstance(value, Sequence) else []

    def list_texts(self, keyword: str) -> list[str]:
        """The values of an element in their order, "" for those that are missing or empty."""
        value = self.dataset.get(keyword)
        values = value if isinstance(value, MultiValue | list | tuple) else [value]
        return ["" if one is None else str(one).strip() for one in values]

    def list_numbers(self, keyword: str) -> list[float | None]:
        """The values of an element in their order, None for those that are empty."""
        name = dictionary_description(keyword)
        try:
            numbers = [float(text) if text else None for text in self.list_texts(keyword)]
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"its {name} is not a number") from error
        for number in numbers:
            if number is not None and not math.isfinite(number):
                raise DataError(f"its {name} is {number}: it must be a finite number")
        return numbers

    def find_number(self, keyword: str) -> float | None:
        """The first value that an element has."""
        return next((number for number in self.list_numbers(keyword) if number is not None), None)

    def read_integer(self, keyword: str, lowest: int, highest: int, default: int | None = None) -> int:
        """The first value that an element has; it must be within bounds."""
        number, name = self.find_number(keyword), dictionary_description(keyword)
        if number is None and default is None:
            raise DataError(f"its {name} is missing")
        integer = default if number is None else int(number)
        if integer is None or not lowest <= integer <= highest:
            raise DataError(f"its {name} is {integer}: it must be from {lowest:,} to {highest:,}")
        return integer

    def find_text(self, keyword: str) -> str:
        """The first value of an element in capitals; "" where it is missing or empty."""
        return next(iter(self.list_texts(keyword)), "").upper()


def _check_frames(header: _Header) -> None:
    dataset = header.dataset
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise DataError("its pixels are fractions without a known range (Float Pixel Data)")
    if not dataset.get("PixelData"):
        raise DataError("it is a DICOM file without an image")
    frames = header.find_number("NumberOfFrames") or 1
    if frames > 1:
        raise DataError(f"it has {int(frames):,} images, and must have one")
    dataset.NumberOfFrames = 1


def _flatten_groups(dataset: Dataset) -> None:
    """Moves elements of the functional groups of the one frame to the top, where other objects have them."""
    for groups in GROUPS:
        for group in _Header(dataset).list_items(groups)[:1]:
            for macro in MACROS:
                for item in _Header(group).list_items(macro)[:1]:
                    for element in item:
                        if not element.is_empty:
                            dataset.add(element)


@dataclass(frozen=True)
class _PixelFormat:
    """How a pixel is stored.

    Attributes:
        samples: Numbers a pixel.
        allocated: Bits that each takes.
        stored: Bits of these that count.
        high: The highest bit that counts, from 0.
        signed: Whether the highest bit is a sign.
        photometric: What the numbers mean.
    """

    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str


def _read_format(header: _Header) -> _PixelFormat:
    photometric = header.find_text("PhotometricInterpretation")
    if not photometric:
        raise DataError("its Photometric Interpretation is missing: it is unknown whether 0 is black")
    allocated = header.read_integer("BitsAllocated", 1, WIDEST)
    if allocated != 1 and allocated % BYTE:
        raise DataError(f"its Bits Allocated is {allocated}: it must be 1 or a multiple of {BYTE}")
    stored = header.read_integer("BitsStored", 1, allocated)
    high = header.find_number("HighBit")
    if high is None or not stored - 1 <= high < allocated:
        if high is not None:
            header.notes.append(f"its High Bit {high:g} cannot be: taken as {stored - 1}")
        high = stored - 1
    return _PixelFormat(
        samples=header.read_integer("SamplesPerPixel", 1, 4, default=1),
        allocated=allocated,
        stored=stored,
        high=int(high),
        signed=bool(header.read_integer("PixelRepresentation", 0, 1)),
        photometric=photometric,
    )


def _show_grey(header: _Header, form: _PixelFormat) -> Grey:
    if form.samples != 1:
        raise DataError(f"it is {form.photometric} with {form.samples} numbers a pixel: it must be 1")
    stored, low, high = _read_stored(header.dataset, form)
    if high - low < 2**WORD:
        values, indices = np.arange(low, high + 1), stored - low
    else:
        values, indices = np.unique(stored, return_inverse=True)
    with np.errstate(over="ignore"):  # far outside a window is outside
        shown, by = _show_interest(header, *_apply_modality(header, values.astype(np.float64), low, high))
    if _is_inverted(header):
        shown = 1 - shown
    grey = (255 * shown).astype(np.float32)[indices]
    if stored.min() < stored.max() and np.rint(grey.min()) == np.rint(grey.max()):
        raise DataError(f"its pixels differ, but {by} shows all of them as equal")
    return grey


def _read_stored(dataset: Dataset, form: _PixelFormat) -> tuple[Stored, int, int]:
    """The stored values of an image of one sample, and the lowest and highest that could be stored.

    References:
        DICOM PS3.5, 8.1.1: bits next to those stored are unused, or an overlay's.
    """
    words = _decode_pixels(dataset, form, raw=True)
    values = words.astype(np.int64 if form.allocated > WORD else np.int32)
    values = (values >> (form.high + 1 - form.stored)) & (2**form.stored - 1)
    if not form.signed:
        return values, 0, 2**form.stored - 1
    half = 2 ** (form.stored - 1)
    return (values ^ half) - half, -half, half - 1


@dataclass(frozen=True)
class _Table:
    """A lookup table: its entries, the value that the first is for, and the bits of an entry as declared."""

    entries: Float64[np.ndarray, " entries"]
    first: int
    bits: int

    def look_up(self, values: Values) -> Values:
        """The entries of values rounded to integers; the first and last one for those beyond."""
        indices = np.rint(values - self.first).clip(0, len(self.entries) - 1)
        return self.entries[indices.astype(np.int64)]


def _apply_modality(
    header: _Header, values: Values, low: int, high: int
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
    header: _Header, values: Values, lowest: float, highest: float, modality: _Table | None
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


def _choose_window(header: _Header) -> tuple[float, float, str] | None:
    """Center, width and function of the first window that can be used."""
    function = header.find_text("VOILUTFunction") or LINEAR
    if function not in (LINEAR, EXACT, SIGMOID):
        header.notes.append(f"its VOI LUT Function {function[:20]!r} is unknown: taken as {LINEAR}")
        function = LINEAR
    unusable = None
    pairs = zip(header.list_numbers("WindowCenter"), header.list_numbers("WindowWidth"), strict=False)
    for center, width in pairs:
        if center is None or not width:  # a width of 0 means no window
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


def _is_inverted(header: _Header) -> bool:
    """Whether the smallest value is white, by the presentation's shape or else the pixels' kind."""
    photometric = header.find_text("PhotometricInterpretation")
    shape = header.find_text("PresentationLUTShape")
    if shape not in (INVERSE, IDENTITY):
        return photometric == INVERTED
    if (shape == INVERSE) != (photometric == INVERTED):
        done = "inverted" if shape == INVERSE else "not inverted"
        header.notes.append(f"{photometric} with a Presentation LUT Shape {shape}: {done}")
    return shape == INVERSE


def _find_table(header: _Header, keyword: str, name: str, lowest: float, highest: float) -> _Table | None:
    """The first lookup table of a sequence that has data."""
    tables = (_load_table(header, item, name, lowest, highest) for item in header.list_items(keyword))
    return next((table for table in tables if table), None)


def _load_table(
    header: _Header, item: Dataset, name: str, lowest: float, highest: float, prefix: str = "LUT"
) -> _Table | None:
    """The lookup table of an item for values from `lowest` to `highest`, None where it has no data.

    References:
        DICOM PS3.3, C.11.1.1, C.11.2.1.1 and C.7.6.3.1.6: entries of 8 bits come one or two in a word.
    """
    described = _read_words(header, item, f"{prefix}Descriptor")
    if len(described) < 3:  # pydicom could not determine the type of the data
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


def _read_words(header: _Header, item: Dataset, keyword: str) -> list[int]:
    """The words of an element, whether they are given as numbers or as bytes."""
    element = item.get_item(keyword)
    value = None if element is None else element.value
    if isinstance(value, bytes):
        _, little_endian = header.dataset.original_encoding
        kind = ">u2" if little_endian is False else "<u2"
        return np.frombuffer(value[: len(value) // 2 * 2], kind).tolist()
    numbers = _Header(item).list_numbers(keyword)
    return [int(number) % 2**WORD for number in numbers if number is not None]


def _choose_white(header: _Header, name: str, *tables: _Table) -> int:
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


def _show_colour(header: _Header, form: _PixelFormat) -> Grey:
    if form.photometric not in COLOURS:
        raise DataError(f"its Photometric Interpretation {form.photometric[:20]!r} is not known")
    if form.samples != (1 if form.photometric == PALETTE else len(LUMINANCE)):
        raise DataError(f"it is {form.photometric} with {form.samples} numbers a pixel")
    if form.photometric == PALETTE:
        return _show_palette(header, *_read_stored(header.dataset, form))
    pixels = _decode_pixels(header.dataset, form, raw=form.allocated > BYTE)
    if form.photometric.startswith(LUMINOUS) and form.allocated > BYTE:  # pydicom converts those of 8 bits
        luminance = pixels[..., 0].astype(np.float32)
    else:
        luminance = pixels.astype(np.float32) @ LUMINANCE
    return (255 * luminance / np.float32(2**form.stored - 1)).clip(0, 255)


def _show_palette(header: _Header, stored: Stored, low: int, high: int) -> Grey:
    """Shows stored values by lookup tables; pydicom's own cuts values off at the bits of an entry."""
    prefixes = (f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue"))
    found = [_load_table(header, header.dataset, "palette", low, high, prefix) for prefix in prefixes]
    tables = [table for table in found if table]
    if len(tables) == len(LUMINANCE):
        colour = np.stack([table.look_up(stored.astype(np.float64)) for table in tables], axis=-1)
        white = _choose_white(header, "palette", *tables)
        return (colour @ LUMINANCE * (255 / white)).astype(np.float32)
    with _explain_damage("its palette is missing or damaged"):
        colour = apply_color_lut(stored, header.dataset)  # in segments, perhaps
    luminance = colour[..., : len(LUMINANCE)].astype(np.float32) @ LUMINANCE  # alpha may follow
    return luminance * np.float32(255 / np.iinfo(colour.dtype).max)


def _find_aspect(header: _Header) -> float:
    """Height of a pixel over its width, of the first element that has it.

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
            f"its pixels are {aspect:g} times as high as wide: more than {FLATTEST:g} to 1 is not an image"
        )
    width, height = image.width * max(1, 1 / aspect), image.height * max(1, aspect)
    shrink = min(1.0, math.sqrt(limits.pixels / (width * height)))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return image.resize(size, Image.Resampling.BILINEAR)


def _decode_pixels(dataset: Dataset, form: _PixelFormat, *, raw: bool) -> Shaped[np.ndarray, "..."]:
    """The pixels of a file out of its codec; `raw` without a conversion of colours."""
    syntax = _find_syntax(dataset)
    refusal = DataError(
        f"its pixels are compressed as {syntax.name}, which no installed codec reads: save it uncompressed"
    )
    # gdcm reads JPEG of 12 bits, which pydicom does not ask of it, and goes by the codestream alone.
    asked = JPEGLosslessSV1 if syntax == JPEGExtended12Bit and form.stored > BYTE else syntax
    try:
        decoder = cast(Any, get_decoder(asked))  # its options are typed wrongly
    except NotImplementedError:
        raise refusal from None
    if not decoder.is_available:
        raise refusal
    if syntax.is_encapsulated:
        _check_codestream(dataset, form)
    else:
        _check_length(dataset, form)
    dataset.file_meta.TransferSyntaxUID = asked
    # gdcm keeps as many of the lowest bits as are declared to be stored.
    kept = {"bits_stored": form.high + 1, "correct_unused_bits": False}
    with _explain_damage(f"its pixels ({syntax.name}) are damaged, or no installed codec reads their kind"):
        return decoder.as_array(dataset, index=0, raw=raw, **kept)[0]


def _find_syntax(dataset: Dataset) -> UID:
    """How the data set is encoded, as declared, or else as it was read."""
    meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
    if not meta.get("TransferSyntaxUID"):
        if dataset["PixelData"].is_undefined_length:
            raise DataError("its Transfer Syntax UID is missing: the compression of its pixels is unknown")
        implicit, little_endian = dataset.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        meta.TransferSyntaxUID = plain if little_endian else ExplicitVRBigEndian
        dataset.file_meta = meta
    return meta.TransferSyntaxUID


def _check_length(dataset: Dataset, form: _PixelFormat) -> None:
    samples = 2 if form.photometric == SUBSAMPLED else form.samples
    needed = math.ceil(math.prod([dataset.Rows, dataset.Columns, samples, form.allocated]) / BYTE)
    if len(dataset.PixelData) < needed:
        raise DataError(
            f"it has {len(dataset.PixelData):,} bytes of pixels, and {dataset.Columns:,} x {dataset.Rows:,} "
            f"pixels take {needed:,}"
        )


def _check_codestream(dataset: Dataset, form: _PixelFormat) -> None:
    """Compares a compressed image with the data set: of two sizes, codecs take the one or the other."""
    header = _read_codestream_header(get_frame(dataset.PixelData, 0, number_of_frames=1))
    if header is None:
        return
    height, width, samples, bits = header
    if (height, width, samples) != (dataset.Rows, dataset.Columns, form.samples):
        raise DataError(
            f"its compressed pixels are {width:,} x {height:,} of {samples}, its elements declare "
            f"{dataset.Columns:,} x {dataset.Rows:,} of {form.samples}"
        )
    if bits > form.allocated:
        raise DataError(f"its compressed pixels have {bits} bits, its elements allocate {form.allocated}")


def _read_codestream_header(frame: bytes) -> tuple[int, int, int, int] | None:
    """Height, width, samples and bits of a JPEG, JPEG-LS or JPEG 2000 image; None where it is unknown.

    References:
        ITU-T T.81, B.2.2 (frame header); ISO 14495-1, C.2.2; ISO 15444-1, A.5.1 (SIZ).
    """
    if (start := frame.find(SIZ)) >= 0 and len(frame) >= start + 43:
        right, down, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
        samples, depth = struct.unpack(">HB", frame[start + 40 : start + 43])
        return down - top, right - left, samples, (depth & 127) + 1
    at = len(SOI) if frame.startswith(SOI) else len(frame)
    while at + 10 <= len(frame) and frame[at] == MARK:
        if frame[at + 1] in FRAMES:
            bits, height, width, samples = struct.unpack(">BHHB", frame[at + 4 : at + 10])
            return (height, width, samples, bits) if height else None  # 0: it follows the lines
        padding = frame[at + 1] == MARK
        at += 1 if padding else 2 + struct.unpack(">H", frame[at + 2 : at + 4])[0]
    return None
