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
        packages: The optional packages that it needs.
        extra: The optional dependency group of pneumo-keras that installs them.
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
