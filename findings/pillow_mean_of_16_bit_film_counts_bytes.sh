#!/usr/bin/env bash
# Pillow's ImageStat measures the bytes in the left half of a 16-bit picture instead of its pixels.
#
# Packages: Pillow 13.0.0, numpy 2.4.6 (Python 3.11)
#
# Expected: ImageStat of an "I;16" picture that is 1000 in its left half and 60000 in its right gives mean
#     30500 and the extremes 1000 and 60000, as getextrema() does, or is refused.
# Instead: the histogram that ImageStat works on reads as many bytes of each row as the row has pixels. They
#     are those of the left half, 232 and 3 in turn for 1000. The right half is not looked at, and nothing
#     is raised or warned of.
# Output seen:
#     getextrema: (1000, 60000)
#     ImageStat: mean 117.5, extremes (3, 232), deviation 114.5, count 256
# Why it matters: films are normalised by the mean and deviation of a training set, and empty exposures are
#     found by them; for 16-bit chest films both are meaningless.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet Pillow==13.0.0 numpy==2.4.6

"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
from PIL import Image, ImageStat

pixels = np.full((16, 16), 1000, np.uint16)
pixels[:, 8:] = 60000
picture = Image.fromarray(pixels)
assert picture.mode == "I;16" and picture.getextrema() == (1000, 60000)
print("getextrema:", picture.getextrema())
stat = ImageStat.Stat(picture)
found = (stat.mean[0], stat.extrema[0], stat.stddev[0], stat.count[0])
print(f"ImageStat: mean {found[0]}, extremes {found[1]}, deviation {found[2]}, count {found[3]}")
if found != (117.5, (3, 232), 114.5, 256):
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: ImageStat measures bytes, not pixels."
