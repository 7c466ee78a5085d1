"""A finished run's classifier as a file for other runtimes."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumo_keras.exports.place import Place
from pneumo_keras.exports.preprocessing import read_preprocessing
from pneumo_keras.exports.sidecar import describe_file, describe_origin, describe_use
from pneumo_keras.exports.table import FORMS
from pneumo_keras.exports.verification import Verification, verify_scoring
from pneumo_keras.model.classifier import Classifier
from pneumo_keras.model.fingerprint import compute_fingerprint
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.run import Run
from pneumo_keras.storage.documents import to_document
from pneumo_keras.storage.files import explain_unwritable, make_folder, replace_together

log = logging.getLogger("pneumo_keras")


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        bytes: Of the files that the runtime reads.
        verification: How they were tried.
    """

    bytes: int
    verification: Verification


def export_run(run: Run, form: str, place: Place) -> Export:
    """Writes the classifier of a run, has its own runtime score images beside Keras, and says how to use it.

    Nothing of it stays where the scores differ.

    Args:
        run: All of it.
        form: One of `FORMS`, as `check_form` lets pass.
        place: Of the files.

    Raises:
        ExportError: The scores differ.
        RunError: The files cannot be written.
    """
    classifier = run.classifier
    names = (*place.names, place.sidecar)
    with (
        explain_unwritable(place.folder, option="--out"),
        make_folder(place.folder),
        replace_together(place.folder, names) as beside,
    ):
        files = [beside / name for name in place.names]
        log.info("Writing %s, %s", place.folder / place.names[0], form)
        FORMS[form].load_module().write_classifier(classifier, files[0])
        verification = verify_form(form, classifier, files[0])
        document = describe_export(form, files, classifier, run, verification)
        (beside / place.sidecar).write_text(
            json.dumps(document, indent=2) + "\n", encoding="utf-8", newline=""
        )
        return Export(sum(file.stat().st_size for file in files), verification)


def verify_form(form: str, classifier: Classifier, file: Path) -> Verification:
    """Runs a written form by its own runtime.

    Raises:
        ExportError: It does not score as Keras does.
    """
    log.info("Scoring images with %s and with Keras", FORMS[form].runtime)
    scoring = FORMS[form].load_module().load_scoring(file)
    data_size = read_preprocessing(classifier.frozen).data_size
    return verify_scoring(scoring, FORMS[form].runtime, classifier.join(), data_size)


def describe_export(
    form: str, files: list[Path], classifier: Classifier, run: Run, verification: Verification
) -> dict[str, Any]:
    """The sidecar."""
    about = describe_environment()
    versions = {"pneumo_keras": about["pneumo_keras"], "revision": about["revision"], **about["packages"]}
    return {
        **describe_file(form, files),
        **describe_use(
            run.preparation, read_preprocessing(classifier.frozen), run.calibration, run.operating_point
        ),
        **describe_origin(compute_fingerprint(classifier.join()), run.environment, versions),
        "verification": to_document(verification),
    }
