"""What was measured of a machine, in words for a terminal."""

import math
import textwrap
from collections.abc import Sequence

from pneumo_keras.bench.maps import Deletion, PointingGame
from pneumo_keras.bench.speeds import Bench, EngineSpeed
from pneumo_keras.reporting.formats import format_percent, format_share, format_table

LINE = 98
HEADER = ("engine", "precision", "images/s", "min to max", "x keras", "min to max")
HEADER += ("GFLOP/s", "of product", "deviation")
NOTE = (
    "Medians of {rounds} rounds in which the engines take turns, images already prepared. x keras: the rate "
    "over that of stock Keras in the same round; the machine's drift drops out of it, so it need not be the "
    "ratio of the medians. Operations are those of stock Keras, deviation is the largest of any feature "
    "over the largest feature."
)


def format_bench(bench: Bench) -> str:
    """The speeds of all engines as a table, with what a reader must know of it."""
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


def format_map_quality(images: str, deletion: Deletion, pointing: PointingGame | None) -> str:
    """How well maps do, as lines."""
    rows = [
        (name, f"{change:+.2f}", f"{error:.2f}")
        for name, change, error in zip(
            ("where its map is highest", "where another image's map is highest", "in random blobs"),
            (deletion.highest, deletion.others, deletion.random),
            deletion.errors,
            strict=True,
        )
    ]
    lines = [
        f"{deletion.images} {images}, all with pneumonia; {format_share(deletion.share)} of each image replaced "
        "by an average normal image:",
        "",
        format_table(rows, header=("replaced", "log odds", "standard error"), align="lrr"),
    ]
    if pointing:
        lines += [
            "",
            f"On {pointing.images} phantom images the map's highest point lies on an opacity in "
            f"{format_percent(pointing.hits)}, a random one in {format_percent(pointing.chance)}.",
        ]
    return "\n".join(lines)


def _to_row(bench: Bench, speed: EngineSpeed) -> tuple[str, ...]:
    share = bench.to_share(speed)
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
