#!/usr/bin/env bash
# Pillow multiplies the pixels of a lossless 12-bit JPEG 2000 picture by 16.
#
# Packages: Pillow 13.0.0, imagecodecs 2026.3.6 (encodes and decodes for comparison), numpy 2.4.6
#     (Python 3.11)
#
# Expected: a grey picture with values up to 4095, compressed without loss at 12 bits, opens with the values
#     it had, as Pillow opens a 16-bit PNG or TIFF with such values.
# Instead: Pillow moves the values up until the highest bit is bit 15: 12 bits come out times 16, 10 bits
#     times 64. Mode and info of the picture say nothing of the factor, so it cannot be told from them.
#     imagecodecs gives back the values themselves.
# Output seen:
#     10 bits: highest 1023, Pillow 65472, imagecodecs 1023
#     12 bits: highest 4095, Pillow 65520, imagecodecs 4095
#     16 bits: highest 65535, Pillow 65535, imagecodecs 65535
# Why it matters: X-ray images have 10 to 14 bits; a threshold or window given in the image's own units is off
#     by up to 64 times on those that came as JPEG 2000, and right on the others.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet Pillow==13.0.0 imagecodecs==2026.3.6 numpy==2.4.6

"$work/venv/bin/python" - <<'PY'
import io
import sys

import imagecodecs
import numpy as np
from PIL import Image

changed = False
for bits, factor in ((10, 64), (12, 16), (16, 1)):
    pixels = np.linspace(0, 2**bits - 1, 64 * 64).astype(np.uint16).reshape(64, 64)
    code = imagecodecs.jpeg2k_encode(pixels, level=0, bitspersample=bits, reversible=True)
    picture = Image.open(io.BytesIO(code))
    by_pillow, by_imagecodecs = np.asarray(picture), imagecodecs.jpeg2k_decode(code)
    assert picture.mode == "I;16" and set(picture.info) <= {"comment"}
    assert np.array_equal(by_imagecodecs, pixels)
    print(f"{bits} bits: highest {pixels.max()}, Pillow {by_pillow.max()}, imagecodecs {by_imagecodecs.max()}")
    changed |= not np.array_equal(by_pillow, pixels * factor)

if changed:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: Pillow moves the values up to bit 15."
