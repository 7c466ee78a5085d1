"""Findings as JSON documents."""

import json
from typing import Any

from pydantic import TypeAdapter


def to_document(value: Any) -> dict[str, Any]:
    """A frozen dataclass as JSON knows it; None for NaN."""
    return json.loads(TypeAdapter(type(value)).dump_json(value))
