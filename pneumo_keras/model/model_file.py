"""`model.keras` from anywhere: nothing of it is built or unpacked before all of it was looked at.

Keras builds what a file names, and HDF5 follows what a file points to. So a file may name nothing but what
classifiers of this program are made of, and hold nothing but plain arrays of its own.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float32

from pneumo_keras.model.initial import Draw, Shape
from pneumo_keras.storage.bounded_reading import open_zip

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = {"metadata.json", CONFIG, WEIGHTS}
MOST_BYTES = 1 << 30  # of a file; the largest classifier that settings allow has 0.9 GB
CONFIG_BYTES = 1 << 24  # of the description of its layers; ours take half a million
MOST_PARTS = 20_000  # that the description names, initialisers included; ours name 3,000
MOST_OBJECTS = 20_000  # groups and arrays of weights; ours have 1,100

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


def check_model_file(path: Path) -> Draw:
    """Checks that a file holds a classifier as far as this can be told without building it.

    Returns:
        What the layers are to start with while it is loaded: nothing, and no more of it than the file has
        weights.

    Raises:
        OSError: It cannot be read, or is none that this program writes.
        ValueError: It is damaged, or holds what no classifier does. One line.
    """
    with open_zip(path, most=MOST_BYTES) as archive:
        names = set(archive.namelist())
        if names != MEMBERS:
            raise ValueError(f"it must hold {', '.join(sorted(MEMBERS))} and nothing else")
        if archive.getinfo(CONFIG).file_size > CONFIG_BYTES:
            raise ValueError(f"{CONFIG} has more than {CONFIG_BYTES:,} bytes")
        _check_parts(archive.read(CONFIG))
        weights = archive.read(WEIGHTS)
    return _build_draw(_check_weights(weights))


def _check_parts(text: bytes) -> None:
    """Checks that a description names nothing but what classifiers are made of."""
    try:
        description = json.loads(text)
    except RecursionError:
        raise ValueError(f"{CONFIG} is nested too deeply") from None
    for number, (module, name, registered) in enumerate(_iterate_parts(description)):
        if number == MOST_PARTS:
            raise ValueError(f"{CONFIG} names more than {MOST_PARTS:,} parts")
        known = module is None or isinstance(module, str)
        if not known or not isinstance(name, str) or name not in PARTS.get(module, ()):
            raise ValueError(f"{CONFIG} names {module}.{name}, which is no part of a classifier")
        if registered not in (None, name):
            raise ValueError(f"{CONFIG} names {registered}, which is no part of a classifier")


def _iterate_parts(tree: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Module, class and registered name of all that Keras would build."""
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                yield one.get("module"), one["class_name"], one.get("registered_name")
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _check_weights(data: bytes) -> int:
    """Checks that weights are plain arrays inside the file, each there once; bytes of all of them."""
    total = 0
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            for number, part in enumerate(_iterate_objects(file)):
                if number == MOST_OBJECTS:
                    raise ValueError(f"{WEIGHTS} holds more than {MOST_OBJECTS:,} objects")
                total += _check_array(part) if isinstance(part, h5py.Dataset) else 0
    except ValueError:
        raise
    except Exception as error:  # HDF5 has an error of every kind for damage of every kind
        raise ValueError(f"{WEIGHTS} is damaged: {' '.join(str(error).split())[:200]}") from error
    if total > len(data):
        raise ValueError(f"{WEIGHTS} declares {total:,} bytes and holds {len(data):,}")
    return total


def _iterate_objects(group: h5py.Group) -> Iterator[Any]:
    """All below a group, without following a link to anywhere else."""
    seen = {hash(group.id)}
    waiting: list[Any] = [group]
    while waiting:
        parent = waiting.pop()
        for name in parent:
            if type(parent.get(name, getlink=True)) is not h5py.HardLink:
                raise ValueError(f"{WEIGHTS} points elsewhere: {parent.name}/{name}")
            child = parent[name]
            if not isinstance(child, h5py.Group | h5py.Dataset):
                raise ValueError(f"{WEIGHTS} holds {child.name}, which is no array")
            if hash(child.id) in seen:
                raise ValueError(f"{WEIGHTS} holds {child.name} under two names")
            seen.add(hash(child.id))
            yield child
            if isinstance(child, h5py.Group):
                waiting.append(child)


def _check_array(array: h5py.Dataset) -> int:
    """Checks that an array lies inside the file, as it is; its bytes."""
    plain = array.chunks is None and array.external is None and not array.is_virtual
    if not plain or array.dtype.kind not in "fui" or array.dtype.subdtype:
        raise ValueError(f"{WEIGHTS}: {array.name} must be a plain array of numbers inside the file")
    if array.id.get_storage_size() != array.nbytes:
        raise ValueError(f"{WEIGHTS}: {array.name} declares {array.nbytes:,} bytes and holds fewer")
    return array.nbytes


def _build_draw(most: int) -> Draw:
    """Zeros, as long as they take no more bytes than `most`."""
    left = most

    def draw(shape: Shape) -> Float32[np.ndarray, "..."]:
        nonlocal left
        left -= 4 * int(np.prod(shape, dtype=object))
        if left < 0:
            raise ValueError(f"{CONFIG} asks for more weights than {WEIGHTS} holds")
        return np.zeros(shape, np.float32)

    return draw
