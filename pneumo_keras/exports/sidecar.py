"""How to use an exported classifier: the JSON next to it."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.exports.forms import FORMS, IMAGE_SHAPE, IMAGES, PROBABILITY, PROBABILITY_SHAPE
from pneumo_keras.exports.verification import Verification
from pneumo_keras.model.inference import GREY_OFFSET, GREY_SCALE
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.run import Run
from pneumo_keras.storage.documents import to_document

FORMAT_VERSION = 4  # raised when readers of the old one would read the new one wrongly

RESIZE = {"operation": "resize", "antialias": True, "kernel": "bilinear"}
# Before the model; as `data.pictures` and `data.image_preparation` do it.
GREY = (
    "Turn the image upright, by its EXIF orientation. One grey channel, 0 black to 255 white: 8 bits as "
    "they are, 16 bits divided by 257, others by their full range in the same way, never stretched to the "
    "values that an image has; DICOM after its modality and window. What is transparent is black. Invert "
    "images whose 0 is white (MONOCHROME1). An image of {size} x {size} pixels is then ready. Of any other "
    "cut out the central square whose edge is the short edge, beginning at half of the rest, rounded half to "
    "even; resize it to {size} x {size} pixels, bilinear and antialiased, rounded to 8 bits, as Pillow does"
)
AS_JPEG = "; and save it as JPEG of quality {jpeg_quality} and read it again, as Pillow does"
LEFT_OUT = (
    ". The model takes larger images too and resizes them in floating point: their scores then differ a "
    "little from those of `pneumo-keras predict`."
)


def describe_export(run: Run, form: str, name: str, content: Path, found: Verification) -> dict[str, Any]:
    """What was exported, what runs it, how to use it, and what it was made from.

    Args:
        run: The finished run.
        form: One of `FORMS`.
        name: Name of the exported file.
        content: Where its content is now.
        found: By the comparison with Keras.
    """
    about, environment, here = FORMS[form], run.environment, describe_environment()
    weights = [key for key in ("weights_sha256", "fine_tuned_weights_sha256") if key in environment]
    return {
        "format_version": FORMAT_VERSION,
        "format": form,
        "files": {name: hashlib.sha256(content.read_bytes()).hexdigest()},
        "runtime": {"package": about.runtime, "requirements": list(about.requirements), "note": about.note},
        "warning": "A research tool, not a medical device. Nothing here may guide the care of a patient.",
        **_describe_use(run),
        "trained_on": {key: environment["data"][key] for key in ("title", "notice")},
        "fingerprints": {
            "model_sha256": environment["classifier_sha256"],
            **{key: environment[key] for key in weights},
            "images_sha256": {split: images["sha256"] for split, images in environment["images"].items()},
        },
        "versions": {key: here[key] for key in ("pneumo_keras", "revision")} | here["packages"],
        "verification": to_document(found),
    }


def _describe_use(run: Run) -> dict[str, Any]:
    """From an image to a prediction: what goes in, what happens inside, what comes out and what it means."""
    normal, pneumonia = CLASS_NAMES
    preparation = asdict(run.preparation)
    as_jpeg = AS_JPEG if preparation["jpeg_quality"] else ""
    return {
        "classes": {str(label): name for label, name in enumerate(CLASS_NAMES)},
        "input": {
            "name": IMAGES,
            "shape": list(IMAGE_SHAPE),
            "dtype": "float32",
            "range": [0, 255],
            "meaning": "Grey levels of n images of one size, whichever: 0 is black, 255 is white, bone is "
            "bright (MONOCHROME2).",
        },
        "preparation": {"description": (GREY + as_jpeg).format(**preparation) + LEFT_OUT, **preparation},
        "inside": [
            *({**RESIZE, "height": size, "width": size} for size in run.classifier.frozen.sizes),
            {"operation": "scale", "slope": GREY_SCALE, "offset": GREY_OFFSET},
        ],
        "output": {
            "name": PROBABILITY,
            "shape": list(PROBABILITY_SHAPE),
            "dtype": "float32",
            "meaning": f"Probability of {pneumonia} at a prevalence of {run.calibration.prevalence:g}.",
        },
        "operating_point": {
            "prediction": f"{pneumonia} where the probability is above the threshold, else {normal}",
            "description": run.operating_point.describe_rule(),
            **to_document(run.operating_point),
        },
        "calibration": {"applied": "inside the model", **to_document(run.calibration)},
        "ood_detector": {
            "included": False,
            "description": "Unlike `pneumo-keras predict`, this file does not warn when an image is out of "
            "distribution: it scores photographs, turned images and other views as readily as chest images.",
        },
    }
