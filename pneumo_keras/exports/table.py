"""The forms of an export by name: where each is written, what runs it, what that needs.

Imports nothing heavy, for the command line lists them.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pneumo_keras import BACKEND
from pneumo_keras.errors import BackendError
from pneumo_keras.runtime.backend import check_packages


@dataclass(frozen=True)
class Form:
    """What is to be known of a form before it is written.

    Attributes:
        module: Has `write_classifier(classifier, path)` and `load_scoring(path) -> Scoring`.
        endings: Of the names of its files; users name the first file.
        runtime: The package that runs it.
        packages: That writing and running it need beyond the ordinary ones.
        extra: Of this package, that brings them.
        requirements: Packages that run the files elsewhere, as pip knows them.
        settings: Without which the runtime gives other scores.
        backend: Of Keras, the only one that it is written from; None where all do.
    """

    module: str
    endings: tuple[str, ...]
    runtime: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    requirements: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    backend: str | None = None

    def load_module(self) -> Any:
        """Imports what writes and runs it, with all that this needs."""
        return importlib.import_module(self.module)


FORMS: dict[str, Form] = {
    "onnx": Form(
        module="pneumo_keras.exports.onnx",
        endings=(".onnx",),
        runtime="onnxruntime",
        packages=("onnx", "onnxruntime"),
        extra="onnx",
        requirements=("onnxruntime",),
    ),
    "openvino": Form(
        module="pneumo_keras.exports.openvino",
        endings=(".xml", ".bin"),
        runtime="openvino",
        packages=("openvino", "onnx"),
        extra="openvino",
        requirements=("openvino",),
        # By default it takes bfloat16 where the CPU has it: scores were up to 0.6 off.
        settings={"INFERENCE_PRECISION_HINT": "f32"},
    ),
    "stablehlo": Form(
        module="pneumo_keras.exports.stablehlo",
        endings=(".stablehlo",),
        runtime="jax",
        packages=("flatbuffers",),
        extra="stablehlo",
        requirements=("jax>=0.9", "flatbuffers"),  # 0.7 and 0.8 open the file and refuse to run it
        backend="jax",
    ),
}


def check_form(name: str) -> None:
    """Checks that a form can be written and run here, without loading anything.

    Args:
        name: One of `FORMS`.

    Raises:
        BackendError: A package is missing, or Keras runs on another backend.
    """
    form = FORMS[name]
    if form.backend not in (None, BACKEND):
        raise BackendError(
            f"pneumo-keras export --format {name} runs on {form.backend}. Received: KERAS_BACKEND={BACKEND}"
        )
    check_packages(f"pneumo-keras export --format {name}", form.packages, extra=form.extra)
