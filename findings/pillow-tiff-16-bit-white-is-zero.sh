#!/usr/bin/env bash
# Pillow 13.0.0 inverts a TIFF file whose white is zero if it has 8 bits, and not if it has 16.
#
# Input: the same ramp, written by tifffile 2025.5.10 with PhotometricInterpretation 0 (WhiteIsZero), once with 8 and
# once with 16 bits a sample. Digitised X-ray films are stored so.
# Expected: Image.open gives 0 for black in both, or the stored values in both.
# Seen: the 8-bit pixels are inverted, the 16-bit pixels are not, and mode "I;16" does not tell.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==13.0.0 tifffile==2025.5.10 numpy==2.2.6
"$work/venv/bin/python" - "$work" <<'PYTHON'
import sys

import numpy as np
import tifffile
from PIL import Image

ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
stored = {8: ramp, 16: ramp.astype(np.uint16) * 257}
read = {}
for bits, pixels in stored.items():
    path = f"{sys.argv[1]}/{bits}.tif"
    tifffile.imwrite(path, pixels, photometric="miniswhite")
    read[bits] = np.asarray(Image.open(path))
    print(f"{bits} bits: stored {pixels.ravel()[[0, -1]]}, read {read[bits].ravel()[[0, -1]]}")
assert (read[8] == 255 - stored[8]).all(), "8 bits are no longer inverted"
assert (read[16] == stored[16]).all(), "16 bits are inverted now"
PYTHON
