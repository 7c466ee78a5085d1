"""DICOM files shown by DCMTK, as the second opinion."""

import shutil
import subprocess

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import pixel_array
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

PROGRAMS = "dcm2pnm", "dcmj2pnm", "dcml2pnm"
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
FULL = "--no-windowing"
LUMINANCE = 0.299, 0.587, 0.114


class RefusalError(Exception):
    """DCMTK shows nothing; says why."""


def show(path, folder, *options):
    """Grey values in 0..255 with fractions; None of the elements that the options name is looked for here."""
    syntax = find_syntax(path)
    program = PROGRAMS[0]
    if syntax in JPEG2000TransferSyntaxes:  # Debian's has no codec for it
        path = decompress(path, folder)
    elif syntax in JPEGLSTransferSyntaxes:
        program = PROGRAMS[2]
    elif syntax in JPEGTransferSyntaxes:
        program = PROGRAMS[1]
    out = folder / "shown.pnm"
    header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    # DCMTK scales values of few bits to 16 by a shift, so that white would be grey.
    bits = header.BitsStored if FULL in options and "RescaleSlope" not in header else 16
    command = [program, "--no-overlays", "--write-n-bit-pnm", str(bits), *options, str(path), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RefusalError(done.stderr.strip())
    kind, size, white, values = out.read_text().split("\n", 3)
    width, height = map(int, size.split())
    shown = np.array(values.split(), float) * (255 / int(white))
    if kind == "P2":
        return shown.reshape(height, width)
    return shown.reshape(height, width, 3) @ LUMINANCE


def choose_options(path):
    """What makes DCMTK choose as the product does: first table, else first window, else the full range."""
    dataset = pydicom.dcmread(path, force=True)
    if dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        return ()
    tables = dataset.get("VOILUTSequence") or []
    if any("LUTData" in item and len(item.get("LUTDescriptor") or []) == 3 for item in tables):
        return ("--use-voi-lut", "1")
    centers, widths = (to_list(dataset.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    usable = [
        index
        for index, pair in enumerate(zip(centers, widths, strict=False), 1)
        if pair[0] is not None and pair[1]
    ]
    if not usable:
        return (FULL,)
    if dataset.get("VOILUTFunction") == "LINEAR_EXACT":  # unknown to DCMTK 3.6.7
        return ("--set-window", f"{float(centers[0]) + 0.5}", f"{float(widths[0]) + 1}")
    return ("--use-window", "1")


def to_list(value):
    values = value if isinstance(value, pydicom.multival.MultiValue) else [value]
    return [None if one in (None, "") else float(one) for one in values]


def compare(image, shown):
    """The largest difference in grey levels; images of other pixels are brought to the same."""
    if image.size != shown.shape[::-1]:
        shown = np.asarray(
            Image.fromarray(shown.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
        )
    return float(np.abs(np.asarray(image, np.float64) - shown).max())


def find_syntax(path):
    meta = getattr(pydicom.dcmread(path, force=True, stop_before_pixels=True), "file_meta", {})
    return meta.get("TransferSyntaxUID", "")


def decompress(path, folder):
    dataset = pydicom.dcmread(path)
    # Not by Dataset.decompress, which pydicom 3.0.2 fails to do for J2K_pixelrep_mismatch.dcm.
    dataset.PixelData = pixel_array(dataset, raw=True).tobytes()
    dataset["PixelData"].VR = "OW"
    if dataset.SamplesPerPixel > 1:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(folder / "decompressed.dcm")
    return folder / "decompressed.dcm"
