#!/usr/bin/env bash
# GDCM compresses a 12-bit image to a JPEG Extended stream of 16 bits, which other decoders refuse.
#
# Packages: python-gdcm 3.2.6, pydicom 3.0.2, imagecodecs 2026.3.6, numpy 2.4.6 (Python 3.11)
#
# Expected: ImageChangeTransferSyntax to JPEG Extended (1.2.840.10008.1.2.4.51, "Process 2 & 4") of a image
#     with 12 bits stored writes a JPEG frame of 12 bits, one of the two precisions the process has (8, 12).
# Instead: it takes Bits Allocated for the precision and writes 16 into the frame header. No step fails, and
#     GDCM reads its own file. pylibjpeg-libjpeg 2.5.0 and imagecodecs (libjpeg-turbo) refuse it.
# Output seen:
#     precision in the JPEG frame header: 16
#     GDCM: same pixels: True
#     imagecodecs: Jpeg8Error: Unsupported JPEG data precision 16
# Why it matters: an archive of chest images compressed in this way may be closed to readers without GDCM.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet python-gdcm==3.2.6 pydicom==3.0.2 imagecodecs==2026.3.6 numpy==2.4.6

cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import gdcm
import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

PIXELS = np.arange(64 * 64, dtype="<u2").reshape(64, 64)
ds = Dataset()
ds.file_meta = FileMetaDataset()
ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 64, 64, 1, "MONOCHROME2"
ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
ds.add_new("PixelData", "OW", PIXELS.tobytes())
ds.save_as("native.dcm", enforce_file_format=True)

reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
reader.SetFileName("native.dcm")
change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
writer.SetFileName("jpeg.dcm")
assert reader.Read()
change.SetInput(reader.GetImage())
writer.SetFile(reader.GetFile())
assert change.Change()
writer.SetImage(change.GetOutput())
assert writer.Write()
frame = get_frame(dcmread("jpeg.dcm").PixelData, 0, number_of_frames=1)
precision = frame[frame.index(b"\xff\xc1") + 4]
print("precision in the JPEG frame header:", precision)
reader.SetFileName("jpeg.dcm")
assert reader.Read()
own = np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"), "<u2")
print("GDCM: same pixels:", np.array_equal(own, PIXELS.ravel()))
try:
    answer = f"decoded {imagecodecs.jpeg8_decode(frame).dtype}"
except Exception as error:
    answer = f"{type(error).__name__}: {error}"
print("imagecodecs:", answer)
if precision != 16 or answer.startswith("decoded") or not np.array_equal(own, PIXELS.ravel()):
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: GDCM reads the frame it wrote, and imagecodecs refuses it."
