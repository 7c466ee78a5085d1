#!/usr/bin/env bash
# Pillow interpolates between the bytes of a 16-bit picture, not its pixels, when it rotates or moves it.
#
# Packages: Pillow 13.0.0, numpy 2.4.6 (Python 3.11)
#
# Expected: a picture of mode "I;16" that is 1000 everywhere is still 1000 in its middle after rotate() or
#     transform(), with any resampling filter, or the call is refused, as filter() and reduce() refuse it.
# Instead: with BILINEAR or BICUBIC the result is of mode "I;16" too, but 1000 is stored as the bytes 232 and
#     3, and these are taken for the pixels of the row. Moved by two whole pixels, the row holds 232 and 3 in
#     turn; rotated, it holds anything between. NEAREST is right, and so is resize() with every filter.
# Output seen:
#     NEAREST moved: [1000, 1000, 1000, 1000], rotated: 1000 to 1000, resized: 1000 to 1000
#     BILINEAR moved: [232, 3, 232, 3], rotated: 3 to 231, resized: 1000 to 1000
#     BICUBIC moved: [232, 3, 232, 3], rotated: 3 to 231, resized: 1000 to 1000
# Why it matters: small rotations are the usual way to vary training images; on 16-bit chest images this one
#     gives noise in place of the chest, without an error.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet Pillow==13.0.0 numpy==2.4.6

"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
from PIL import Image

picture = Image.fromarray(np.full((64, 64), 1000, np.uint16))
found = {}
for name in ("NEAREST", "BILINEAR", "BICUBIC"):
    kind = getattr(Image.Resampling, name)
    moved = picture.transform((32, 32), Image.Transform.AFFINE, (1, 0, 2, 0, 1, 2), kind)
    rotated = picture.rotate(10, kind).crop((16, 16, 48, 48))
    resized = picture.resize((32, 32), kind)
    assert picture.mode == moved.mode == rotated.mode == resized.mode == "I;16"
    row = [moved.getpixel((x, 16)) for x in range(8, 12)]
    found[name] = (row, rotated.getextrema()[1] > 255, resized.getextrema())
    print(f"{name} moved: {row}, rotated: {rotated.getextrema()[0]} to {rotated.getextrema()[1]},"
          f" resized: {resized.getextrema()[0]} to {resized.getextrema()[1]}")

right, wrong = ([1000] * 4, True, (1000, 1000)), ([232, 3, 232, 3], False, (1000, 1000))
if sys.byteorder != "little":
    sys.exit("This check was written for a little-endian machine.")
if found != {"NEAREST": right, "BILINEAR": wrong, "BICUBIC": wrong}:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: with interpolation the bytes are taken for pixels."
