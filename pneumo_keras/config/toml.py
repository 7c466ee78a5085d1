"""Settings from TOML files and the command line, as TOML again, and in words."""

import contextlib
import difflib
import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from pneumo_keras.config.settings import Config, Settings
from pneumo_keras.errors import SettingsError
from pneumo_keras.runtime.invocation import to_command
from pneumo_keras.storage.bounded_reading import read_text

FILE_BYTES = 1 << 16  # of a file of settings; ours take a tenth
SHOWN = 200  # characters of a received value, at most

Fragment = dict[str, Any]
"""The JSON Schema of one setting."""

BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


@functools.cache
def list_settings() -> dict[str, Fragment]:
    """The JSON Schema of every setting, by dotted key (`training.epochs`)."""
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
    """The value of every setting by dotted key, as JSON represents it; None where it is unset."""
    tree = config.model_dump(mode="json")
    values = {}
    for key in list_settings():
        table, _, name = key.rpartition(".")
        values[key] = (tree[table] if table else tree)[name]
    return values


def find_named(folder: str) -> dict[str, Path]:
    """The TOML files that come with the package, by name.

    Args:
        folder: `configs`, or `configs/grids`.
    """
    package = Path(__file__).parents[1]
    # In a wheel they are inside the package, in a checkout next to it.
    here = next((root / folder for root in (package, package.parent) if (root / folder).is_dir()), None)
    return {path.stem: path for path in sorted(here.glob("*.toml"))} if here else {}


def find_toml(name_or_path: str, *, folder: str, option: str) -> Path:
    """The file of that name in a folder of the package, or the path that was given for the option.

    Raises:
        SettingsError: There is neither such a name nor such a file.
    """
    named = find_named(folder)
    if name_or_path in named:
        return named[name_or_path]
    path = Path(name_or_path)
    with contextlib.suppress(OSError, ValueError):  # a name that is too long, or has a null in it
        if path.exists() and not path.is_dir():
            return path
    known = ", ".join(named)
    raise SettingsError(f"{option} must be one of {known}, or a TOML file. Received: {shorten(name_or_path)}")


def load_toml(path: Path) -> dict[str, Any]:
    """The tree of a TOML file.

    Raises:
        SettingsError: It is not TOML, or cannot be read.
    """
    try:
        return _parse_toml(read_text(path, most=FILE_BYTES), str(path))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not a TOML file: {error}") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error


def parse_config(text: str, *, name: str) -> Config:
    """The settings that `format_config` wrote into a file of that name.

    Raises:
        SettingsError: It is not TOML, or a setting is unknown, ill-typed or out of range.
    """
    return _check_tree(_parse_toml(text, name))


def load_config(name_or_path: str, overrides: Iterable[str] = ()) -> Config:
    """Reads a configuration and applies `KEY=VALUE` overrides.

    Paths stay as they are written; see `resolve_paths`.

    Raises:
        SettingsError: The file cannot be read, or a setting is unknown, ill-typed or out of range.
    """
    tree = load_toml(find_toml(name_or_path, folder="configs", option="--config"))
    for key, value in parse_overrides(overrides):
        _put(tree, key, value)
    return _check_tree(tree)


def parse_overrides(overrides: Iterable[str]) -> list[tuple[str, Any]]:
    """Keys and values of `KEY=VALUE`, neither of which is checked yet.

    Raises:
        SettingsError: One has another form.
    """
    parsed = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key or override.splitlines() != [override]:
            raise SettingsError(f"--set must look like training.epochs=3. Received: {shorten(override)}")
        parsed.append((key, _parse_value(key, text)))
    return parsed


def change_config(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with other values for some of its settings: `{"training.epochs": 3}`.

    Raises:
        SettingsError: A setting is unknown, ill-typed or out of range.
    """
    tree = config.model_dump(mode="json", exclude_none=True)
    for key, value in changes.items():
        _put(tree, key, value)
    return _check_tree(tree)


def format_config(config: Config) -> str:
    """The settings as TOML; unset ones are left out."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


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
    """For each dotted key its value and its JSON Schema: description, default, bounds, ..."""
    return {key: {"value": value, **list_settings()[key]} for key, value in flatten_config(config).items()}


def find_changes(first: Config, second: Config) -> dict[str, tuple[str, str]]:
    """The settings in which two configurations differ, by dotted key: both values as TOML, "" if unset."""
    after = flatten_config(second)
    return {
        key: (_to_toml(value), _to_toml(after[key]))
        for key, value in flatten_config(first).items()
        if value != after[key]
    }


def show(value: object) -> str:
    """A value as it is written, or the beginning of it."""
    try:
        return shorten(repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits; a table in a table in a ...
        return "something of great length"


def shorten(text: str) -> str:
    """The beginning of a text that is too long for a line."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _parse_toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of too many digits; lists in lists in ...
        raise SettingsError(f"{name} is not a TOML file: {error}") from error


def _parse_value(key: str, text: str) -> Any:
    """TOML where it is TOML (`3`, `true`, `["mixed4"]`), a bare string if not.

    For a setting that is text, such as a path, only a TOML string is TOML: the name of a folder may be 2024.
    """
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
    fragment = list_settings().get(key, {})
    takes_text = fragment.get("anyOf", [fragment])[0].get("type") == "string"
    return text if takes_text and not isinstance(value, str) else value


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    if key not in list_settings():
        raise SettingsError(_to_unknown_key(key))
    table, _, name = key.rpartition(".")
    settings = tree.setdefault(table, {}) if table else tree
    if isinstance(settings, dict):  # else it is refused with the rest
        settings[name] = value


def _check_tree(tree: dict[str, Any]) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_to_line(error)) from error


def _to_line(error: ValidationError) -> str:
    """The first error in one line."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
    if first["type"] == "extra_forbidden":
        return _to_unknown_key(key)
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    rule = re.sub(r"^\w+ should ", "must ", first["msg"].replace("Input is not", "Input should be"))
    return f"Setting '{key}' {rule}. Received: {show(first['input'])}"


def _to_unknown_key(key: str) -> str:
    known = [name for name in (*list_settings(), *Config.model_fields) if name != key]
    near = difflib.get_close_matches(key[:SHOWN], known, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'?" if near else f"See: {to_command('config', 'show', 'default')}"
    return f"Unknown setting '{shorten(key)}'. {hint}"


def _to_toml(value: Any) -> str:
    return "" if value is None else " ".join(tomli_w.dumps({"": value}).partition("= ")[2].split())


def _to_rule(fragment: Fragment) -> str:
    """`integer >= 1, <= 8192`, `one of cached, online`, `array of mixed0, mixed1`."""
    fragment = fragment.get("anyOf", [fragment])[0]  # the other is null, which TOML does not have
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
