"""The engines by name, and what each needs. Imports nothing heavy, since settings are checked with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Engine:
    """The properties of an engine that are needed before it is loaded.

    Attributes:
        precisions: The arithmetic precisions that it supports.
        reasons: Why `auto` chooses it on a "cpu" or an "accelerator"; without a reason it does not.
        backend: The only Keras backend with which it runs; None for all.
    """

    precisions: tuple[Precision, ...]
    reasons: Mapping[str, str]
    backend: str | None = None


# From the slowest to the fastest: `auto` takes the last that runs.
ENGINES: dict[str, Engine] = {
    "keras": Engine(
        precisions=("float32",),
        reasons={"accelerator": "no other one runs here"},
    ),
    "jax": Engine(
        precisions=("float32", "bfloat16"),
        reasons={
            "accelerator": "for its fewer operations: on accelerators nothing was measured yet",
        },
        backend="jax",
    ),
    "openvino": Engine(
        precisions=("float32", "bfloat16"),
        reasons={"cpu": "measured as the fastest on CPUs: see docs/benchmarks.md"},
    ),
}
