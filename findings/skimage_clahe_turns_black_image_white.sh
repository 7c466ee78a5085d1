#!/usr/bin/env bash
# scikit-image's CLAHE turns an even picture white, one that is black throughout too.
#
# Packages: scikit-image 0.26.0, numpy 2.4.6 (Python 3.11)
#
# Expected: equalize_adapthist has no contrast to raise in an even picture, so black stays black and white
#     white, as with rescale_intensity.
# Instead: it answers with 1.0, the highest value, at every pixel, whatever the picture's value. Nothing is
#     raised or warned of.
# Output seen:
#     all 0 (uint8): CLAHE 1.0 to 1.0, rescale_intensity 0 to 0
#     all 100 (uint8): CLAHE 1.0 to 1.0, rescale_intensity 100 to 100
#     all 0 (uint16): CLAHE 1.0 to 1.0, rescale_intensity 0 to 0
#     all 100 (uint16): CLAHE 1.0 to 1.0, rescale_intensity 100 to 100
# Why it matters: CLAHE is the usual first step before chest images are classified; an empty exposure or a
#     cropped black border goes in black and is judged as wholly white, which is how diseased lungs look.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet scikit-image==0.26.0 numpy==2.4.6

"$work/venv/bin/python" -W error - <<'PY'
import sys

import numpy as np
from skimage.exposure import equalize_adapthist, rescale_intensity

changed = False
for kind in (np.uint8, np.uint16):
    for value in (0, 100):
        image = np.full((64, 64), value, kind)
        equalized, rescaled = equalize_adapthist(image), rescale_intensity(image)
        print(f"all {value} ({image.dtype}): CLAHE {equalized.min()} to {equalized.max()},"
              f" rescale_intensity {rescaled.min()} to {rescaled.max()}")
        changed |= not (np.all(equalized == 1.0) and np.array_equal(rescaled, image))

if changed:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: CLAHE makes an even picture white."
