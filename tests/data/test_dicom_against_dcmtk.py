"""The decoder against DCMTK: all files of pydicom and pydicom-data that it reads, and others made here."""

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGExtended12Bit

from pneumo_keras.data.pictures import load_image
from pneumo_keras.errors import DataError
from tests.data import dcmtk
from tests.data.dicom_files import build_dataset, build_table, save, save_big_endian

pytestmark = pytest.mark.skipif(bool(dcmtk.MISSING), reason=f"DCMTK's programs are missing: {dcmtk.MISSING}")

ALIKE = 1.5  # grey levels of 255
WIDE = 300  # values in a window where a step of one is no matter
READABLE = 139  # of the files of pydicom 3.0 and pydicom-data 1.0
EXCEPTIONS = {
    "SC_rgb_32bit.dcm": "DCMTK reads no colour of 32 bits",
    "SC_rgb_expb_32bit.dcm": "DCMTK reads no colour of 32 bits",
    "gdcm-US-ALOKA-16.dcm": "DCMTK reads no segmented palettes",
    "gdcm-US-ALOKA-16_big.dcm": "DCMTK reads no segmented palettes",
    "SC_rgb_jpeg.dcm": "its elements switch from explicit to implicit, which DCMTK does not follow",
}


def list_files():
    roots = [Path(pydicom.__file__).parent / "data"]
    roots += map(Path, importlib.util.find_spec("data_store").submodule_search_locations)
    return sorted(path for root in roots for path in root.rglob("*") if path.suffix in (".dcm", ""))


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
def test_every_readable_file_of_pydicom_looks_as_in_dcmtk(tmp_path):
    differences, refused = {}, set()
    for path in list_files():
        try:
            image = load_image(path)
        except DataError:
            continue
        try:
            shown = dcmtk.show(path, tmp_path, *dcmtk.choose_options(path))
        except dcmtk.RefusalError:
            refused.add(path.name)
            continue
        differences[path] = dcmtk.compare(image, shown)
    assert refused == set(EXCEPTIONS)
    assert len(differences) + len(refused) >= READABLE
    assert max(differences.values()) <= ALIKE, max(differences, key=lambda path: differences[path])


def draw_pixels(random):
    """Stored values of some bits, somewhere in words whose other bits are nobody's."""
    bits = int(random.choice([8, 10, 12, 14, 16]))
    allocated = 8 if bits == 8 and random.random() < 0.5 else 16
    signed, lowest = bool(random.random() < 0.3), 0
    values = random.integers(0, 2**bits, (16, 24))
    values[:2] = np.linspace(0, 2**bits - 1, 48).reshape(2, 24)
    shift = int(random.integers(0, allocated - bits + 1)) if random.random() < 0.4 else 0
    junk = random.integers(0, 2**allocated, values.shape) & ~((2**bits - 1) << shift)
    kind = f"{'i' if signed else 'u'}{allocated // 8}"
    words = ((values << shift) | junk).astype(f"u{allocated // 8}").view(kind)
    lowest = -(2 ** (bits - 1)) if signed else 0
    dataset = build_dataset(words, bits=bits)
    dataset.HighBit = bits - 1 + shift
    return dataset, lowest, lowest + 2**bits - 1


def draw_table(random, lowest, highest):
    entries = int(random.choice([16, 256, 1000, 4096, 65536]))
    first = int(random.integers(max(lowest, -(2**15)), max(min(highest, 2**15), lowest + 2)))
    bits = int(random.choice([8, 10, 12, 16]))
    kind = str(random.choice(["US", "OW", "packed"] if bits == 8 else ["US", "OW"]))
    if kind == "US" and entries * 2 >= 2**16:  # an element of this kind holds no more
        kind = "OW"
    rising = (np.linspace(0, 1, entries) ** random.uniform(0.5, 2) * (2**bits - 1)).round().astype(int)
    return build_table(rising[:: random.choice([1, -1])], first, bits=bits, kind=kind)


def draw_modality(random, dataset, lowest, highest):
    kind = random.choice(["none", "whole", "table", *(["fraction"] if highest - lowest > WIDE else [])])
    if kind == "table":
        dataset.ModalityLUTSequence = [draw_table(random, lowest, highest)]
        return 0, 2 ** dataset.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    if kind == "none":
        return lowest, highest
    slope = random.choice([-2, -1, 1, 2, 3]) if kind == "whole" else round(random.uniform(1, 4), 3)
    dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), str(random.integers(-2000, 2000))
    ends = [one * float(slope) + float(dataset.RescaleIntercept) for one in (lowest, highest)]
    return int(min(ends)), int(max(ends))


def draw_interest(random, dataset, lowest, highest):
    # DCMTK cuts fractions off: windows are to be wide then.
    fractions = "." in str(dataset.get("RescaleSlope", ""))
    kind = random.choice(["LINEAR", "LINEAR_EXACT", "SIGMOID", *([] if fractions else ["none", "table"])])
    narrowest = WIDE if fractions else 2
    if kind == "table":
        dataset.VOILUTSequence = [draw_table(random, lowest, highest)]
    elif kind != "none":
        dataset.WindowCenter = str(random.integers(lowest, highest))
        dataset.WindowWidth = str(random.integers(narrowest, highest - lowest))
        if kind != "LINEAR" or random.random() < 0.5:
            dataset.VOILUTFunction = str(kind)


def draw_dataset(seed):
    random = np.random.default_rng(seed)
    dataset, lowest, highest = draw_pixels(random)
    draw_interest(random, dataset, *draw_modality(random, dataset, lowest, highest))
    dataset.PhotometricInterpretation = str(random.choice(["MONOCHROME1", "MONOCHROME2"]))
    if random.random() < 0.3:
        dataset.PresentationLUTShape = str(random.choice(["IDENTITY", "INVERSE"]))
    return dataset


def encode(dataset, syntax, path):
    """Writes the file by the hand that knows the syntax."""
    if syntax == "big endian":
        path.write_bytes(save_big_endian(dataset))
    elif syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        path.write_bytes(save(dataset, syntax))
    else:
        plain = path.with_suffix(".plain.dcm")
        plain.write_bytes(save(dataset))
        subprocess.run([*syntax.split(), str(plain), str(path)], check=True, capture_output=True)


SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    "big endian",
    "dcmcrle",
    "dcmcjpls",
    "dcmcjpeg --encode-lossless-sv1",
)


@pytest.mark.parametrize(
    "seed", [*range(12), *(pytest.param(seed, marks=pytest.mark.system) for seed in range(12, 60))]
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
def test_grey_values_drawn_at_random_look_as_in_dcmtk(seed, tmp_path):
    dataset, path = draw_dataset(seed), tmp_path / "drawn.dcm"
    encode(dataset, SYNTAXES[seed % len(SYNTAXES)], path)
    options = dcmtk.choose_options(path)
    shown = dcmtk.show(path, tmp_path, *options)
    try:
        image = load_image(path)
    except DataError:
        image = None
    alike = image is None and np.ptp(shown) <= ALIKE  # refused for that reason
    assert alike or dcmtk.compare(image, shown) <= ALIKE, (options, dataset)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_jpeg_of_twelve_bits_looks_as_in_dcmtk(kind, tmp_path):
    steps = np.add.outer(np.arange(64) * 30, np.arange(80) * 25)
    dataset = build_dataset((steps - (2000 if kind is np.int16 else 0)).astype(kind), bits=12)
    path = tmp_path / "extended.dcm"
    encode(dataset, "dcmcjpeg --encode-extended", path)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEGExtended12Bit
    assert dcmtk.compare(load_image(path), dcmtk.show(path, tmp_path, dcmtk.FULL)) <= ALIKE
