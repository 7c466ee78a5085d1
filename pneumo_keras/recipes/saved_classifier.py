"""The classifier of a finished run, known to be the one that the rest of the run speaks of."""

from collections.abc import Iterator

import keras
import numpy as np

from pneumo_keras.config import Config
from pneumo_keras.errors import ModelError
from pneumo_keras.model.backbone import list_feature_layers
from pneumo_keras.model.classifier import Classifier, load_classifier
from pneumo_keras.model.fingerprint import compute_fingerprint, compute_structure
from pneumo_keras.model.head import build_decision
from pneumo_keras.model.preprocessing import build_resizing, build_scaling
from pneumo_keras.recipes.heads import build_heads
from pneumo_keras.runs.finished import FinishedRun
from pneumo_keras.runs.folder import MODEL, RunFolder


def load_evaluated_classifier(folder: RunFolder, run: FinishedRun) -> Classifier:
    """Reads the classifier of a run and compares it with what the run says of it.

    Args:
        folder: Of the run.
        run: All of it but its model.

    Raises:
        ModelError: The file is damaged, or holds another classifier.
    """
    path = folder.verify(MODEL)
    classifier = load_classifier(path)
    for part, fault in _find_faults(classifier, run):
        raise ModelError(f"{path} is not the classifier of this run: {part} {fault}. Train again.")
    return classifier


def _find_faults(classifier: Classifier, run: FinishedRun) -> Iterator[tuple[str, str]]:
    """Parts that are not what the settings, the calibration and the noted fingerprint say, and how."""
    size, frozen = run.config.model.image_size, classifier.frozen
    if frozen.backbone.input_shape != (None, size, size, 3):
        yield "backbone", f"takes {frozen.backbone.input_shape}, where model.image_size is {size}"
    try:
        feature_layers = tuple(list_feature_layers(frozen.backbone))
    except (AttributeError, IndexError, KeyError, ValueError):  # it has no layers of such names
        feature_layers = ()
    if feature_layers != run.config.model.feature_layers:
        yield "backbone", f"has the feature layers {', '.join(feature_layers) or 'of no known network'}"
    if classifier.flip_average != run.config.model.flip_average:
        yield "it", "averages an image and its mirror image, or does not, against the settings"
    calibration = run.calibration
    expected = {
        "resize": (frozen.resize, build_resizing(run.config.data.size, size)),
        "scale": (frozen.scale, build_scaling(size)),
        "head": (classifier.head, _build_head(run.config, frozen.backbone)),
        "decision": (
            classifier.decision,
            build_decision(slope=calibration.slope, intercept=calibration.intercept),
        ),
    }
    for name, (part, built) in expected.items():
        if compute_structure(part) != compute_structure(built):
            yield name, "is built otherwise than the run says"
    noted = run.environment["classifier_sha256"]
    # Another version of Keras may describe the same layer otherwise.
    comparable = run.environment["packages"].get("keras") == keras.__version__
    if comparable and compute_fingerprint(classifier.join()) != noted:
        yield "it", "has other weights or settings than were noted when it was trained"


def _build_head(config: Config, backbone: keras.Model) -> keras.Model:
    """A head like those that the settings ask for, fitted to nothing."""
    d = backbone.output_shape[-1]
    moments = (np.zeros(d, np.float32), np.ones(d, np.float32)) if config.model.standardise else None
    return build_heads(config, d, moments, range(config.training.members))
