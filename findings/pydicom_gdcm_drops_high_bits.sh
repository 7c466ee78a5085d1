#!/usr/bin/env bash
# pydicom with GDCM loses the two highest bits of a JPEG Lossless image with 14 bits below High Bit 15.
#
# Packages: pydicom 3.0.2, python-gdcm 3.2.6, numpy 2.4.6 (Python 3.11)
#
# Expected: where 14 bits are stored and High Bit is 15, the bits in use are the upper 14 of each 16-bit
#     word. (Older editions of DICOM allow that, and images so written are in archives.) So the array
#     should hold those bits, as words or shifted down. At least correct_unused_bits=False, which asks for
#     the words as they are, should keep them, as it does for the same image without compression.
# Instead: pydicom tells GDCM "14 bits stored, high bit 13", whatever High Bit says, and GDCM cuts off the
#     bits above: from a quarter of full brightness up, values start again at 0. Nothing is raised.
# Output seen (correct_unused_bits=False):
#     native: highest value 65520, words kept: True
#     1.2.840.10008.1.2.4.57: highest value 16368, words kept: False
#     1.2.840.10008.1.2.4.70: highest value 16368, words kept: False
# Why it matters: the bright parts of a chest image come out as dark noise, and a classifier judges them so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pydicom==3.0.2 python-gdcm==3.2.6 numpy==2.4.6

cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import gdcm
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pixel_array
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

WORDS = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)  # two lowest bits unused
ds = Dataset()
ds.file_meta = FileMetaDataset()
ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 64, 64, 1, "MONOCHROME2"
ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
ds.add_new("PixelData", "OW", WORDS.astype("<u2").tobytes())
ds.save_as("native", enforce_file_format=True)

for name, kind in ("57", "JPEGLosslessProcess14"), ("70", "JPEGLosslessProcess14_1"):
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName("native")
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(name)
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()

kept = []
for name in ("native", "57", "70"):
    assert np.array_equal(pixel_array(name), WORDS)  # 16 bits stored: the words come back whole
    image = dcmread(name)
    image.BitsStored = 14
    found = pixel_array(image, correct_unused_bits=False)
    kept.append(np.array_equal(found, WORDS))
    label = "native" if name == "native" else image.file_meta.TransferSyntaxUID
    print(f"{label}: highest value {found.max()}, words kept: {kept[-1]}")
if kept != [True, False, False] or not np.array_equal(found, WORDS & 0x3FFF):
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: GDCM's words lack their two highest bits."
