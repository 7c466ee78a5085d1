#!/usr/bin/env bash
# MedMNIST-C's augmentation puts its impulse noise on the same pixels of every training image.
#
# Packages: medmnistc 0.1.0 (without its dependencies), scikit-image 0.23.2 (which medmnistc asks for),
#     opencv-python-headless 5.0.0.93, numpy 2.4.6 (Python 3.11)
#
# Expected: each call of an augmentation draws other pixels.
# Instead: ImpulseNoise.apply makes a new generator of seed 99999 in each call. Only the share of pixels is
#     drawn anew; all that a small share hits are hit by every larger one, and in the same colour.
# Output seen (shares of pixel values hit in four random images; those of the smallest hit in all others):
#     drawn: 0.5 %, 1.1 %, 1.3 %, 1.9 %
#     of the 803 of the smallest, hit alike in all others: 803
# Why it matters: a network trained with it sees the same dots in every image and can learn to
#     pass over those places; that it has become robust to noise anywhere else does not follow.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps medmnistc==0.1.0
"$work/venv/bin/pip" install --quiet scikit-image==0.23.2 opencv-python-headless==5.0.0.93 numpy==2.4.6 \
    2>"$work/log" || { cat "$work/log" >&2; exit 1; }

"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
from medmnistc.augmentation import AugMedMNISTC
from medmnistc.corruptions.noise import ImpulseNoise

augment = AugMedMNISTC({"impulse_noise": ImpulseNoise(severity_params=[0.005, 0.01, 0.013, 0.017, 0.02])})
np.random.seed(0)
hits = []
while len(hits) < 4:
    image = np.random.randint(100, 150, (224, 224, 3), dtype=np.uint8)
    augmented = augment(image)
    if augmented is not image:  # it leaves some images alone
        hits.append(np.where((augmented == 0) | (augmented == 255), augmented, 1))

hits.sort(key=lambda hit: np.sum(hit != 1))
print("drawn: " + ", ".join(f"{100 * np.mean(hit != 1):.1f} %" for hit in hits))
smallest = hits[0] != 1
alike = np.logical_and.reduce([smallest & (hit == hits[0]) for hit in hits[1:]])
print(f"of the {smallest.sum()} of the smallest, hit alike in all others: {alike.sum()}")

shares = {int(np.sum(hit != 1)) for hit in hits}
if len(shares) != 4 or not smallest.any() or alike.sum() != smallest.sum():
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: every image is hit at the same places."
