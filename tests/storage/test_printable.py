import logging

import pytest

from pneumo_keras.errors import PneumoError, RunError
from pneumo_keras.storage.printable import PrintableFormatter, to_amount, to_printable

HOSTILE = {
    "a\nb\r": r"a\nb\r",
    "\x1b[2J": r"\x1b[2J",
    "\u202egnp.exe": r"\u202egnp.exe",
    "\udcff.png": r"\udcff.png",
    "\u2028": r"\u2028",
    "Röntgen 胸部 $x$ <b>": "Röntgen 胸部 $x$ <b>",
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items())
def test_what_cannot_be_printed_is_spelled_out_and_stays_so(text, shown):
    assert to_printable(text) == to_printable(shown) == shown
    to_printable(text).encode()


@pytest.mark.parametrize("kind", [PneumoError, RunError])
def test_every_error_is_one_line_whatever_stands_in_it(kind):
    assert str(kind("no such file: a\nb\x1b[31m")) == r"no such file: a\nb\x1b[31m"


def test_log_lines_are_one_line_each():
    record = logging.LogRecord("x", logging.INFO, "x", 1, "first %s", ("a\n\x1b[2Jb",), None)
    assert PrintableFormatter("%(message)s").format(record) == r"first a\n\x1b[2Jb"


def test_one_of_a_thing_is_said_in_the_singular():
    assert [to_amount(count, "image") for count in (0, 1, 2, 1234)] == [
        "0 images",
        "1 image",
        "2 images",
        "1,234 images",
    ]
    assert [to_amount(count, "entry", "entries") for count in (1, 2)] == ["1 entry", "2 entries"]
