#!/usr/bin/env bash
# Keras 3.15.1 on OpenVINO 2026.4.1 shrinks images without antialiasing, although antialias=True is asked for.
#
# Input: stripes of one pixel, 64 x 64, shrunk to 16 x 16 by keras.ops.image.resize(..., "bicubic", antialias=True).
# Expected: grey on every backend, as on JAX 0.10.2: each output pixel averages four columns.
# Seen: on the OpenVINO backend the stripes alias; the same call differs from JAX by a large part of the range.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet keras==3.15.1 jax==0.10.2 openvino==2026.4.1
cat >"$work/shrink.py" <<'PYTHON'
import sys

import keras
import numpy as np

stripes = np.tile(np.array([0.0, 255.0], np.float32), (64, 32))[None, :, :, None]
for kind in ("bilinear", "bicubic"):
    small = keras.ops.image.resize(stripes, (16, 16), interpolation=kind, antialias=True)
    np.save(f"{sys.argv[1]}-{kind}.npy", keras.ops.convert_to_numpy(small))
PYTHON
for backend in jax openvino; do
    KERAS_BACKEND=$backend "$work/venv/bin/python" "$work/shrink.py" "$work/$backend"
done
"$work/venv/bin/python" - "$work" <<'PYTHON'
import sys

import numpy as np

largest = {}
for kind in ("bilinear", "bicubic"):
    one, other = (np.load(f"{sys.argv[1]}/{name}-{kind}.npy") for name in ("jax", "openvino"))
    largest[kind] = float(np.abs(one - other).max())
    print(f"{kind}: JAX {one.min():.1f} to {one.max():.1f}, OpenVINO {other.min():.1f} to {other.max():.1f}")
assert max(largest.values()) > 50, f"the backends agree now: {largest}"
PYTHON
