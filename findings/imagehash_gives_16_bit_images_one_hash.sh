#!/usr/bin/env bash
# ImageHash gives two quite different 16-bit pictures the same hash, by every one of its usual methods.
#
# Packages: ImageHash 4.3.2, Pillow 13.0.0, numpy 2.4.6 (Python 3.11)
#
# Expected: a picture that brightens to the right and one that darkens downward have hashes far apart, as
#     their 8-bit copies have.
# Instead: each method first calls convert("L"), which in Pillow cuts a 16-bit picture off at 255 instead of
#     scaling it. Where no pixel is below 255, all become 255, and the hash is that of an even picture.
#     Nothing is raised or warned of: the distance is 0, "the same picture".
# Output seen:
#     average_hash: 0 apart at 16 bits, 32 at 8 bits
#     phash: 0 apart at 16 bits, 8 at 8 bits
#     dhash: 0 apart at 16 bits, 64 at 8 bits
#     whash: 0 apart at 16 bits, 32 at 8 bits
# Why it matters: a search for images that are in the training and in the test set calls 16-bit PNG images of
#     different patients copies of each other, and throws them out.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ImageHash==4.3.2 Pillow==13.0.0 numpy==2.4.6

"$work/venv/bin/python" - <<'PY'
import sys

import imagehash
import numpy as np
from PIL import Image

ramp = (np.arange(64) * 900 + 1000).astype(np.uint16)
images = [np.tile(ramp, (64, 1)), np.tile(ramp[::-1, None], (1, 64))]
deep = [Image.fromarray(image) for image in images]
shallow = [Image.fromarray((image >> 8).astype(np.uint8)) for image in images]
assert deep[0].mode == "I;16" and shallow[0].mode == "L"

changed = False
for name in ("average_hash", "phash", "dhash", "whash"):
    method = getattr(imagehash, name)
    at_16, at_8 = method(deep[0]) - method(deep[1]), method(shallow[0]) - method(shallow[1])
    print(f"{name}: {at_16} apart at 16 bits, {at_8} at 8 bits")
    changed |= at_16 != 0 or at_8 < 8

if changed:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: at 16 bits the two images have one hash."
