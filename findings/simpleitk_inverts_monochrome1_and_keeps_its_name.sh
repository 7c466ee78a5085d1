#!/usr/bin/env bash
# SimpleITK inverts the pixels of a MONOCHROME1 image and still says that it is MONOCHROME1.
#
# Packages: SimpleITK 2.5.7, pydicom 3.0.2, numpy 2.4.6 (Python 3.11)
#
# Expected: ReadImage gives the stored values after rescaling, as for MONOCHROME2, with the tag (0028,0004) by which
#     one knows that the lowest is to be shown white; or inverted values and MONOCHROME2.
# Instead: the values are subtracted from the highest that the stored bits can hold, then rescaled; the tag remains
#     MONOCHROME1. A stored 0 of slope 2 and intercept -100 is 8090 instead of -100. No warning is given.
# Output seen (12 bits stored, values 0, 1000, 4095):
#     MONOCHROME2: pydicom 0, 1000, 4095, SimpleITK 0, 1000, 4095
#     MONOCHROME1: pydicom 0, 1000, 4095, SimpleITK 4095, 3095, 0, still MONOCHROME1
#     MONOCHROME1, slope 2, intercept -100: pydicom -100, 1900, 8090, SimpleITK 8090, 6090, -100, still MONOCHROME1
# Why it matters: many chest X-rays are MONOCHROME1. Code that inverts them by their tag, right with pydicom, gives a
#     classifier negatives with SimpleITK, and the window centers in the file no longer fit.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6

cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import SimpleITK
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_rescale
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

PIXELS = np.array([[0, 1000, 4095]], "<u2")


def write(path, photometric, slope, intercept):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 3, 1, photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept = str(slope), str(intercept)
    ds.add_new("PixelData", "OW", PIXELS.tobytes())
    ds.save_as(path, enforce_file_format=True)


found = {}
for name, photometric, slope, intercept in (
    ("MONOCHROME2", "MONOCHROME2", 1, 0),
    ("MONOCHROME1", "MONOCHROME1", 1, 0),
    ("MONOCHROME1, slope 2, intercept -100", "MONOCHROME1", 2, -100),
):
    write("image.dcm", photometric, slope, intercept)
    ds = dcmread("image.dcm")
    by_pydicom = apply_rescale(ds.pixel_array, ds).astype(int).ravel().tolist()
    image = SimpleITK.ReadImage("image.dcm")
    by_simpleitk = SimpleITK.GetArrayFromImage(image).astype(int).ravel().tolist()
    tag = image.GetMetaData("0028|0004").strip()
    found[name] = (by_pydicom, by_simpleitk, tag)
    texts = [", ".join(map(str, values)) for values in (by_pydicom, by_simpleitk)]
    print(f"{name}: pydicom {texts[0]}, SimpleITK {texts[1]}" + ", still MONOCHROME1" * (tag == "MONOCHROME1"))

stored, inverted, rescaled, other = [0, 1000, 4095], [4095, 3095, 0], [-100, 1900, 8090], [8090, 6090, -100]
if list(found.values()) != [
    (stored, stored, "MONOCHROME2"),
    (stored, inverted, "MONOCHROME1"),
    (rescaled, other, "MONOCHROME1"),
]:
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: the pixels are inverted, and the tag is not."
