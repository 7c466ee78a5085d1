"""The whole classifier as OpenVINO's pair of files, .xml and .bin, from the ONNX model."""

import errno
import functools
import shutil
from pathlib import Path
from typing import Any

from pneumo_keras.exports.onnx import to_onnx
from pneumo_keras.exports.scoring import ImageSet, Probabilities, Scoring
from pneumo_keras.exports.table import FORMS
from pneumo_keras.model.classifier import Classifier
from pneumo_keras.runtime.backend import import_openvino


def write_classifier(classifier: Classifier, path: Path) -> None:
    """Writes both files, the .bin beside the .xml that `path` names.

    Raises:
        ModelError: The classifier holds something that has no exact rewriting.
        OSError: The files cannot be written.
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(to_onnx(classifier))
    # Rounded to 16 bits, scores would be up to 2e-3 off.
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # all that OpenVINO says of a full disk is "iostream error"
        free = shutil.disk_usage(path.parent).free / 1e6
        raise OSError(errno.EIO, f"OpenVINO: {error}; {free:.1f} MB are free there", str(path)) from error


def load_scoring(path: Path) -> Scoring:
    """The files on OpenVINO's CPU device."""
    core = import_openvino().Core()
    core.set_property({"ENABLE_MMAP": False})  # or Windows would not let the files move into place
    settings = dict(FORMS["openvino"].settings)
    return functools.partial(_score, core.compile_model(core.read_model(path), "CPU", settings))


def _score(compiled: Any, images: ImageSet) -> Probabilities:
    return compiled(images)[0]
