"""What was measured of a machine, in words for a terminal."""

import math
import textwrap
from collections.abc import Sequence

from pneumo_keras.bench.engines import Bench, EngineSpeed
from pneumo_keras.reporting.formats import format_table

LINE = 98
HEADER = ("engine", "precision", "images/s", "min to max", "x keras", "min to max")
HEADER += ("GFLOP/s", "of product", "deviation")
NOTE = (
    "Medians of {rounds} rounds in which the engines alternate, images already prepared. x keras: the rate "
    "over that of stock Keras in the same round; the machine's drift drops out of it, so it need not be the "
    "ratio of the medians. Operations are those of stock Keras, deviation is the largest of any feature "
    "over the largest feature."
)


def format_bench(bench: Bench) -> str:
    """The speeds of all engines as a table, with what they mean."""
    about = bench.environment
    versions = ", ".join(f"{name} {about['packages'][name]}" for name in ("keras", about["backend"]))
    rows = [_to_row(bench, speed) for speed in bench.engines]
    return "\n".join(
        [
            f"{bench.network}: {bench.operations / 1e9:.2f} GFLOP an image",
            f"{bench.images}; {versions} on {about['device']}; {about['processor']}, {about['cores']} cores",
            f"A plain float32 matrix product runs at {bench.product_rate / 1e9:,.0f} GFLOP/s.",
            "",
            format_table(rows, header=HEADER, align="llrlrlrrr"),
            "",
            textwrap.fill(NOTE.format(rounds=len(bench.engines[0].rates)), LINE),
        ]
    )


def _to_row(bench: Bench, speed: EngineSpeed) -> tuple[str, ...]:
    share = bench.to_matmul_fraction(speed)
    return (
        speed.engine,
        speed.precision,
        f"{speed.rate:,.1f}",
        _to_range(speed.rates, 1),
        f"{speed.ratio:.2f}",
        _to_range(speed.ratios, 2),
        f"{speed.rate * bench.operations / 1e9:,.0f}",
        "-" if math.isnan(share) else f"{100 * share:.0f} %",
        f"{speed.deviation:.1e}",
    )


def _to_range(values: Sequence[float], digits: int) -> str:
    return f"{min(values):,.{digits}f} to {max(values):,.{digits}f}"
