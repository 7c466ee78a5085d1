"""How long many images take on many GPUs, calculated: the table of docs/scale.md.

`python -m tests.scale.plan` in the root of the checkout. Every cost is either measured (by
`tests.scale.costs` and `tests.cluster.scale`, on two cores) or an assumption of this file, and docs/scale.md
says which.
"""

import sys
from dataclasses import dataclass

IMAGES = (10**5, 10**6, 10**8)
GPUS = (1, 8, 64)


@dataclass(frozen=True)
class Kind:
    """Images of a kind.

    Attributes:
        name: Of the kind.
        size: Bytes of a file.
        decoding: Seconds of a core to read it, decode it and shrink it to 224 px. Measured.
    """

    name: str
    size: float
    decoding: float


KINDS = (
    Kind("PNG, 224 px", 26e3, 1.03e-3),
    Kind("PNG, 1024 px", 524e3, 12.5e-3),
    Kind("DICOM of 16 bits, 2500 x 2048", 10.2e6, 61e-3),
)

# Measured on two cores.
FEATURES = 4 * 2592  # bytes of an image in the cache
WRITING = 0.0057e-3  # seconds of the driver for the features of an image, with checksum
ROWS = 0.020e-3  # seconds for a scored row that comes to the driver
EPOCH = 0.0167e-3  # seconds of two cores for an image in an epoch of the head
EPOCHS = 30
WORK = 1.46e9  # FLOP of an image at 149 px, up to mixed5

# Assumed of a machine with eight GPUs.
PEAK = 495e12  # FLOP/s of an H100 in TF32, dense, by its data sheet
SHARE = 0.1  # of the peak that convolutions reach
CORES = 16  # for each GPU
BANDWIDTH = 2e9  # bytes/s from shared storage to a machine
GPUS_OF_A_MACHINE = 8


def list_seconds(kind: Kind, images: int, gpus: int) -> dict[str, float]:
    """Seconds of each stage. They overlap: the longest counts, for `predict` without the cache."""
    machines = -(-gpus // GPUS_OF_A_MACHINE)
    return {
        "reading": images * kind.size / (BANDWIDTH * machines),
        "decoding": images * kind.decoding / (CORES * gpus),
        "network": images * WORK / (PEAK * SHARE * gpus),
        "rows": images * ROWS,
        "cache": images * WRITING,
    }


def format_seconds(seconds: float) -> str:
    """In the unit that gives two or three digits."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def list_rows() -> list[str]:
    """The table, a line each."""
    rows = [
        "| images | GPUs | reading | decoding | network | rows to the driver | features to the cache "
        "| `predict` waits for |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in KINDS:
        rows.append(f"| **{kind.name}** | | | | | | | |")
        for images in IMAGES:
            for gpus in GPUS:
                seconds = list_seconds(kind, images, gpus)
                longest = max(list(seconds)[:-1], key=lambda name: seconds[name])
                cells = [f"{images:,}", str(gpus), *map(format_seconds, seconds.values()), longest]
                rows.append(f"| {' | '.join(cells)} |")
    return rows


def list_head() -> list[str]:
    """What does not depend on GPUs: the cache and the head."""
    rows = ["| images | cache | head, 30 epochs on two cores |", "| --- | --- | --- |"]
    for images in IMAGES:
        rows.append(
            f"| {images:,} | {images * FEATURES / 1e9:.3g} GB | {format_seconds(images * EPOCH * EPOCHS)} |"
        )
    return rows


if __name__ == "__main__":
    sys.stdout.write("\n".join([*list_rows(), "", *list_head(), ""]))
