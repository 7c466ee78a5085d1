"""Tables for a terminal."""

from collections.abc import Sequence

from tabulate import tabulate

from pneumo_keras.storage.printable import to_printable

SIDES = {"l": "left", "r": "right"}


def format_table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), align: str = "") -> str:
    """Cells in columns as wide as they need to be, without trailing blanks; no text for no rows.

    Args:
        rows: Texts as they are to appear; blanks around them are lost, and what cannot be printed is
            spelled out.
        header: Names of the columns; none for none.
        align: `l` (left) or `r` (right) for each column; columns that are not named go left.
    """
    if not rows:
        return ""
    # As a row the header gets no wider column than it needs, which as a header it would.
    text = tabulate(
        [[to_printable(cell) for cell in row] for row in ([header, *rows] if header else rows)],
        tablefmt="plain",
        colalign=[SIDES[side] for side in align] or None,
        disable_numparse=True,
    )
    return "\n".join(line.rstrip() for line in text.splitlines())
