#!/usr/bin/env bash
# OpenVINO stretches an image where the ONNX model says that its aspect ratio is kept.
#
# Packages: openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6 (Python 3.11)
#
# Expected: the operator Resize with keep_aspect_ratio_policy "not_larger" brings an image of 40 x 80 pixels into
#     32 x 32 as 16 x 32, with "not_smaller" as 32 x 64, as ONNX Runtime and ONNX' reference do; or the model is
#     refused, as one with the coordinates "half_pixel_symmetric" is.
# Instead: OpenVINO reads the model, ignores the policy and gives 32 x 32: a disc becomes an ellipse. Nothing is
#     raised or warned of.
# Output seen (sizes, and width to height of the disc):
#     not_larger: ONNX Runtime 16 x 32 and 1.00, reference 16 x 32 and 1.00, OpenVINO 32 x 32 and 0.50
#     not_smaller: ONNX Runtime 32 x 64 and 1.00, reference 32 x 64 and 1.00, OpenVINO 32 x 32 and 0.50
#     half_pixel_symmetric: refused
# Why it matters: a chest X-ray classifier whose ONNX file prepares images itself gets chests of another shape in
#     OpenVINO than in the runtime it was checked with, and its scores change without an error.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

y, x = np.mgrid[:40, :80]
disc = ((y - 19.5) ** 2 + (x - 39.5) ** 2 < 15**2).astype(np.float32)[None, None]


def build(**attributes):
    node = helper.make_node("Resize", ["x", "", "", "size"], ["y"], mode="linear", axes=[2, 3], **attributes)
    size = helper.make_tensor("size", TensorProto.INT64, [2], [32, 32])
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, disc.shape)]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, None, None])]
    graph = helper.make_graph([node], "resize", values, results, [size])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run_openvino(model):
    core = openvino.Core()
    return core.compile_model(core.read_model(model.SerializeToString()), "CPU")([disc])[0]


runtimes = {
    "ONNX Runtime": lambda model: onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": disc})[0],
    "reference": lambda model: ReferenceEvaluator(model).run(None, {"x": disc})[0],
    "OpenVINO": run_openvino,
}
found = {}
for policy in ("not_larger", "not_smaller"):
    texts = []
    for name, run in runtimes.items():
        image = run(build(keep_aspect_ratio_policy=policy))[0, 0]
        inside = image > 0.5
        ratio = inside.any(axis=0).sum() / inside.any(axis=1).sum()
        found[policy, name] = (*image.shape, round(float(ratio), 1))
        texts.append(f"{name} {image.shape[0]} x {image.shape[1]} and {ratio:.2f}")
    print(f"{policy}: {', '.join(texts)}")
try:
    run_openvino(build(coordinate_transformation_mode="half_pixel_symmetric"))
    answer = "read"
except RuntimeError:
    answer = "refused"
print("half_pixel_symmetric:", answer)

kept = {"not_larger": (16, 32, 1), "not_smaller": (32, 64, 1)}
expected = {(policy, name): (32, 32, 0.5) if name == "OpenVINO" else kept[policy] for policy, name in found}
if found != expected or answer != "refused":
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: OpenVINO ignores the policy."
