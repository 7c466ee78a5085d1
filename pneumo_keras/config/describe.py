"""Settings in words: every one with its meaning, what it may be and its value."""

import functools
from typing import Any

import tomli_w

from pneumo_keras.config.settings import Config, Settings

Fragment = dict[str, Any]
"""What JSON Schema says of one setting."""

BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


@functools.cache
def list_settings() -> dict[str, Fragment]:
    """What JSON Schema says of every setting, by dotted key (`training.epochs`)."""
    schema = Config.model_json_schema()
    fragments: dict[str, Fragment] = {}
    for name, fragment in schema["properties"].items():
        if "$ref" in fragment:
            table = schema["$defs"][fragment["$ref"].rpartition("/")[2]]
            fragments |= {f"{name}.{key}": part for key, part in table["properties"].items()}
        else:
            fragments[name] = fragment
    return fragments


def flatten_config(config: Config) -> dict[str, Any]:
    """The value of every setting by dotted key, as JSON knows it; None where it is unset."""
    tree = config.model_dump(mode="json")
    values = {}
    for key in list_settings():
        table, _, name = key.rpartition(".")
        values[key] = (tree[table] if table else tree)[name]
    return values


def explain_config(config: Config) -> str:
    """The settings as TOML with a comment above each; unset ones are commented out."""
    parts, last = [], ""
    for key, value in flatten_config(config).items():
        table, _, name = key.rpartition(".")
        if table != last:
            settings: Settings = getattr(config, table)
            parts.append(f"\n# {settings.__doc__}\n[{table}]\n")
            last = table
        fragment = list_settings()[key]
        parts.append(f"# {' '.join(fragment['description'].split())}; {_to_rule(fragment)}\n")
        parts.append(f"# {name} = ...\n" if value is None else tomli_w.dumps({name: value}))
    return "".join(parts)


def describe_config(config: Config) -> dict[str, dict[str, Any]]:
    """For each dotted key its value and what JSON Schema says of it: description, default, bounds, ..."""
    return {key: {"value": value, **list_settings()[key]} for key, value in flatten_config(config).items()}


def find_changes(first: Config, second: Config) -> dict[str, tuple[str, str]]:
    """The settings in which two configurations differ, by dotted key: both values as TOML, "" if unset."""
    after = flatten_config(second)
    return {
        key: (_to_toml(value), _to_toml(after[key]))
        for key, value in flatten_config(first).items()
        if value != after[key]
    }


def _to_toml(value: Any) -> str:
    return "" if value is None else " ".join(tomli_w.dumps({"": value}).partition("= ")[2].split())


def _to_rule(fragment: Fragment) -> str:
    """`integer >= 1, <= 8192`, `one of cached, online`, `array of mixed0, mixed1`."""
    fragment = fragment.get("anyOf", [fragment])[0]  # the other is null, which TOML does not know
    if "enum" in fragment:
        return f"one of {', '.join(map(str, fragment['enum']))}"
    if fragment["type"] == "array":
        item = fragment.get("items") or fragment["prefixItems"][0]
        count = f"{fragment['maxItems']} times " if "maxItems" in fragment else ""
        return f"array of {count}{_to_rule(item).removeprefix('one of ')}"
    bounds = ", ".join(
        f"{sign} {fragment[bound]:,.12g}" for bound, sign in BOUNDS.items() if bound in fragment
    )
    return f"{fragment.get('format', fragment['type'])} {bounds}".rstrip()
