"""Files that mean no good: damaged, empty, huge, misnamed, with odd tags and odd names."""

import io
import os
import struct
import zlib

import numpy as np
import pydicom
from PIL import Image

from pneumo_keras.data.phantom import PhantomImages
from tests.data.dicom_files import build_dataset, save

NAMES = (
    "new\nline.png",
    "\x1b[2J\x1b[31mred.png",
    "<script>alert(1)<b>.png",
    'quo"te, and; comma.png',
    "=cmd|' .png",
    "\u202egnp.exe.png",
    "-rf.png",
)


def write_hostile_files(folder, n, seed=0):
    """Writes n files; the kinds take turns. Returns how many."""
    random = np.random.default_rng(seed)
    image = PhantomImages(2, 64, 3).read(slice(0, 1))[0]
    makers = [
        *(_damage(kind, image, random) for kind in _to_files(image)),
        _misname(image, random),
        _tag(image, random),
    ]
    written = _write_fixed(folder, image)
    for index in range(n - written):
        name, content = makers[index % len(makers)]()
        (folder / f"{index:04}-{name}").write_bytes(content)
    return n


def _to_files(image):
    picture = Image.fromarray(image)
    files = []
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP"):
        file = io.BytesIO()
        picture.save(file, kind)
        files.append((f"x.{kind.lower()}", file.getvalue()))
    return [*files, ("x.dcm", save(build_dataset(image)))]


def _damage(kind, image, random):
    name, whole = kind

    def make():
        content = bytearray(whole)
        if random.random() < 0.5:
            content = content[: random.integers(1, len(content))]
        for _ in range(random.integers(1, 20)):
            content[random.integers(len(content))] = random.integers(256)
        return name, bytes(content)

    return make


def _misname(image, random):
    png = _to_files(image)[0][1]
    kinds = [
        ("text.png", b"not a picture at all"),
        ("page.jpg", b"<html><script>alert(1)</script></html>"),
        ("image.dcm", png),
        ("image.txt", png),
        ("paper.tif", b"%PDF-1.7\n%\xe2\xe3"),
        ("archive.bmp", b"PK\x03\x04" + bytes(40)),
        ("mark only.dcm", bytes(128) + b"DICM"),
        ("mark and noise.dcm", bytes(128) + b"DICM" + random.bytes(400)),
        ("noise", random.bytes(1000)),
        ("picture.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ]
    return lambda: kinds[random.integers(len(kinds))]


ODD = {
    "Rows": (0, 1, 65535),
    "Columns": (0, 3, 65535),
    "BitsStored": (0, 1, 33, 65535),
    "BitsAllocated": (0, 7, 64),
    "SamplesPerPixel": (0, 2, 65535),
    "PixelRepresentation": (2, 65535),
    "PhotometricInterpretation": ("", "\x1b[31m", "YBR_ICT", "PALETTE COLOR", "RGB", "<b>"),
    "NumberOfFrames": ("0", "-1", "99999999"),
    "WindowWidth": ("0", "-5", "1e300"),
    "WindowCenter": ("1e300", "0"),
    "RescaleSlope": ("0", "1e308", "-1e308"),
    "RescaleIntercept": ("1e308",),
    "PatientName": ("\x1b[2J" * 50,),
}


def _tag(image, random):
    def make():
        dataset = build_dataset(
            image, RescaleSlope="1", RescaleIntercept="0", WindowCenter="128", WindowWidth="256"
        )
        for _ in range(random.integers(1, 4)):
            name = list(ODD)[random.integers(len(ODD))]
            try:
                if random.random() < 0.2 and name in dataset:
                    delattr(dataset, name)
                else:
                    setattr(dataset, name, ODD[name][random.integers(len(ODD[name]))])
            except (ValueError, OverflowError):
                continue  # pydicom itself would not write it
        try:
            return "tags.dcm", save(dataset)
        except Exception:  # noqa: BLE001 (pydicom refuses to write some)
            return "tags.dcm", save(build_dataset(image))[: random.integers(200, 400)]

    return make


def _write_fixed(folder, image):
    """Those that there is one of."""
    good = _to_files(image)[0][1]
    for name in NAMES:
        (folder / name).write_bytes(b"no image" if name.startswith("new") else good)
    (folder / "empty.png").touch()
    (folder / "bomb.png").write_bytes(build_png_bomb(30_000, 30_000))
    (folder / "bomb in time.png").write_bytes(build_png_bomb(7_000, 7_000))
    (folder / "text bomb.png").write_bytes(
        good[:-12] + build_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28)))
    )
    (folder / "inflating.dcm").write_bytes(build_deflated_dicom(image))
    (folder / "deep.dcm").write_bytes(build_deep_dicom(image))
    os.mkfifo(folder / "pipe.png")
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "nowhere.png").symlink_to("/nonexistent/image.png")
    (folder / "itself.png").symlink_to("itself.png")
    return len(NAMES) + 10


def build_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def build_png_bomb(width, height):
    packer = zlib.compressobj(1)
    row = bytes(width + 1)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(build_chunk(*part) for part in parts)


def split_dicom(image, **meta):
    """A DICOM file cut behind its meta information."""
    dataset = build_dataset(image)
    for name, value in meta.items():
        setattr(dataset.file_meta, name, value)
    file = save(dataset)
    start = file.index(b"DICM") + 4
    (length,) = struct.unpack_from("<I", file, start + 8)  # of what is behind this element
    return file[: start + 12 + length], file[start + 12 + length :]


def build_deflated_dicom(image):
    """Four gigabytes of zeros behind a small file."""
    head, _ = split_dicom(image, TransferSyntaxUID=pydicom.uid.DeflatedExplicitVRLittleEndian)
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = bytes(2**24)
    return head + b"".join(packer.compress(block) for _ in range(256)) + packer.flush()


def build_deep_dicom(image):
    """Twenty thousand sequences, each in the one before."""
    head, rest = split_dicom(image)
    sequence = b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return head + 20_000 * sequence + rest
