"""Whatever somebody writes into settings, it is a configuration or one line that says why not."""

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from pneumo_keras.config import Config, describe_config, format_config, list_paths, load_config
from pneumo_keras.errors import SettingsError

KEYS = sorted(describe_config(load_config("demo")))
TABLES = sorted({key.partition(".")[0] for key in KEYS})
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    TEXTS,
    st.dates(),
    st.sampled_from(["mixed4", "imagenet", "none", "~nosuchuser/x", "x" * 5000, "x" * 300, "\0"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def load(source, overrides=()):
    """A configuration that can be written and read again, or None."""
    try:
        config = load_config(source, overrides)
        list_paths(config)
    except SettingsError as error:
        check_line(str(error))
        return None
    assert isinstance(config, Config)
    return config


def check_line(text):
    assert text.isprintable()
    assert 0 < len(text) < 1500


@given(st.lists(st.tuples(st.sampled_from(KEYS) | TEXTS, VALUES), min_size=1, max_size=3))
def test_settings_on_the_command_line(pairs):
    def to_text(value):
        return (
            tomli_w.dumps({"x": value}).partition("= ")[2].strip() if "\n" not in str(value) else str(value)
        )

    load("demo", [f"{key}={to_text(value)}" for key, value in pairs])


@given(st.sampled_from(KEYS), st.text(max_size=40))
def test_bare_words_on_the_command_line(key, text):
    config = load("demo", [f"{key}={text}"])
    assert config is None or len(text.splitlines()) <= 1


@given(
    st.dictionaries(
        st.sampled_from([*TABLES, "x", ""]),
        st.dictionaries(st.sampled_from([key.rpartition(".")[2] for key in KEYS]) | TEXTS, VALUES, max_size=4)
        | VALUES,
        max_size=4,
    )
)
def test_settings_in_a_file(tmp_path, tree):
    path = tmp_path / "settings.toml"
    path.write_text(tomli_w.dumps(tree), newline="")
    if config := load(str(path)):
        path.write_text(format_config(config), newline="")
        assert load(str(path)) == config


@given(st.binary(max_size=300) | st.text("abc=.[]{}\"'#\n1e_", max_size=120).map(str.encode))
def test_any_bytes_in_a_file(tmp_path, content):
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    load(str(path))
