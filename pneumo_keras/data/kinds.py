"""Which files are images, by extension or first bytes, and limits on decoding one."""

import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from pneumo_keras.errors import DataError
from pneumo_keras.storage.bounded_reading import open_ordinary

NOTE = "pneumo_keras: note"
"""The key of an image's `info` for how its file was read, if that must be reported."""


@dataclass(frozen=True)
class Limits:
    """Limits on a file: pixels, bytes, seconds, and bytes of memory of the process that decodes it."""

    pixels: int = 50_000_000  # the largest detectors have 20 million
    bytes: int = 256 * 2**20
    seconds: float = 30.0
    memory: int = 3 * 2**30


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Checks the size that a file declares, before anything is decoded.

    Raises:
        DataError: There are none, or too many.
    """
    if width < 1 or height < 1:
        raise DataError("it has no pixels")
    if width * height > limits.pixels:
        raise DataError(f"it has {width:,} x {height:,} pixels, more than {limits.pixels:,}")


EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "tif", "tiff", "bmp", "dib", "webp"),
        *("dcm", "dicom", "dic", "ima"),
    )
)
DICOM_DIRECTORY = "DICOMDIR"  # lists the other files of a medium (DICOM PS3.10, 8.6)
DICOM_PREFIX = slice(128, 132), b"DICM"  # DICOM PS3.10, 7.1
DICOM_FIRST_GROUPS = 2, 8  # groups of elements that a data set without a preamble begins with
LONG_ELEMENTS = b"OB", b"OD", b"OF", b"OL", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"  # PS3.5, 7.1.2
SIGNATURE_BYTES = 4096  # bytes that identify a format
MAGIC_NUMBERS = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",  # JPEG
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # TIFF
)


def is_image_file(path: str | Path) -> bool:
    """Whether a file found in a folder is meant to be an image.

    A damaged image is one, and so is a file that cannot be opened: its decoder reports why.
    """
    name = Path(path).name
    if Path(name).suffix.casefold() in EXTENSIONS:
        return True
    if name.upper() == DICOM_DIRECTORY:
        return False
    try:
        with open_ordinary(Path(path), most=sys.maxsize) as file:
            first_bytes = file.read(SIGNATURE_BYTES)
    except OSError:
        return True
    return has_image_signature(first_bytes)


def has_image_signature(first_bytes: bytes) -> bool:
    """Whether a file with these first bytes is PNG, JPEG, TIFF, BMP, WebP or DICOM."""
    return (
        first_bytes.startswith(MAGIC_NUMBERS)
        or is_dicom(first_bytes)
        or (first_bytes[:4] == b"RIFF" and first_bytes[8:12] == b"WEBP")
        or (first_bytes[:2] == b"BM" and first_bytes[6:10] == bytes(4) and first_bytes[15:18] == bytes(3))
    )


def is_dicom(first_bytes: bytes) -> bool:
    """Whether a file with these first bytes is DICOM, with its mark or without."""
    position, mark = DICOM_PREFIX
    return first_bytes[position] == mark or any(_begins_with_elements(first_bytes, order) for order in "<>")


def _begins_with_elements(first_bytes: bytes, order: str) -> bool:
    """Whether there are two elements, of a group that files begin with and of ascending tags.

    References:
        DICOM PS3.5, 7.1: the forms of an element.
    """
    if len(first_bytes) < 12:
        return False
    group, number, length = struct.unpack_from(f"{order}HHI", first_bytes)
    kind, behind = first_bytes[4:6], 8
    if kind in LONG_ELEMENTS:
        (length,), behind = struct.unpack_from(f"{order}I", first_bytes, 8), 12
    elif kind.isalpha() and kind.isupper():
        (length,) = struct.unpack_from(f"{order}H", first_bytes, 6)
    start = behind + length
    if group not in DICOM_FIRST_GROUPS or length % 2 or start + 4 > len(first_bytes):
        return False
    following = struct.unpack_from(f"{order}HH", first_bytes, start)
    return (group, number) < following < (group + 32, 0)
