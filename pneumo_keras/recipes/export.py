"""A finished run's classifier as a file for other runtimes."""

import json
import logging
from pathlib import Path

from pneumo_keras.exports.forms import FORMS
from pneumo_keras.exports.sidecar import describe_export
from pneumo_keras.exports.verification import Verification, verify_scoring
from pneumo_keras.runs.run import Run
from pneumo_keras.storage.files import explain_unwritable, replace_atomically

log = logging.getLogger("pneumo_keras")


def export_run(run: Run, form: str, file: Path, sidecar: Path) -> Verification:
    """Writes the classifier of a run, compares its scores with Keras', and describes how to use it.

    Nothing is written where the scores differ. `sidecar` is the JSON that describes the file.

    Raises:
        ExportError: The scores differ.
        RunError: The files cannot be written.
    """
    about, module = FORMS[form], FORMS[form].load_module()
    with explain_unwritable(file.parent, option="--out"):
        file.parent.mkdir(exist_ok=True)
        with replace_atomically(sidecar) as new_sidecar, replace_atomically(file) as new_file:
            log.info("Writing %s, %s", file, form)
            module.write_classifier(run.classifier, new_file)
            log.info("Scoring images with %s and with Keras", about.runtime)
            scoring, size = module.load_scoring(new_file), run.classifier.frozen.sizes[0]
            found = verify_scoring(scoring, about.runtime, run.classifier.join(), size)
            document = describe_export(run, form, file.name, new_file, found)
            new_sidecar.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8", newline="")
            sidecar.unlink(missing_ok=True)  # before the file that it describes is replaced
    return found
