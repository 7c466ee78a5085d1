#!/usr/bin/env bash
# scikit-image's CLAHE makes all negative pixels of a signed image one grey level.
#
# Packages: scikit-image 0.26.0, numpy 2.4.6 (Python 3.11)
#
# Expected: equalize_adapthist scales an image to its own lowest and highest value first, so a signed 16-bit
#     image comes out as the same image plus 2048, or as the same image of floats.
# Instead: the image is converted to unsigned 16 bits before it is scaled, which sets all below 0 to 0. Half of
#     the grey levels are one. equalize_hist keeps them. No error or warning is raised.
# Output seen (a ramp of 4096 levels, -2048 to 2047; distinct levels of the darker half, of the brighter half):
#     signed: CLAHE 1 and 2048, equalize_hist 2048 and 2048
#     plus 2048: CLAHE 1638 and 1639, equalize_hist 2048 and 2048
# Why it matters: DICOM images whose rescale intercept is negative have signed pixels. Lungs and air, the dark half
#     of a chest image, are lost before a classifier sees them.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scikit-image==0.26.0 numpy==2.4.6

"$work/venv/bin/python" -W error - <<'PY'
import sys

import numpy as np
from skimage.exposure import equalize_adapthist, equalize_hist

signed = np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64)
found = {}
for name, image in (("signed", signed), ("plus 2048", (signed + 2048).astype(np.uint16))):
    levels = []
    for method in (equalize_adapthist, equalize_hist):
        # Tiles as large as the image: one histogram for all of it.
        options = {"kernel_size": 64, "nbins": 4096} if method is equalize_adapthist else {"nbins": 4096}
        equalized = method(image, **options)
        levels.append([len(np.unique(equalized[half])) for half in (signed < 0, signed >= 0)])
    found[name] = levels
    print(f"{name}: CLAHE %d and %d, equalize_hist %d and %d" % (*levels[0], *levels[1]))

if found["signed"][0][0] != 1 or found["signed"][0][1] < 1000 or found["plus 2048"][0][0] < 1000:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: all that is negative has become one level."
