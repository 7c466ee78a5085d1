"""Lookup tables of DICOM files: for grey values and for palettes.

References:
    DICOM PS3.3, C.11.1.1 and C.11.2.1.1 (modality, values of interest), C.7.6.3.1.5 and .6 (palettes).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from pydicom.dataset import Dataset

from pneumo_keras.data.dicom_header import Header

WORD, BYTE = 16, 8  # bits
DESCRIBED = 3  # of a table: how many entries, what the first is for, of how many bits
DESCRIPTOR, DATA = "LUTDescriptor", "LUTData"

Values = Float64[np.ndarray, "..."]
Words = Int[np.ndarray, " _"]


@dataclass(frozen=True)
class Table:
    """A lookup table.

    Attributes:
        entries: What comes out.
        first: What the first entry is for; values below it get that entry, too.
        bits: That an entry has, as the file says.
    """

    entries: Values
    first: int
    bits: int

    def look_up(self, values: Values) -> Values:
        """The entries of values, which are rounded to whole numbers."""
        places = np.rint(values - self.first).clip(0, len(self.entries) - 1)
        return self.entries[places.astype(np.int64)]


def load_table(
    header: Header,
    item: Dataset,
    name: str,
    lowest: float,
    highest: float,
    *,
    descriptor: str = DESCRIPTOR,
    data: str = DATA,
) -> Table | None:
    """The lookup table of an item, None where it has no data.

    Args:
        header: Of the file.
        item: With the table.
        name: For messages.
        lowest: The smallest value that can come in.
        highest: The largest value that can come in.
        descriptor: The element that describes it.
        data: The element with its entries.
    """
    described = _read_words(header, item, descriptor)
    if len(described) < DESCRIBED:  # nor would pydicom know what kind of element the data are
        return None
    words = _read_words(header, item, data)
    if not len(words):
        return None
    declared, first, bits = (int(word) for word in described[:DESCRIBED])
    declared = declared or 2**WORD
    entries, bits = _unpack_entries(words, declared, bits)
    if len(entries) < declared:
        header.notes.append(f"its {name} has {len(entries):,} entries of {declared:,}")
    # Signed where values can be negative, and where the table would be out of reach.
    if first >= 2 ** (WORD - 1) and (lowest < 0 or first > highest):
        first -= 2**WORD
    return Table(entries.astype(np.float64), first, bits)


def choose_white(header: Header, name: str, *tables: Table) -> int:
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


def _read_words(header: Header, item: Dataset, keyword: str) -> Words:
    """The words of an element, whether they are given as numbers or as bytes."""
    element = item.get_item(keyword)
    value = None if element is None else element.value
    if isinstance(value, bytes):
        _, little_endian = header.dataset.original_encoding
        kind = ">u2" if little_endian is False else "<u2"
        return np.frombuffer(value[: len(value) // 2 * 2], kind).astype(np.int64)
    numbers = Header(item).list_numbers(keyword)
    return np.array([int(number) % 2**WORD for number in numbers if number is not None], np.int64)


def _unpack_entries(words: Words, declared: int, bits: int) -> tuple[Words, int]:
    """The entries, one a word or two in each, and their bits."""
    too_few = len(words) < declared
    packed = too_few and (len(words) == (declared + 1) // 2 or (bits <= BYTE and words.max(initial=0) > 255))
    if not packed:
        return words[:declared], bits
    return words.astype("<u2").view(np.uint8).astype(np.int64)[:declared], BYTE
