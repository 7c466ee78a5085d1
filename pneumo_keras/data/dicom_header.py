"""What a DICOM file says of its one image, read so that what is missing, empty or nonsense is told apart."""

import math
from dataclasses import dataclass, field

from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from pneumo_keras.errors import DataError

GROUPS = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
MACROS = (
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "PixelMeasuresSequence",
    "FramePixelDataPropertiesSequence",
)


@dataclass(frozen=True)
class Header:
    """The elements of a data set.

    Attributes:
        dataset: With the elements.
        notes: What is to be known of the image, since its elements contradict each other.
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
            numbers = [_to_number(one) for one in values]
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"its {name} is no number") from error
        for number in numbers:
            if number is not None and not math.isfinite(number):
                raise DataError(f"its {name} is {number}: it must be a finite number")
        return numbers

    def find_number(self, keyword: str) -> float | None:
        """The first value that an element has, None where it is missing or empty.

        Raises:
            DataError: It is no finite number.
        """
        return next((number for number in self.list_numbers(keyword) if number is not None), None)

    def read_integer(self, keyword: str, lowest: int, highest: int, default: int | None = None) -> int:
        """The value of an element, within bounds.

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


def flatten_groups(dataset: Dataset) -> None:
    """Moves what functional groups say of the one frame to where objects without them say it.

    References:
        DICOM PS3.3, C.7.6.16.2: pixel measures, pixel value transformation, frame VOI LUT.
    """
    whole = Header(dataset)
    for groups in GROUPS:
        for group in whole.list_items(groups)[:1]:
            for macro in MACROS:
                for item in Header(group).list_items(macro)[:1]:
                    for element in item:
                        if not element.is_empty:
                            dataset.add(element)


def _to_number(value: object) -> float | None:
    text = "" if value is None else str(value).strip()
    return float(text) if text else None
