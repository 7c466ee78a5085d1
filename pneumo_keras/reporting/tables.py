"""Tables for a terminal."""

from collections.abc import Sequence

from tabulate import tabulate

SIDES = {"l": "left", "r": "right"}


def format_table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), align: str = "") -> str:
    """Aligns cells in columns, two blanks apart.

    Args:
        rows: Cells, from left to right.
        header: One word a column; none without.
        align: "l" or "r" for each column; all left without.
    """
    sides = [SIDES[side] for side in align] or None
    # The header goes as a row: as a header tabulate would give each column two more blanks.
    cells = [header, *rows] if header else rows
    table = tabulate(cells, tablefmt="plain", colalign=sides, disable_numparse=True)
    return "\n".join(line.rstrip() for line in table.splitlines())
