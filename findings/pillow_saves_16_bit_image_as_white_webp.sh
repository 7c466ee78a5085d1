#!/usr/bin/env bash
# Pillow saves a 16-bit picture as a "lossless" WebP file in which every pixel above 255 is white.
#
# Packages: Pillow 13.0.0, numpy 2.4.6 (Python 3.11)
#
# Expected: WebP holds 8 bits a channel, so saving a picture of mode "I;16" is refused, as Pillow refuses it
#     for JPEG and BMP, or the values are scaled to 8 bits.
# Instead: the picture is converted on the way and cut off at 255; lossless=True changes nothing in that.
#     A image of 1000 to 64000 is saved as an even white picture, and no error or warning is raised.
# Output seen:
#     PNG: lowest 1000, highest 64000
#     JPEG: OSError: cannot write mode I;16 as JPEG
#     BMP: OSError: cannot write mode I;16 as BMP
#     WEBP: lowest 255, highest 255
# Why it matters: whoever makes a data set of chest images smaller by saving it again as lossless WebP loses
#     the images, although the format was asked to lose nothing.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet Pillow==13.0.0 numpy==2.4.6

"$work/venv/bin/python" -W error - <<'PY'
import io
import sys

import numpy as np
from PIL import Image

picture = Image.fromarray(np.tile((np.arange(64) * 1000 + 1000).astype(np.uint16), (64, 1)))
assert picture.mode == "I;16"
found = {}
for name, options in (("PNG", {}), ("JPEG", {}), ("BMP", {}), ("WEBP", {"lossless": True})):
    file = io.BytesIO()
    try:
        picture.save(file, name, **options)
        pixels = np.asarray(Image.open(file))
        found[name] = f"lowest {pixels.min()}, highest {pixels.max()}"
    except OSError as error:
        found[name] = f"OSError: {error}"
    print(f"{name}: {found[name]}")

expected = {
    "PNG": "lowest 1000, highest 64000",
    "JPEG": "OSError: cannot write mode I;16 as JPEG",
    "BMP": "OSError: cannot write mode I;16 as BMP",
    "WEBP": "lowest 255, highest 255",
}
if found != expected:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: the WebP file is white throughout."
