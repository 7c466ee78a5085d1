"""Words that nobody in the field uses do not come back into what users read."""

import functools
import re
from pathlib import Path

import pytest

from tests.texts import PACKAGE, list_commands, list_messages, load_help

ROOT = Path(__file__).parents[2]
ODD = (
    *(
        r"films?",
        r"verdicts?",
        r"judg(e[sd]?|ing|e?ments?)",
        r"strangers?",
        r"taps?",
        r"stress(ed)?",
        r"guards?",
    ),
    *(r"keepers?", r"doors?", r"mend(s|ed)?", r"passages?", r"luck", r"lots", r"lengthen(s|ed)?", r"beside"),
    *(r"meetings?", r"company", r"supervision", r"seal(s|ed)?", r"hears?", r"heard", r"descents?"),
    *(r"(taken|lit) otherwise", r"go(es)? home", r"gives? back", r"no number", r"nothing half"),
    *(r"share of pneumonia", r"called (pneumonia|normal)", r"margins?"),
)
"""Words with a common meaning as well (place, turn, room, note, say, hold, range) are not among them."""
ALLOWED = re.compile("gradient descent|margin[-a-z]*:")  # the method, and style sheets


def list_pages():
    for pattern in ("README.md", "docs/*.md", "docs/*.ipynb", "configs/**/*.toml"):
        for path in ROOT.glob(pattern):
            yield path.name, path.read_text(encoding="utf-8")
    for path in PACKAGE.rglob("templates/*"):
        yield path.name, path.read_text(encoding="utf-8")
    for name, command in list_commands():
        yield " ".join(name), load_help(command)
    yield from list_messages()


@functools.cache
def load_pages():
    return [(name, ALLOWED.sub("", text)) for name, text in list_pages()]


@pytest.mark.parametrize("word", ODD)
def test_a_word_that_nobody_in_the_field_uses_is_nowhere(word):
    odd = re.compile(rf"\b{word}\b", re.IGNORECASE)
    assert [(name, found[0]) for name, text in load_pages() if (found := odd.search(text))] == []
