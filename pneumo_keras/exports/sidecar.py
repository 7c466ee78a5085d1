"""What somebody else must know to use an exported classifier: the JSON next to it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.data.images import Preparation
from pneumo_keras.evaluation.calibration import Calibration
from pneumo_keras.evaluation.threshold import OperatingPoint
from pneumo_keras.exports.forms import FORMS, IMAGE_SHAPE, IMAGES, PROBABILITY, PROBABILITY_SHAPE
from pneumo_keras.model.classifier import GREY_OFFSET, GREY_SCALE
from pneumo_keras.storage.documents import to_document

FORMAT_VERSION = 3  # to be raised when who reads the old one would read the new one wrongly

RESIZE = {"operation": "resize", "antialias": True, "kernel": "bilinear"}
# Before the model; as `data.pictures` and `data.image_preparation` do it.
GREY = (
    "Turn the image upright, as its EXIF orientation says. One grey channel, 0 black to 255 white: 8 bits as "
    "they are, 16 bits divided by 257, others by their full range in the same way, never stretched to the "
    "values that an image has; DICOM after its modality and window. What is transparent is black. Invert "
    "images whose 0 is white (MONOCHROME1). An image of {size} x {size} pixels is then ready. Of any other "
    "cut out the central square whose edge is the short edge, beginning at half of the rest, rounded half to "
    "even; resize it to {size} x {size} pixels, bilinear and antialiased, rounded to 8 bits, as Pillow does"
)
AS_JPEG = "; and save it as JPEG of quality {quality} and read it again, as Pillow does"
LEFT_OUT = (
    ". The model takes larger images too and resizes them in floating point: their scores then differ a "
    "little from those of `pneumo-keras predict`."
)


def describe_file(form: str, file: Path) -> dict[str, Any]:
    """Which file this is and what runs it."""
    about = FORMS[form]
    return {
        "format_version": FORMAT_VERSION,
        "format": form,
        "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest()},
        "runtime": {"package": about.runtime, "requirements": list(about.requirements), "note": about.note},
        "warning": "A research tool, not a medical device. Nothing here may guide the care of a patient.",
    }


def describe_use(
    preparation: Preparation, sizes: Sequence[int], calibration: Calibration, point: OperatingPoint
) -> dict[str, Any]:
    """From an image to a prediction: what goes in, what happens inside, what comes out and what it means.

    Args:
        preparation: Of an image before the model.
        sizes: To which the model brings images, one after the other, in pixels.
        calibration: Inside the model.
        point: With the threshold.
    """
    normal, pneumonia = CLASS_NAMES
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
        "preparation": _describe_preparation(preparation),
        "inside": [
            *({**RESIZE, "height": size, "width": size} for size in sizes),
            {"operation": "scale", "slope": GREY_SCALE, "offset": GREY_OFFSET},
        ],
        "output": {
            "name": PROBABILITY,
            "shape": list(PROBABILITY_SHAPE),
            "dtype": "float32",
            "meaning": f"Probability of {pneumonia} at a prevalence of {calibration.prevalence:g}.",
        },
        "operating_point": {
            "prediction": f"{pneumonia} where the probability is above the threshold, else {normal}",
            "description": point.describe_rule(),
            **to_document(point),
        },
        "calibration": {"applied": "inside the model", **to_document(calibration)},
        "ood_detector": {
            "included": False,
            "description": "Unlike `pneumo-keras predict`, this file does not warn when an image is out of "
            "distribution: it scores photographs, turned images and other views as readily as chest images.",
        },
    }


def _describe_preparation(preparation: Preparation) -> dict[str, Any]:
    """What to do with an image before the model gets it."""
    description = GREY.format(size=preparation.size)
    if preparation.jpeg_quality:
        description += AS_JPEG.format(quality=preparation.jpeg_quality)
    return {"description": description + LEFT_OUT, **asdict(preparation)}


def describe_origin(
    fingerprint: str, environment: Mapping[str, Any], versions: Mapping[str, str]
) -> dict[str, Any]:
    """What the classifier was made from.

    Args:
        fingerprint: Of the whole classifier.
        environment: What its run was made with.
        versions: Of the packages that wrote the files.
    """
    data, images = environment.get("data", {}), environment.get("images", {})
    return {
        "trained_on": {"title": data.get("title"), "notice": data.get("notice")},
        "fingerprints": {
            "model_sha256": fingerprint,
            "weights_sha256": environment.get("weights_sha256"),
            **{name: environment[name] for name in ("fine_tuned_weights_sha256",) if name in environment},
            "images_sha256": {split: about.get("sha256") for split, about in images.items()},
        },
        "versions": dict(versions),
    }
