#!/usr/bin/env bash
# MONAI's GaussianSharpen makes the border of an even image four times as bright as the image.
#
# Packages: monai 1.6.1, torch 2.13.0, scipy 1.17.1, numpy 2.4.6 (Python 3.11; torch takes 0.7 to 5 GB)
#
# Expected: an even image has nothing to smooth or to sharpen and comes out as it was, as with the formula of the
#     documentation and the filters of SciPy that it refers to.
# Instead: around the image, MONAI's filters take black. GaussianSmooth darkens the border, and GaussianSharpen, which
#     adds thirty times the difference of two smoothed images, raises it far above white. No warning is given.
# Output seen (128 x 128 pixels of 100; corner, middle of an edge, centre):
#     GaussianSmooth: MONAI 48, 69, 100, SciPy 100, 100, 100
#     GaussianSharpen: MONAI 419, 442, 100, SciPy 100, 100, 100
# Why it matters: both are common augmentations. A bright or dark frame around the chest tells a network
#     whether an image was augmented, and a later scaling to lowest and highest value darkens the chest.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 monai==1.6.1 scipy==1.17.1 numpy==2.4.6

"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
from monai.transforms import GaussianSharpen, GaussianSmooth
from scipy.ndimage import gaussian_filter

image = np.full((1, 128, 128), 100, np.float32)


def sharpen(pixels, sigma1=3, sigma2=1, alpha=30):  # MONAI's defaults and formula
    blurred = gaussian_filter(pixels, sigma1)
    return blurred + alpha * (blurred - gaussian_filter(blurred, sigma2))


found = {}
for name, by_monai, by_scipy in (
    ("GaussianSmooth", GaussianSmooth(sigma=1)(image), gaussian_filter(image[0], 1)),
    ("GaussianSharpen", GaussianSharpen()(image), sharpen(image[0])),
):
    pairs = [[int(np.round(p[at])) for at in ((0, 0), (0, 64), (64, 64))] for p in (np.asarray(by_monai)[0], by_scipy)]
    found[name] = pairs
    print(f"{name}: MONAI {', '.join(map(str, pairs[0]))}, SciPy {', '.join(map(str, pairs[1]))}")

smooth, sharp = found["GaussianSmooth"], found["GaussianSharpen"]
if smooth[1] != [100] * 3 or sharp[1] != [100] * 3 or smooth[0][0] > 60 or sharp[0][0] < 200 or sharp[0][2] != 100:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: the border changes, the middle stays."
