#!/usr/bin/env bash
# pydicom cannot read an empty LUT Data element from an implicit VR dataset, and can from an explicit one.
#
# Packages: pydicom 3.0.2 (Python 3.11)
#
# Expected: an element that is there but empty reads as None, whatever the transfer syntax.
# Instead: in Implicit VR Little Endian, where LUT Descriptor and LUT Data are both empty, touching
#     LUTData raises a TypeError from inside pydicom: to choose between US and OW it takes the first
#     value of the descriptor, which is None. str() and walk() of the whole dataset raise the same.
# Output seen:
#     explicit VR: LUTData is None
#     implicit VR: TypeError: 'NoneType' object is not subscriptable
# Why it matters: a query for images asks for a value in just this way (an empty key matches anything), and
#     some scanners write an empty VOI LUT item into chest images, though the standard wants values there;
#     a program that prints, walks or windows either stops with a message that does not name the cause.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pydicom==3.0.2

"$work/venv/bin/python" - <<'PY'
import io
import sys

from pydicom import dcmread
from pydicom.dataset import Dataset


def lut_data(implicit):
    """Write the identifier of a query, which has no file header, read it back and look."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", None)
    item.add_new("LUTExplanation", "LO", None)
    item.add_new("LUTData", "OW", None)
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.SOPInstanceUID = "1.2.3.4"
    query.VOILUTSequence = [item]
    file = io.BytesIO()
    query.save_as(file, implicit_vr=implicit, little_endian=True)
    file.seek(0)
    answer = dcmread(file, force=True)
    assert answer.QueryRetrieveLevel == "IMAGE" and answer.VOILUTSequence[0].LUTDescriptor is None
    try:
        return f"LUTData is {answer.VOILUTSequence[0].LUTData}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


explicit, implicit = lut_data(implicit=False), lut_data(implicit=True)
print("explicit VR:", explicit)
print("implicit VR:", implicit)
if explicit != "LUTData is None" or implicit != "TypeError: 'NoneType' object is not subscriptable":
    sys.exit("The behaviour has changed: see the lines above and those in the header.")
PY
echo "As described: the empty LUT Data raises a TypeError in implicit VR only."
