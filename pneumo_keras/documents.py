"""JSON documents: what the package's findings look like on disk. NaN is null there."""

import json
import math
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from pneumo_keras.errors import RunError

Kind = TypeVar("Kind")


def to_document(value: object) -> dict[str, Any]:
    """A mapping or a dataclass as JSON knows it."""
    return json.loads(TypeAdapter(type(value)).dump_json(value))


def parse_document(kind: type[Kind], text: str, *, name: str) -> Kind:
    """Reads what `to_document` gave.

    Args:
        kind: A dataclass, or another type that pydantic checks.
        text: JSON.
        name: Of the file, for the message.

    Raises:
        RunError: The text is no JSON, or not of that kind.
    """
    adapter = TypeAdapter(kind)
    try:
        tree = json.loads(text)
        for fault in _list_faults(adapter, tree):
            if fault["type"] == "float_type" and fault["input"] is None:
                _put(tree, fault["loc"], math.nan)
        return adapter.validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise RunError(f"{name} is damaged: {place}: {first['msg']}. Train or evaluate again.") from error
    except ValueError as error:
        raise RunError(f"{name} is no JSON: {error}. Train or evaluate again.") from error


def _list_faults(adapter: Any, tree: Any) -> list[Any]:
    try:
        adapter.validate_python(tree)
    except ValidationError as error:
        return list(error.errors())
    return []


def _put(tree: Any, place: tuple[int | str, ...], value: float) -> None:
    for part in place[:-1]:
        tree = tree[part]
    tree[place[-1]] = value
