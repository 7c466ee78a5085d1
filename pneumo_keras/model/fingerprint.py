"""What a Keras model computes, as one value: the same graph and weights, the same fingerprint."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from pneumo_keras.model.backbone import list_ends, locate_cells
from pneumo_keras.model.inference import PooledLayer
from pneumo_keras.runtime.private_apis import trace_tensor

# Of a layer's settings, those that change nothing of what it computes in inference.
IDLE = ("name", "trainable")


def compute_fingerprint(model: keras.Model) -> str:
    """SHA-256 over the operations, their settings, connections and weights; names do not count."""
    return _hash_values(_compute_fingerprints(model.outputs))


def describe_feature_layers(backbone: keras.Model) -> dict[str, PooledLayer]:
    """The feature layers of a backbone, in their order; every layer is hashed once."""
    ends, cells = list_ends(backbone), locate_cells(backbone)
    fingerprints = _compute_fingerprints([layer.output for layer in ends.values()])
    return {
        name: PooledLayer(layer.output.shape[-1], fingerprint, tuple(layer.input.shape[1:3]), *cells[name])
        for (name, layer), fingerprint in zip(ends.items(), fingerprints, strict=True)
    }


def _compute_fingerprints(outputs: Sequence[Any]) -> list[str]:
    """SHA-256 of each tensor over all that computes it."""
    operations: dict[int, str] = {}
    tensors: dict[int, str] = {}

    def to_fingerprint(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        if id(value) not in tensors:
            operation, arguments, index = trace_tensor(value)
            if id(operation) not in operations:
                operations[id(operation)] = _hash_operation(operation)
            # Constants as well: `images / 255` keeps its 255 nowhere else.
            given = keras.tree.map_structure(to_fingerprint, [list(arguments.args), arguments.kwargs])
            tensors[id(value)] = _hash_values([operations[id(operation)], given, index])
        return tensors[id(value)]

    return [to_fingerprint(output) for output in outputs]


def _hash_operation(operation: Any) -> str:
    kind = f"{type(operation).__module__}.{type(operation).__qualname__}"
    if isinstance(operation, keras.Model):
        return _hash_values([kind, compute_fingerprint(operation)])
    settings = {key: value for key, value in operation.get_config().items() if key not in IDLE}
    # Not its `variables`, among which is how often a Dropout has drawn.
    weights = [_hash_array(variable) for variable in getattr(operation, "weights", [])]
    return _hash_values([kind, settings, weights])


def _hash_array(variable: keras.Variable) -> str:
    array = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    digest.update(array.data)
    return digest.hexdigest()


def _hash_values(values: Sequence[Any]) -> str:
    text = json.dumps(values, sort_keys=True, default=keras.saving.serialize_keras_object)
    return hashlib.sha256(text.encode()).hexdigest()
