#!/usr/bin/env bash
# OpenCV reads a signed 16-bit TIFF as a grey image whose darkest pixels are brighter than its brightest.
#
# Packages: opencv-python-headless 5.0.0.93, tifffile 2026.3.3, numpy 2.4.6 (Python 3.11)
#
# Expected: imread with IMREAD_GRAYSCALE, which brings 16 bits down to 8, keeps the order of the grey levels, or
#     refuses a signed file, as it refuses one of 32-bit floats.
# Instead: it takes the upper byte of each pixel as unsigned. -32768 to -1 become 128 to 255, and 0 to 32767
#     become 0 to 127: black is mid-grey, mid-grey is both black and white. IMREAD_COLOR, the default, does the
#     same; IMREAD_UNCHANGED and unsigned files are right. No error or warning is raised.
# Output seen:
#     stored: -32768, -1024, -1, 0, 1024, 32767
#     IMREAD_UNCHANGED (int16): -32768, -1024, -1, 0, 1024, 32767
#     IMREAD_GRAYSCALE (uint8): 128, 252, 255, 0, 4, 127
#     IMREAD_COLOR (uint8): 128, 252, 255, 0, 4, 127
#     IMREAD_GRAYSCALE, the same plus 32768, unsigned: 0, 124, 127, 128, 132, 255
# Why it matters: DICOM images whose rescale intercept is negative are exported with signed pixels. What is black in
#     them, the air around the chest first of all, comes in white.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet opencv-python-headless==5.0.0.93 tifffile==2026.3.3 numpy==2.4.6

cd "$work"
"$work/venv/bin/python" -W error - <<'PY'
import sys

import cv2
import numpy as np
import tifffile

stored = np.array([[-32768, -1024, -1, 0, 1024, 32767]], np.int16)
tifffile.imwrite("signed.tif", stored)
tifffile.imwrite("unsigned.tif", (stored.astype(int) + 32768).astype(np.uint16))


def show(name, pixels):
    levels = pixels.reshape(6, -1)[:, 0].tolist()
    print(f"{name}: {', '.join(map(str, levels))}")
    return levels


show("stored", stored)
found = []
for mode in ("IMREAD_UNCHANGED", "IMREAD_GRAYSCALE", "IMREAD_COLOR"):
    read = cv2.imread("signed.tif", getattr(cv2, mode))
    found.append(show(f"{mode} ({read.dtype})", read))
unsigned = show(
    "IMREAD_GRAYSCALE, the same plus 32768, unsigned", cv2.imread("unsigned.tif", cv2.IMREAD_GRAYSCALE)
)

broken = [128, 252, 255, 0, 4, 127]
if found != [stored[0].tolist(), broken, broken] or unsigned != [0, 124, 127, 128, 132, 255]:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: the order of the grey levels is lost."
