"""Human-readable numbers and tables; a dash where a number is undefined."""

import math
from collections.abc import Sequence

from tabulate import tabulate

from pneumo_keras.evaluation.intervals import Interval
from pneumo_keras.storage.printable import to_printable

DASH = "-"


def format_number(value: float | None, *, digits: int = 3, sign: str = "") -> str:
    """Three decimals; a dash for NaN or None. With a sign of `+` positive numbers show theirs too."""
    return DASH if value is None or math.isnan(value) else f"{value:{sign}.{digits}f}"


def format_bounds(low: float, high: float, *, digits: int = 3, sign: str = "") -> str:
    """`0.860 to 0.922`; a dash where a bound is undefined."""
    if math.isnan(low) or math.isnan(high):
        return DASH
    return f"{low:{sign}.{digits}f} to {high:{sign}.{digits}f}"


def format_with_bounds(figure: Interval, *, level: float | None = None) -> str:
    """`0.891 (95 % 0.860 to 0.922)`, or without the level; the value alone where a bound is undefined."""
    bounds = format_bounds(figure.low, figure.high)
    value = format_number(figure.value)
    if bounds == DASH:
        return value
    return f"{value} ({bounds})" if level is None else f"{value} ({format_share(level)} {bounds})"


def format_share(share: float) -> str:
    """A share that was stated, with the digits that it has: `10 %`, `0.25 %`."""
    return f"{100 * share:.6g} %"


def format_percent(share: float) -> str:
    """A share that was counted, to a tenth: `25.8 %`."""
    return f"{100 * share:.1f} %"


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
