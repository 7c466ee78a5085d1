"""What a DICOM file says of its pixels, and its pixels as they were stored, by pydicom and gdcm.

Whatever is missing, empty or nonsense is named in a `DataError`.
"""

import math
import struct
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from jaxtyping import Int, Integer, Shaped
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from pneumo_keras.errors import DataError

BYTE, WIDEST = 8, 32  # bits

SOI, SIZ, MARK = b"\xff\xd8", b"\xff\x4f\xff\x51", 0xFF  # of JPEG and JPEG-LS, of JPEG 2000, of any segment
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Second bytes of the marks of frame headers, JPEG's and JPEG-LS's."""


@dataclass(frozen=True)
class Header:
    """The elements of a data set.

    Attributes:
        dataset: With the elements.
        notes: Where elements contradict each other, and what is done then.
    """

    dataset: Dataset
    notes: list[str] = field(default_factory=list)

    def list_items(self, keyword: str) -> list[Dataset]:
        """Of a sequence; none where it is missing or empty."""
        value = self.dataset.get(keyword)
        return list(value) if isinstance(value, Sequence) else []

    def list_numbers(self, keyword: str) -> list[float | None]:
        """The values of an element in their order, None for those that are empty.

        Raises:
            DataError: One is no finite number.
        """
        name = dictionary_description(keyword)
        try:
            value = self.dataset.get(keyword)
            values = value if isinstance(value, MultiValue | list | tuple) else [value]
            texts = ["" if one is None else str(one).strip() for one in values]
            numbers = [float(text) if text else None for text in texts]
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"its {name} is no number") from error
        for number in numbers:
            if number is not None and not math.isfinite(number):
                raise DataError(f"its {name} is {number}: it must be a finite number")
        return numbers

    def find_number(self, keyword: str) -> float | None:
        """The first value that an element has, None where it is missing or empty."""
        return next((number for number in self.list_numbers(keyword) if number is not None), None)

    def read_integer(self, keyword: str, lowest: int, highest: int, default: int | None = None) -> int:
        """The value of an element.

        Raises:
            DataError: It is missing and there is no default, or out of bounds.
        """
        number = self.find_number(keyword)
        name = dictionary_description(keyword)
        if number is None and default is None:
            raise DataError(f"its {name} is missing")
        integer = default if number is None else int(number)
        if integer is None or not lowest <= integer <= highest:
            raise DataError(f"its {name} is {integer}: it must be from {lowest:,} to {highest:,}")
        return integer

    def find_text(self, keyword: str) -> str:
        """The first value of an element in capitals; "" where it is missing or empty."""
        value = self.dataset.get(keyword)
        if isinstance(value, MultiValue | list | tuple):
            value = next(iter(value), None)
        return "" if value is None else str(value).strip().upper()


@dataclass(frozen=True)
class PixelFormat:
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


def read_format(header: Header) -> PixelFormat:
    """How the pixels of a file are stored.

    Raises:
        DataError: It says so wrongly, or not at all.
    """
    photometric = header.find_text("PhotometricInterpretation")
    if not photometric:
        raise DataError("its Photometric Interpretation is missing: nothing says whether 0 is black")
    allocated = header.read_integer("BitsAllocated", 1, WIDEST)
    if allocated != 1 and allocated % BYTE:
        raise DataError(f"its Bits Allocated is {allocated}: it must be 1 or a multiple of {BYTE}")
    stored = header.read_integer("BitsStored", 1, allocated)
    high = header.find_number("HighBit")
    if high is None or not stored - 1 <= high < allocated:
        if high is not None:
            header.notes.append(f"its High Bit {high:g} cannot be: taken as {stored - 1}")
        high = stored - 1
    return PixelFormat(
        samples=header.read_integer("SamplesPerPixel", 1, 4, default=1),
        allocated=allocated,
        stored=stored,
        high=int(high),
        signed=bool(header.read_integer("PixelRepresentation", 0, 1)),
        photometric=photometric,
    )


def read_stored(
    dataset: Dataset, form: PixelFormat
) -> tuple[Int[np.ndarray, "height width"], tuple[int, int]]:
    """The stored values of a grey image, and the lowest and highest that could be stored.

    Raises:
        DataError: They cannot be read.

    References:
        DICOM PS3.5, 8.1.1: bits next to those stored are nobody's, or an overlay's.
    """
    words = read_array(dataset, form, raw=True)
    values = words.astype(np.int64 if form.allocated > 16 else np.int32)
    values = (values >> (form.high + 1 - form.stored)) & (2**form.stored - 1)
    if not form.signed:
        return values, (0, 2**form.stored - 1)
    half = 2 ** (form.stored - 1)
    return (values ^ half) - half, (-half, half - 1)


def read_array(dataset: Dataset, form: PixelFormat, *, raw: bool) -> Shaped[np.ndarray, "height width ..."]:
    """The pixels of a file out of its codec; `raw` without a change of colours.

    Raises:
        DataError: There is no codec for them, or they are damaged.
    """
    syntax = _find_syntax(dataset)
    refusal = DataError(
        f"its pixels are compressed as {syntax.name}, which no installed codec reads: uv sync --extra dicom "
        "brings gdcm, or save it uncompressed"
    )
    try:
        decoder = cast(Any, get_decoder(syntax))  # its options are typed wrongly
    except NotImplementedError:
        raise refusal from None
    if not decoder.is_available:
        raise refusal
    if syntax.is_encapsulated:
        _check_frame(dataset, form)
    else:
        _check_length(dataset, form)
    try:
        if syntax == JPEGExtended12Bit and form.stored > BYTE:
            return _decode_extended(dataset, form)
        # gdcm keeps as many of the lowest bits as are said to be stored.
        kept = {"bits_stored": form.high + 1, "correct_unused_bits": False}
        pixels, _ = decoder.as_array(dataset, index=0, raw=raw, **kept)
    except MemoryError:
        raise
    except ImportError:
        raise refusal from None
    except Exception as error:  # codecs raise anything on damaged pixels
        raise DataError(
            f"its pixels ({syntax.name}) are damaged, or no installed codec reads their kind"
        ) from error
    return pixels


def _find_syntax(dataset: Dataset) -> UID:
    """How the data set is encoded: as it says, or as it was read where it says nothing."""
    meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
    if not meta.get("TransferSyntaxUID"):
        if dataset["PixelData"].is_undefined_length:
            raise DataError("its Transfer Syntax UID is missing: nothing says how its pixels are compressed")
        implicit, little_endian = dataset.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        meta.TransferSyntaxUID = plain if little_endian else ExplicitVRBigEndian
        dataset.file_meta = meta
    return meta.TransferSyntaxUID


def _check_length(dataset: Dataset, form: PixelFormat) -> None:
    samples = 2 if form.photometric == "YBR_FULL_422" else form.samples
    needed = math.ceil(math.prod([dataset.Rows, dataset.Columns, samples, form.allocated]) / BYTE)
    if len(dataset.PixelData) < needed:
        raise DataError(
            f"it has {len(dataset.PixelData):,} bytes of pixels, and {dataset.Columns:,} x {dataset.Rows:,} "
            f"pixels take {needed:,}"
        )


def _check_frame(dataset: Dataset, form: PixelFormat) -> None:
    """Compares the header of a compressed image with the data set: codecs believe the one or the other."""
    header = _read_frame_header(get_frame(dataset.PixelData, 0, number_of_frames=1))
    if header is None:
        return
    height, width, samples, bits = header
    if (height, width, samples) != (dataset.Rows, dataset.Columns, form.samples):
        raise DataError(
            f"its compressed pixels are {width:,} x {height:,} of {samples}, the file says "
            f"{dataset.Columns:,} x {dataset.Rows:,} of {form.samples}"
        )
    if bits > form.allocated:
        raise DataError(f"its compressed pixels have {bits} bits, the file allocates {form.allocated}")


def _read_frame_header(frame: bytes) -> tuple[int, int, int, int] | None:
    """Height, width, samples and bits of a JPEG, JPEG-LS or JPEG 2000 image; None where nothing is known.

    References:
        ITU-T T.81, B.2.2 (frame header); ISO 14495-1, C.2.2; ISO 15444-1, A.5.1 (SIZ).
    """
    if (start := frame.find(SIZ)) >= 0 and len(frame) >= start + 43:
        right, down, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
        samples, depth = struct.unpack(">HB", frame[start + 40 : start + 43])
        return down - top, right - left, samples, (depth & 127) + 1
    place = len(SOI) if frame.startswith(SOI) else len(frame)
    while place + 10 <= len(frame) and frame[place] == MARK:
        if frame[place + 1] in FRAMES:
            bits, height, width, samples = struct.unpack(">BHHB", frame[place + 4 : place + 10])
            return (height, width, samples, bits) if height else None  # 0: it follows the lines
        padding = frame[place + 1] == MARK
        place += 1 if padding else 2 + struct.unpack(">H", frame[place + 2 : place + 4])[0]
    return None


def _decode_extended(dataset: Dataset, form: PixelFormat) -> Integer[np.ndarray, "height width"]:
    """JPEG of 12 bits, which gdcm reads and pydicom does not ask of it."""
    import gdcm as untyped

    gdcm = cast(Any, untyped)
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(get_frame(dataset.PixelData, 0, number_of_frames=1))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((dataset.Columns, dataset.Rows, 1))
    image.SetDataElement(element)
    kinds = gdcm.PhotometricInterpretation
    image.SetPhotometricInterpretation(kinds(kinds.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, form.allocated, form.stored, form.high, int(form.signed)))
    words = image.GetBuffer().encode("utf-8", "surrogateescape")  # its bytes, which gdcm takes for text
    return np.frombuffer(words, f"<u{form.allocated // BYTE}").reshape(dataset.Rows, dataset.Columns)
