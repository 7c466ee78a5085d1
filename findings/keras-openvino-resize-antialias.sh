#!/usr/bin/env bash
# Keras 3.15.1 on OpenVINO 2026.4.1 shrinks images by bicubic interpolation without antialiasing, although
# antialias=True is asked for; bilinear interpolation is antialiased.
#
# Input: 64 x 64 pixels, each eighth column white (255), shrunk to 8 x 8 by keras.ops.image.resize(antialias=True).
# Expected: about 32 in each pixel, the mean of eight columns, as on JAX 0.10.2.
# Seen: bicubic on the OpenVINO backend reads a few columns and misses the white ones: 0, or 143 where it hits them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet keras==3.15.1 jax==0.10.2 openvino==2026.4.1
cat >"$work/shrink.py" <<'PYTHON'
import sys

import keras
import numpy as np

stripes = np.zeros((1, 64, 64, 1), np.float32)
stripes[:, :, 4::8] = 255
for kind in ("bilinear", "bicubic"):
    small = keras.ops.image.resize(stripes, (8, 8), interpolation=kind, antialias=True)
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
assert largest["bilinear"] < 0.01, f"bilinear interpolation differs, too: {largest}"
assert largest["bicubic"] > 50, f"the backends agree now: {largest}"
PYTHON
