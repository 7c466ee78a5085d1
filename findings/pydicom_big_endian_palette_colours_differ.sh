#!/usr/bin/env bash
# pydicom gives other colours for a palette image when it is stored big endian.
#
# Packages: pydicom 3.0.2, numpy 2.4.6 (Python 3.11)
#
# Expected: one dataset written twice, as Explicit VR Little Endian and as Explicit VR Big Endian,
#     shows the same colours: a transfer syntax changes how numbers are stored, not what they are.
# Instead: apply_color_lut reads the 16-bit palette entries of the big-endian file in the byte order of
#     the machine, with the two bytes of each entry swapped. Nothing is raised. The pixels themselves
#     are read correctly, so only the colours are wrong.
# Output seen (on a little-endian machine):
#     little endian, red: [0, 256, 4660, 65280]
#     big endian, red:    [0, 1, 13330, 255]
# Why it matters: colour overlays and annotated X-rays stored as PALETTE COLOR come out nearly black from
#     old big-endian archives, and no warning tells a program that prepares training images.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pydicom==3.0.2 numpy==2.4.6

cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_color_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

PALETTE = [0, 0x0100, 0x1234, 0xFF00]


def red_values(syntax, order):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 1, 4, 1
    ds.PhotometricInterpretation = "PALETTE COLOR"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", np.array(PALETTE, order + "u2").tobytes())
    ds.add_new("PixelData", "OB", bytes([0, 1, 2, 3]))
    ds.save_as("image.dcm", enforce_file_format=True)
    image = dcmread("image.dcm")
    assert image.pixel_array.tolist() == [[0, 1, 2, 3]]
    return apply_color_lut(image.pixel_array, image)[0, :, 0].tolist()


little = red_values(ExplicitVRLittleEndian, "<")
big = red_values(ExplicitVRBigEndian, ">")
print("little endian, red:", little)
print("big endian, red:   ", big)
swapped = [0, 0x0001, 0x3412, 0x00FF]
if sys.byteorder != "little":
    sys.exit("This check was written for a little-endian machine.")
if little != PALETTE or big != swapped:
    sys.exit("The behaviour has changed: the big-endian palette no longer comes out with swapped bytes.")
PY
echo "As described: the big-endian palette comes out with its bytes swapped."
