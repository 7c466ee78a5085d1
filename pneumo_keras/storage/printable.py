"""Text of any origin that stays one line and cannot control a terminal."""

import logging

FORMULAS = ("=", "+", "-", "@")


def to_printable(text: str) -> str:
    """The text with escapes for line ends, control characters and undecodable bytes of file names."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode("ascii")
        for sign in text
    )


def to_cell(name: str) -> str:
    """A name for a table: printable, and not a formula for spreadsheet programs."""
    shown = to_printable(name)
    return f"./{shown}" if shown.startswith(FORMULAS) else shown


def to_amount(count: int, noun: str, plural: str = "") -> str:
    """`1 file`, `2 files`, `1,234 files`; the plural is the noun with an s where none is given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


class PrintableFormatter(logging.Formatter):
    """Log lines that stay one line each, whatever names from data are in them."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        return to_printable(super().formatMessage(record))
