"""The engines by name, and what each needs. Imports nothing heavy: settings are checked by it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Engine:
    """What is to be known of an engine before it is loaded.

    Attributes:
        precisions: Of the arithmetic, those that it offers.
        reasons: Why `auto` takes it on a "cpu" or an "accelerator"; it does not where none is given.
        backend: Of Keras, the only one with which it runs; None for all.
        packages: That it needs beyond the ordinary ones.
        extra: Of this package, that brings them.
    """

    precisions: tuple[Precision, ...]
    reasons: Mapping[str, str]
    backend: str | None = None
    packages: tuple[str, ...] = ()
    extra: str = ""


# From the slowest to the fastest: `auto` takes the last that runs.
ENGINES: dict[str, Engine] = {
    "keras": Engine(
        precisions=("float32",),
        reasons={"cpu": "no faster one runs here", "accelerator": "no other one runs here"},
    ),
    "jax": Engine(
        precisions=("float32", "bfloat16"),
        reasons={
            "cpu": "measured as the fastest on CPUs without openvino: see docs/benchmarks.md",
            "accelerator": "for its fewer operations: on accelerators nothing was measured yet",
        },
        backend="jax",
    ),
    "openvino": Engine(
        precisions=("float32", "bfloat16"),
        reasons={"cpu": "measured as the fastest on CPUs: see docs/benchmarks.md"},
        packages=("openvino", "onnx"),
        extra="openvino",
    ),
}
