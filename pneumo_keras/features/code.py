"""The modules that compute features, of which another version may compute others.

A list beside the code, so that whoever writes a module decides whether it is one of them; a test looks
through what these modules import.
"""

from pneumo_keras.runtime.code_fingerprint import fingerprint_code

COMPUTING = (
    *("arrays", "runtime.backend", "runtime.private_apis", "runtime.prefetch"),
    "data.image_preparation",
    *("engines.choice", "engines.graph", "engines.jax_operations", "engines.jax_program", "engines.onnx"),
    *("engines.openvino", "engines.runner", "engines.stock", "engines.table", "engines.winograd"),
    *("features.augmentation", "features.extract", "features.passage", "features.views"),
    *("model.backbone", "model.classifier", "model.fingerprint", "model.initial", "model.preprocessing"),
    "model.reading",
)


def fingerprint_computing() -> str:
    """Of the code of this version that turns images into features."""
    return fingerprint_code(COMPUTING)
