"""Predictions as Parquet parts, for other jobs to read side by side."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pneumo_keras.storage.files import claim_folder, explain_unwritable, replace_whole

ROWS = 65_536  # of a part


def write_parts(scores: Path, folder: Path, *, option: str) -> None:
    """Writes `part-000000.parquet` and so on: the rows of a CSV file in their order, each once.

    Args:
        scores: As `predictions.format_csv_line` wrote it, whole.
        folder: New or empty.
        option: Of the command line that named the folder.

    Raises:
        RunError: The folder is taken, or cannot be written.
    """
    parquet = importlib.import_module("pyarrow.parquet")
    with claim_folder(folder, option=option), explain_unwritable(folder, option=option):
        for number, table in enumerate(_read(scores)):
            with replace_whole(folder / f"part-{number:06}.parquet") as beside:
                parquet.write_table(table, beside)


def _read(scores: Path) -> Iterator[Any]:
    """Tables of ROWS rows, but the last one."""
    pyarrow, csv = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.csv")
    words, numbers = ("path", "prediction", "warning"), ("probability", "threshold")
    types = {**dict.fromkeys(words, pyarrow.string()), **dict.fromkeys(numbers, pyarrow.float64())}
    options = csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    parsing = csv.ParseOptions(newlines_in_values=False)
    with csv.open_csv(scores, convert_options=options, parse_options=parsing) as batches:
        rest = None
        for batch in batches:
            table = pyarrow.Table.from_batches([*(rest.to_batches() if rest else ()), batch])
            while table.num_rows >= ROWS:
                yield table.slice(0, ROWS)
                table = table.slice(ROWS)
            rest = table
        if rest:
            yield rest
