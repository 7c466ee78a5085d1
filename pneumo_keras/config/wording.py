"""What a setting may be, in words: for the line that refuses a value and for `config show`."""

import functools
from typing import Any

from pydantic import ValidationError

from pneumo_keras.config.choices import to_hint
from pneumo_keras.config.settings import Config
from pneumo_keras.config.tables import LONGEST_TEXT
from pneumo_keras.runtime.invocation import to_command

Fragment = dict[str, Any]
"""What JSON Schema says of one setting."""

SHOWN = 200  # characters of what was received

BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "object": "a table of settings",
}


@functools.cache
def list_settings() -> dict[str, Fragment]:
    """All tables and keys, dotted (`training`, `training.epochs`), by JSON Schema."""
    schema = Config.model_json_schema()
    fragments: dict[str, Fragment] = {}
    for name, fragment in schema["properties"].items():
        if "$ref" not in fragment:
            fragments[name] = fragment
            continue
        table = schema["$defs"][fragment["$ref"].rpartition("/")[2]]
        fragments[name] = table
        fragments |= {f"{name}.{key}": part for key, part in table["properties"].items()}
    return fragments


def to_rule(fragment: Fragment) -> str:
    """`a whole number at least 1`, `one of cached, online`."""
    if "anyOf" in fragment:  # or null, which TOML does not know
        return to_rule(fragment["anyOf"][0])
    names = ", ".join(map(str, list_choices(fragment)))
    if "enum" in fragment:
        return f"one of {names}"
    if "prefixItems" in fragment:
        return (
            f"a list of {len(fragment['prefixItems'])} whole numbers{_to_bounds(fragment['prefixItems'][0])}"
        )
    if "items" in fragment:
        return f'a list such as ["mixed4"], of {names}'
    if fragment.get("format") == "path":
        return "a path"
    return f"{KINDS[fragment['type']]}{_to_bounds(fragment)}"


def _to_bounds(fragment: Fragment) -> str:
    bounds = [f"{words} {fragment[bound]:,.12g}" for bound, words in BOUNDS.items() if bound in fragment]
    return " and ".join(bounds) and f" {' and '.join(bounds)}"


def list_choices(fragment: Fragment) -> list[Any]:
    """The values that a setting, or each entry of a list, may have; empty where all of a kind may."""
    fragment = fragment.get("anyOf", [fragment])[0]
    return fragment.get("enum") or fragment.get("items", {}).get("enum", [])


def takes_text(key: str) -> bool:
    """Whether a setting is text: a name, a path, an address."""
    fragment = list_settings()[key]
    return fragment.get("anyOf", [fragment])[0].get("type") == "string"


def to_one_line(error: ValidationError) -> str:
    """The first fault: the setting, its rule, what was received and what may have been meant."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
    if first["type"] == "extra_forbidden":
        return to_unknown_key(key)
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    if first["type"] == "text":
        rule = f"text of at most {LONGEST_TEXT:,} characters, without null characters and undecodable bytes"
        return f"Setting '{key}' must be {rule}. Received: {show(first['input'])}"
    if first["type"] == "empty":
        default = list_settings()[key]["default"]
        otherwise = "for it to stay unset" if default is None else f"for its default, {show(default)}"
        rule = to_rule(list_settings()[key])
        return f"Setting '{key}' must be {rule}. Received: nothing. Leave it out {otherwise}"
    return to_refusal(key, first["input"])


def to_refusal(key: str, value: object) -> str:
    """Says what the setting must be."""
    fragment = list_settings()[key]
    hint = to_hint(value, list_choices(fragment)) if isinstance(value, str) else ""
    return f"Setting '{key}' must be {to_rule(fragment)}. Received: {show(value)}{hint and '.' + hint}"


def to_unknown_key(key: str) -> str:
    """Says which setting is nearest."""
    hint = to_hint(key[:SHOWN], list(list_settings())) or f" See: {to_command('config', 'show', 'default')}"
    return f"Unknown setting '{cut(key)}'.{hint}"


def show(value: object) -> str:
    """A value as it is written, or the beginning of it."""
    try:
        return cut(repr(value))
    except (ValueError, RecursionError):  # a whole number of thousands of digits; a table in a table in a ...
        return "something of great length"


def cut(text: str) -> str:
    """The beginning of a text that is too long for a line."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
