"""A configuration explained: every setting with its meaning, its rule and its value."""

from typing import Any

import tomli_w

from pneumo_keras.config.settings import Config
from pneumo_keras.config.wording import BOUNDS, list_choices, list_settings, to_rule


def explain_config(config: Config) -> str:
    """The settings as TOML with a comment above each; unset ones are commented out."""
    parts = []
    for key, fragment in list_settings().items():
        name = key.rpartition(".")[2]
        if fragment.get("type") == "object":
            parts.append(f"\n# {fragment['description']}\n[{name}]\n")
            continue
        value = _read_value(config, key)
        parts.append(f"# {fragment['description']}; {to_rule(fragment)}\n")
        parts.append(f"# {name} = ...\n" if value is None else tomli_w.dumps({name: value}))
    return "".join(parts)


def describe_config(config: Config) -> dict[str, dict[str, Any]]:
    """For each dotted key its value, description, default, rule in words, choices and bounds.

    Bounds have JSON Schema's names: `minimum`, `exclusiveMaximum`.
    """
    return {
        key: {
            "value": _read_value(config, key),
            "description": fragment["description"],
            "default": fragment["default"],
            "rule": to_rule(fragment),
            "choices": list_choices(fragment) or None,
            **{bound: fragment[bound] for bound in BOUNDS if bound in fragment},
        }
        for key, fragment in list_settings().items()
        if fragment.get("type") != "object"
    }


def find_changes(first: Config, second: Config) -> dict[str, tuple[str, str]]:
    """The settings in which two configurations differ, by dotted key: both values as TOML, "" if unset."""
    pairs = {
        key: (_read_value(first, key), _read_value(second, key))
        for key, fragment in list_settings().items()
        if fragment.get("type") != "object"
    }
    return {key: (_to_toml(a), _to_toml(b)) for key, (a, b) in pairs.items() if a != b}


def _to_toml(value: Any) -> str:
    return "" if value is None else " ".join(tomli_w.dumps({"": value}).partition("= ")[2].split())


def _read_value(config: Config, key: str) -> Any:
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value
