"""Frozen dataclasses as JSON documents and back, checked by their own annotations.

JSON has no NaN: it is written as null, and read back where a field is a `FloatOrNan`.
"""

import functools
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from pneumo_keras.errors import RunError

T = TypeVar("T")

FloatOrNan = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number that may be undefined: NaN here, null in a document."""

SHOWN = 100  # characters of what was received
LARGEST_INTEGER = 2.0**63


_build_adapter = functools.cache(TypeAdapter[Any])


def to_document(value: object) -> dict[str, Any]:
    """The fields of a dataclass for `json.dumps`, None for NaN."""
    # Only by way of text is NaN written as null (pydantic 2.14).
    return json.loads(_build_adapter(type(value)).dump_json(value, by_alias=True))


def parse_document(kind: type[T], text: str, *, name: str) -> T:
    """A dataclass from the text of a JSON file.

    Args:
        kind: The dataclass. Every key is required, no other one is allowed, and nothing is converted.
        text: The content of the file.
        name: The file, for the error message.

    Raises:
        RunError: The text is not such a document. Names the first fault.
    """
    try:
        json.loads(text, parse_constant=_check_number, parse_float=_check_number, parse_int=_check_number)
        return _build_adapter(kind).validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        raise _to_damage(name, _to_fault(error)) from error
    except (ValueError, RecursionError) as error:
        raise _to_damage(name, f"{str(error)[: 2 * SHOWN]}. Received: {text[:SHOWN]!r}") from error


def check_part(kind: Any, document: Mapping[str, Any], *, name: str) -> None:
    """Checks some keys of a document that may have others: `kind` is a TypedDict of the checked ones.

    Raises:
        RunError: A checked key is missing or has another type of value. Names the first fault.
    """
    try:
        _build_adapter(kind).validate_python(document, strict=True, extra="ignore")
    except ValidationError as error:
        raise _to_damage(name, _to_fault(error)) from error


def _check_number(text: str) -> None:
    """Refuses what pydantic lets pass: NaN, 1e999, integers of 5,000 digits."""
    if not abs(float(text)) < (LARGEST_INTEGER if text.lstrip("-").isdigit() else math.inf):
        raise ValueError(f"{text[:SHOWN]} is not a number of a sensible size")


def _to_damage(name: str, fault: str) -> RunError:
    return RunError(f"{name} is damaged: {fault}. Train or evaluate again.")


def _to_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])[:SHOWN]
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")[: 2 * SHOWN]
    received = repr(first["input"])
    received = received if len(received) <= SHOWN else received[:SHOWN] + "..."
    rule = {
        "json_invalid": message,
        "missing": f"'{key}' is missing",
        "unexpected_keyword_argument": f"'{key}' is unknown",
        "extra_forbidden": f"'{key}' is unknown",
    }.get(first["type"], f"'{key}' {message}" if key else message)
    return f"{rule}. Received: {received}"
