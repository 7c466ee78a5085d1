"""Files that appear whole or not at all, and tables as text."""

import csv
import io
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to, and moves it into place when all went well.

    The name ends like `path`, since some writers go by the ending.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=f".{path.name}")
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes a text file, UTF-8, line ends as they are."""
    with replace_whole(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


def format_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same columns as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
