"""What all tables of settings share."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError

LONGEST_TEXT = 4096  # characters; no path is longer


def _has_undecodable(text: str) -> bool:
    """Whether it holds bytes that are no text, as the system gives them to programs."""
    return any("\ud800" <= sign <= "\udfff" for sign in text)


class Settings(BaseModel):
    """A table of settings: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_kind(cls, value: Any, info: Any) -> Any:
        """Pydantic takes true for 1, text that no file can hold, and no path for the working folder."""
        field = cls.model_fields[info.field_name or ""]
        if value == "" and field.default != "":
            raise PydanticCustomError("empty", "must not be empty")
        is_switch = field.annotation is bool
        if not is_switch and any(type(one) is bool for one in (value if type(value) is list else [value])):
            raise PydanticCustomError("switch", "must be no true or false")
        if isinstance(value, str) and (len(value) > LONGEST_TEXT or "\0" in value or _has_undecodable(value)):
            raise PydanticCustomError("text", "must be text that a file can hold")
        return value
