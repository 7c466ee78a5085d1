"""Settings that name a row of a table."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True)
class OneOf:
    """Annotates text that must be a name of a table: `Annotated[str, OneOf(tuple(SOURCES))]`."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), "enum": list(self.names)}

    def _check(self, name: str) -> str:
        if name not in self.names:
            raise PydanticCustomError("one_of", "must be one of the names of a table")
        return name


def to_hint(given: object, known: Sequence[object]) -> str:
    """` Did you mean 'jax'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(str(given), [str(name) for name in known], n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
