#!/usr/bin/env bash
# Pillow makes no pixel transparent in a grey PNG of 2 or 4 bits that names a transparent level.
#
# Packages: Pillow 13.0.0 (Python 3.11)
#
# Expected: a grey PNG whose tRNS chunk names one level comes out of convert("RGBA") with alpha 0 at the
#     pixels of that level, at every bit depth, as it does at 1 and 8 bits.
# Instead: at 2 and 4 bits the pixels are scaled to 0..255 when they are read, but info["transparency"]
#     stays in the units of the file (0..3 or 0..15). No scaled pixel has that value, so nothing becomes
#     transparent, without an error. Only level 0 works, being 0 in both units.
# Output seen (transparent level: the brightest):
#     1 bits: info 255, transparent columns [1]
#     2 bits: info 3, transparent columns []
#     4 bits: info 15, transparent columns []
#     8 bits: info 255, transparent columns [255]
# Why it matters: masked-out borders of small grey X-ray pictures stay in the picture as bright pixels, and
#     a network is trained or asked on them.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet Pillow==13.0.0

"$work/venv/bin/python" - <<'PY'
import io
import struct
import sys
import zlib

from PIL import Image


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def ramp(bits, transparent):
    """A PNG of one row that holds every level of its depth once, in order."""
    levels = "".join(f"{level:0{bits}b}" for level in range(2**bits)).ljust(8, "0")
    row = int(levels, 2).to_bytes(len(levels) // 8, "big")
    return b"".join([
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", struct.pack(">IIBBBBB", 2**bits, 1, bits, 0, 0, 0, 0)),
        chunk(b"tRNS", struct.pack(">H", transparent)),
        chunk(b"IDAT", zlib.compress(b"\0" + row)),
        chunk(b"IEND", b""),
    ])


found = {}
for bits in (1, 2, 4, 8):
    picture = Image.open(io.BytesIO(ramp(bits, 2**bits - 1)))
    alpha = picture.convert("RGBA").getchannel("A").tobytes()
    found[bits] = (picture.info["transparency"], [at for at, value in enumerate(alpha) if value == 0])
    print(f"{bits} bits: info {found[bits][0]}, transparent columns {found[bits][1]}")

if found != {1: (255, [1]), 2: (3, []), 4: (15, []), 8: (255, [255])}:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: at 2 and 4 bits nothing becomes transparent."
