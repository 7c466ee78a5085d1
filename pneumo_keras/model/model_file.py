"""`model.keras` from anywhere: nothing of it is built or unpacked before all of it was looked at.

Keras builds what a file names, so a file may name nothing but what classifiers of this program are made of.
Keras itself refuses weights that lie in other files or declare more than is there.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from pneumo_keras.storage.bounded_reading import open_zip

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = {"metadata.json", CONFIG, WEIGHTS}
MOST_BYTES = 1 << 30  # of a file; the largest classifier that settings allow has 0.9 GB
CONFIG_BYTES = 1 << 22  # of the description of its layers; ours take half a million

# All that `Classifier.join` is made of, by module: see there, and `keras.applications.InceptionV3`.
PARTS = {
    None: {"__ellipsis__", "__keras_tensor__", "__slice__"},
    "keras": {"DTypePolicy"},
    "keras.initializers": {"GlorotUniform", "Ones", "Zeros"},
    "keras.layers": {
        *("Activation", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D"),
        *("Dropout", "EinsumDense", "GlobalAveragePooling2D", "InputLayer", "MaxPooling2D", "Normalization"),
        "Rescaling",
    },
    "keras.src.models.functional": {"Functional"},
    "keras.src.ops.image": {"Resize"},
    "keras.src.ops.numpy": {"Clip", "Flip", "GetItem", "Mean", "Subtract"},
}


def check_model_file(path: Path) -> Callable[[tuple[int, ...]], Float32[np.ndarray, "..."]]:
    """Checks that a file holds a classifier as far as this can be told without building it.

    Returns:
        Draws what the layers start with while it is loaded: zeros, no more of them than the file has weights.

    Raises:
        OSError: It cannot be read, or is none that this program writes.
        ValueError: It is damaged, or holds what no classifier does. One line.
    """
    with open_zip(path, most=MOST_BYTES) as archive:
        if set(archive.namelist()) != MEMBERS:
            raise ValueError(f"it must hold {', '.join(sorted(MEMBERS))} and nothing else")
        if archive.getinfo(CONFIG).file_size > CONFIG_BYTES:
            raise ValueError(f"{CONFIG} has more than {CONFIG_BYTES:,} bytes")
        _check_parts(archive.read(CONFIG))
        left = archive.getinfo(WEIGHTS).file_size

    def draw_zeros(shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
        nonlocal left
        left -= 4 * int(np.prod(shape, dtype=object))
        if left < 0:
            raise ValueError(f"{CONFIG} asks for more weights than {WEIGHTS} holds")
        return np.zeros(shape, np.float32)

    return draw_zeros


def _check_parts(text: bytes) -> None:
    """Checks that a description names nothing but what classifiers are made of."""
    try:
        description = json.loads(text)
    except RecursionError:
        raise ValueError(f"{CONFIG} is nested too deeply") from None
    for part in _iterate_parts(description):
        module, name, registered = (part.get(key) for key in ("module", "class_name", "registered_name"))
        known = (module is None or isinstance(module, str)) and isinstance(name, str)
        if not known or name not in PARTS.get(module, ()) or registered not in (None, name):
            raise ValueError(f"{CONFIG} names {module}.{name}, which is no part of a classifier")


def _iterate_parts(tree: Any) -> Iterator[dict[str, Any]]:
    """All that Keras would build."""
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
