#!/usr/bin/env bash
# Keras' RandAugment of strength 0 turns images into their negatives, or leaves them two grey levels.
#
# Packages: keras 3.15.1, jax 0.10.2, numpy 2.4.6 (Python 3.11, CPU only)
#
# Expected: factor is "the strength of the augmentation as a normalized value between 0 and 1", so of strength 0
#     all operations leave an image that has black and white in it as it is.
# Instead: factor is handed on as the threshold of Solarization, as the bits of RandomPosterization and as the
#     sharpness of RandomSharpness, which all change an image most at 0: every pixel is above the threshold and is
#     inverted, one bit of eight is left, and the image is blurred ("other"). No warning is given.
# Output seen (a ramp from 0 to 255, 100 draws of one of eleven operations):
#     as it was: 71, negative: 6, two grey levels: 14, other: 9
# Why it matters: whoever turns the augmentation down, since chest X-rays are more alike than photographs, trains
#     on some images whose lungs are white and whose bones are black.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6

KERAS_BACKEND=jax JAX_PLATFORMS=cpu KERAS_HOME="$work" "$work/venv/bin/python" - <<'PY'
import sys
from collections import Counter

import keras
import numpy as np

ramp = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1)
layer = keras.layers.RandAugment(value_range=(0, 255), num_ops=1, factor=0, seed=0)
counts = Counter()
for _ in range(100):
    image = np.asarray(layer(ramp, training=True))
    if np.abs(image - ramp).max() < 1:
        counts["as it was"] += 1
    elif np.array_equal(image, 255 - ramp):
        counts["negative"] += 1
    elif len(np.unique(image)) == 2:
        counts["two grey levels"] += 1
    else:
        counts["other"] += 1

names = ("as it was", "negative", "two grey levels", "other")
print(", ".join(f"{name}: {counts[name]}" for name in names))
if not counts["negative"] or not counts["two grey levels"]:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: the weakest augmentation inverts images."
