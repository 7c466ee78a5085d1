"""A finished run's classifier as a file for other runtimes."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from pneumo_keras.exports.forms import FORMS
from pneumo_keras.exports.sidecar import describe_file, describe_origin, describe_use
from pneumo_keras.exports.verification import Verification, verify_scoring
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
        bytes: Of the file that the runtime reads.
        verification: How it was compared with Keras.
    """

    bytes: int
    verification: Verification


def export_run(run: Run, form: str, file: Path, sidecar: Path) -> Export:
    """Writes the classifier of a run, compares its scores with Keras', and says how to use it.

    Nothing of it stays where the scores differ.

    Args:
        run: All of it.
        form: One of `FORMS`, as `check_form` lets pass.
        file: To be written.
        sidecar: Its JSON, in the same folder.

    Raises:
        ExportError: The scores differ.
        RunError: The files cannot be written.
    """
    classifier = run.classifier
    model, about, module = classifier.join(), FORMS[form], FORMS[form].load_module()
    with (
        explain_unwritable(file.parent, option="--out"),
        make_folder(file.parent),
        replace_together(file.parent, (file.name, sidecar.name)) as temporary,
    ):
        log.info("Writing %s, %s", file, form)
        written = temporary / file.name
        module.write_classifier(classifier, written)
        log.info("Scoring images with %s and with Keras", about.runtime)
        sizes = classifier.frozen.sizes
        verification = verify_scoring(module.load_scoring(written), about.runtime, model, sizes[0])
        environment = describe_environment()
        versions = {name: environment[name] for name in ("pneumo_keras", "revision")}
        document = {
            **describe_file(form, written),
            **describe_use(run.preparation, sizes, run.calibration, run.operating_point),
            **describe_origin(
                compute_fingerprint(model), run.environment, {**versions, **environment["packages"]}
            ),
            "verification": to_document(verification),
        }
        (temporary / sidecar.name).write_text(
            json.dumps(document, indent=2) + "\n", encoding="utf-8", newline=""
        )
        return Export(written.stat().st_size, verification)
