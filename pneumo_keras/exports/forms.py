"""The forms of an export by name: where each is written, what runs it, what that needs, where its files go.

Imports nothing heavy, for the command line lists them.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumo_keras import BACKEND
from pneumo_keras.errors import BackendError, ExportError
from pneumo_keras.runtime.backend import check_packages
from pneumo_keras.storage.files import check_new, check_within

IMAGES, PROBABILITY = "images", "probability"
IMAGE_SHAPE, PROBABILITY_SHAPE = ("n", "height", "width", 1), ("n", 1)
"""Of the input, grey levels from 0 (black) to 255 (white), and of the output, both float32."""


@dataclass(frozen=True)
class Form:
    """What is to be known of a form before it is written.

    Attributes:
        module: Has `write_classifier(classifier, path)` and `load_scoring(path) -> Scoring`.
        ending: Of the file's name.
        runtime: The package that runs it.
        packages: That writing and running it need beyond the ordinary ones.
        requirements: Packages that run the file elsewhere, as pip knows them.
        note: What else is to be known of running it.
        backend: Of Keras, the only one that it is written from; None where all do.
    """

    module: str
    ending: str
    runtime: str
    packages: tuple[str, ...]
    requirements: tuple[str, ...]
    note: str | None = None
    backend: str | None = None

    def load_module(self) -> Any:
        """Imports what writes and runs it, with all that this needs."""
        return importlib.import_module(self.module)


# Each is an extra of the same name, too.
FORMS: dict[str, Form] = {
    "onnx": Form(
        module="pneumo_keras.exports.onnx",
        ending=".onnx",
        runtime="onnxruntime",
        packages=("onnx", "onnxruntime"),
        requirements=("onnxruntime",),
        note="OpenVINO reads it as well; compile it with INFERENCE_PRECISION_HINT=f32, since by default it "
        "takes bfloat16 where the CPU has it: scores were up to 0.6 off.",
    ),
    "stablehlo": Form(
        module="pneumo_keras.exports.stablehlo",
        ending=".stablehlo",
        runtime="jax",
        packages=("flatbuffers",),
        requirements=("jax>=0.9", "flatbuffers"),  # 0.7 and 0.8 open the file and refuse to run it
        backend="jax",
    ),
}


def check_form(name: str) -> None:
    """Checks that a form can be written and run here, without loading anything.

    Raises:
        BackendError: A package is missing, or Keras runs on another backend.
    """
    form = FORMS[name]
    if form.backend not in (None, BACKEND):
        raise BackendError(
            f"pneumo-keras export --format {name} runs on {form.backend}. Received: KERAS_BACKEND={BACKEND}"
        )
    check_packages(f"pneumo-keras export --format {name}", form.packages, extra=name)


def choose_files(run: Path, form: str, out: Path | None) -> tuple[Path, Path]:
    """The file of a form and the JSON that says how to use it.

    Args:
        run: The folder of the run that is exported.
        form: One of `FORMS`.
        out: A new file; None for `exports/model.<ending>` of the run, in place of an older one.

    Raises:
        ExportError: `out` does not end as its form does.
        RunError: One of the files is there, or a link leads from the run to elsewhere.
    """
    ending = FORMS[form].ending
    file = out or run / "exports" / f"model{ending}"
    if file.suffix != ending:
        raise ExportError(f"--out must end in {ending} for the format {form}. Received: {out}")
    sidecar = file.with_suffix(f".{form}.json")
    for path in (file, sidecar):
        if out:
            check_new(path, option="--out")
        else:
            check_within(run, path)
    return file, sidecar
