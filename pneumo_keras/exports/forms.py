"""The formats of an export by name: what writes and runs each, what that needs, and the names of its files.

Imports nothing heavy, since the command line lists them.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumo_keras import BACKEND
from pneumo_keras.errors import BackendError
from pneumo_keras.runtime.invocation import to_command
from pneumo_keras.storage.files import check_new

IMAGES, PROBABILITY = "images", "probability"
IMAGE_SHAPE, PROBABILITY_SHAPE = ("n", "height", "width", 1), ("n", 1)
"""Shapes of the input, grey levels from 0 (black) to 255 (white), and of the output, both float32."""


@dataclass(frozen=True)
class Form:
    """A file format and what runs it.

    Attributes:
        module: Has `write_classifier(classifier, path)` and `load_scoring(path) -> Scoring`.
        ending: The file extension.
        runtime: The package that runs it.
        requirements: What pip must install elsewhere to run the file.
        note: Advice on running it, for the sidecar.
        backend: The only Keras backend that can write it; None for any.
    """

    module: str
    ending: str
    runtime: str
    requirements: tuple[str, ...]
    note: str | None = None
    backend: str | None = None

    def load_module(self) -> Any:
        """Imports its module, and with it the packages that this needs."""
        return importlib.import_module(self.module)


FORMS: dict[str, Form] = {
    "onnx": Form(
        module="pneumo_keras.exports.onnx",
        ending=".onnx",
        runtime="onnxruntime",
        requirements=("onnxruntime",),
        note="OpenVINO reads it as well; compile it with INFERENCE_PRECISION_HINT=f32, since by default it "
        "takes bfloat16 where the CPU has it: scores were up to 0.6 off.",
    ),
    "stablehlo": Form(
        module="pneumo_keras.exports.stablehlo",
        ending=".stablehlo",
        runtime="jax",
        requirements=("jax>=0.9", "flatbuffers"),  # 0.7 and 0.8 open the file and refuse to run it
        backend="jax",
    ),
}


def check_form(name: str) -> None:
    """Checks that a form can be written and run here, without loading anything.

    Raises:
        BackendError: Keras runs on another backend.
    """
    form = FORMS[name]
    if form.backend not in (None, BACKEND):
        raise BackendError(
            f"{to_command('export', '--format', name)} runs on {form.backend}. "
            f"Received: KERAS_BACKEND={BACKEND}"
        )


def choose_files(run: Path, form: str, out: Path | None) -> tuple[Path, Path]:
    """The file of a form and the JSON next to it.

    Args:
        run: The folder of the run that is exported.
        form: One of `FORMS`.
        out: A new file; None for `exports/model.<ending>` of the run, which may replace an older one.

    Raises:
        RunError: `out` does not end as its form does, or one of the files is there.
    """
    ending = FORMS[form].ending
    file = out or run / "exports" / f"model{ending}"
    sidecar = file.with_suffix(f".{form}.json")
    if out:
        check_new(file, option="--out", ending=ending)
        check_new(sidecar, option="--out")
    return file, sidecar
