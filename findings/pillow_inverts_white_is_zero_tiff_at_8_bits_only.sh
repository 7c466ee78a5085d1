#!/usr/bin/env bash
# Pillow turns a TIFF in which 0 is white the right way round at 8 bits, and leaves it as it is at 16.
#
# Packages: Pillow 13.0.0, tifffile 2026.3.3 (writes the TIFF), numpy 2.4.6 (Python 3.11)
#
# Expected: the same picture, written as WhiteIsZero with 8 and with 16 bits a pixel, opens with the same
#     dark and bright parts. Mode "L" and mode "I;16" both say that 0 is black.
# Instead: at 8 bits Pillow inverts while it reads, so 0 becomes 255. At 16 bits it does not, so 0, which is
#     white in the file, is black in the picture. The tag is kept for those who look, without a warning.
# Output seen (a ramp from 0, white in the file, to the highest value, black):
#     8 bits: L, from 255 to 0
#     16 bits: I;16, from 0 to 65535
# Why it matters: X-ray film scanners write WhiteIsZero; a set of films in both depths has half of its chests
#     as negatives, and a classifier learns or judges them so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet Pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6

"$work/venv/bin/python" - <<'PY'
import io
import sys

import numpy as np
import tifffile
from PIL import Image

PHOTOMETRIC = 262
found = []
for kind in (np.uint8, np.uint16):
    file = io.BytesIO()
    ramp = np.linspace(0, np.iinfo(kind).max, 16).astype(kind)
    tifffile.imwrite(file, np.tile(ramp, (16, 1)), photometric="miniswhite")
    file.seek(0)
    picture = Image.open(file)
    assert picture.tag_v2[PHOTOMETRIC] == 0
    row = np.asarray(picture)[0]
    found.append((picture.mode, int(row[0]), int(row[-1])))
    print(f"{8 * ramp.itemsize} bits: {found[-1][0]}, from {found[-1][1]} to {found[-1][2]}")

if found != [("L", 255, 0), ("I;16", 0, 65535)]:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: 8 bits are inverted, 16 bits are not."
