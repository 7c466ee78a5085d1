#!/usr/bin/env bash
# pydicom 3.0.2 with gdcm 3.2.6 refuses JPEG Extended of 12 bits, which gdcm reads.
#
# Input: pydicom's own test file JPEG-lossy.dcm (transfer syntax 1.2.840.10008.1.2.4.51, 12 bits).
# Expected: pixel_array, since the only decoder plugin that is installed, gdcm, can decode the file.
# Seen: pydicom raises, gdcm by itself gives an image; asked for as JPEG Lossless the same frame decodes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pydicom==3.0.2 pydicom-data==1.1.0 python-gdcm==3.2.6 numpy==2.2.6
"$work/venv/bin/python" - <<'PYTHON'
import gdcm
import pydicom
from pydicom.data import get_testdata_file

path = str(get_testdata_file("JPEG-lossy.dcm"))
dataset = pydicom.dcmread(path)
print(dataset.file_meta.TransferSyntaxUID.name, dataset.BitsStored, "bits")
try:
    dataset.pixel_array
    refused = False
except Exception as error:
    refused = True
    print("pydicom:", str(error)[:300])
reader = gdcm.ImageReader()
reader.SetFileName(path)
assert reader.Read(), "gdcm does not read the file any more"
image = reader.GetImage()
print("gdcm:", [image.GetDimension(axis) for axis in range(2)], image.GetPixelFormat().GetBitsStored(), "bits")
assert image.GetBuffer(), "gdcm does not decode the pixels any more"
assert refused, "pydicom decodes the file now"
PYTHON
