#!/usr/bin/env bash
# pydicom refuses a 12-bit JPEG Extended image because "GDCM does not support" it; GDCM decodes it exactly.
#
# Packages: pydicom 3.0.2, python-gdcm 3.2.6, imagecodecs 2026.3.6 (encodes the JPEG), numpy 2.4.6
#     (Python 3.11)
#
# Expected: with python-gdcm installed, pydicom reads what GDCM reads.
# Instead: for transfer syntax 1.2.840.10008.1.2.4.51 pydicom does not call GDCM unless 8 bits are stored,
#     and says that GDCM does not support the rest. gdcm.ImageReader reads the same file; each pixel is as
#     it was before compression. (On the way GDCM prints "Unsupported JPEG data precision 12", as it tries
#     its 8-bit decoder first.)
# Output seen:
#     pydicom: RuntimeError: Unable to decode as exceptions were raised by all available plugins:
#       gdcm: GDCM does not support 'JPEG Extended' for samples with 12-bit precision
#     gdcm: read, largest difference 0
# Why it matters: 12-bit JPEG Extended is the lossy form for X-ray images in older archives; the message
#     tells a user to give up, or to install one more decoder, with a working one at hand.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet \
    pydicom==3.0.2 python-gdcm==3.2.6 imagecodecs==2026.3.6 numpy==2.4.6

cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import gdcm
import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ComputedRadiographyImageStorage, JPEGExtended12Bit

PIXELS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
ds = Dataset()
ds.file_meta = FileMetaDataset()
ds.file_meta.TransferSyntaxUID = JPEGExtended12Bit
ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 64, 64, 1, "MONOCHROME2"
ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
jpeg = imagecodecs.jpeg8_encode(PIXELS, level=100, bitspersample=12)
ds.add_new("PixelData", "OB", encapsulate([jpeg]))
ds.save_as("image.dcm", enforce_file_format=True)

try:
    dcmread("image.dcm").pixel_array
    pydicom_says = "read"
except Exception as error:
    pydicom_says = f"{type(error).__name__}: {error}"
print("pydicom:", pydicom_says, flush=True)

reader = gdcm.ImageReader()
reader.SetFileName("image.dcm")
if not reader.Read():
    sys.exit("The behaviour has changed: GDCM no longer reads the image.")
raw = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
difference = np.abs(np.frombuffer(raw, "<u2").astype(int) - PIXELS.ravel()).max()
print("gdcm: read, largest difference", difference)
if "GDCM does not support 'JPEG Extended' for samples with 12-bit precision" not in pydicom_says or difference > 0:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: pydicom refuses what GDCM decodes."
