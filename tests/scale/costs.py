"""What an image costs before and behind the network, on one core: the measured part of docs/scale.md.

`python -m tests.scale.costs` in the root of the checkout, on a quiet machine.
"""

import io
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from pneumo_keras.data.decoding import Decoders
from pneumo_keras.data.images import Preparation
from pneumo_keras.features.store import CHUNK
from pneumo_keras.storage.chunked_array import ChunkedArray

WIDTH = 2592  # features of an image in configs/default.toml
IMAGES = 100_000
SECONDS = 5.0  # of each measurement of decoding


def main() -> None:
    logging.disable()
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        say("| what | bytes an image | ms an image, one core |\n| --- | --- | --- |")
        for name, content in draw_files().items():
            seconds = measure_decoding(content, Path(folder))
            say(f"| read, decoded and shrunk to 224 px: {name} | {len(content):,} | {1000 * seconds:.2f} |")
        write, read = measure_store(Path(folder))
        size = WIDTH * 4
        say(f"| features written, with checksum | {size:,} | {1000 * write:.4f} |")
        say(f"| features found whole and read | {size:,} | {1000 * read:.4f} |")
        say(f"| one epoch of the head | {size:,} | {1000 * measure_head(Path(folder)):.4f} |")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def draw_files() -> dict[str, bytes]:
    """An image of ribs and noise in the formats and sizes in which images come."""
    return {
        "PNG, 224 px": to_png(draw_image(224, 224, 8)),
        "PNG, 1024 px": to_png(draw_image(1024, 1024, 8)),
        "JPEG, 2500 x 2048": to_jpeg(draw_image(2500, 2048, 8)),
        "PNG of 16 bits, 2500 x 2048": to_png(draw_image(2500, 2048, 16)),
        "DICOM of 16 bits, 2500 x 2048, not compressed": to_dicom(draw_image(2500, 2048, 16)),
    }


def draw_image(height: int, width: int, bits: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / max(height, width)
    grey = 0.5 + 0.2 * np.cos(40 * y + 6 * (x - 0.5) ** 2) - 0.6 * (x - 0.5) ** 2
    grey = (grey + rng.normal(0, 0.01, grey.shape)).clip(0, 1)
    return (grey * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def to_png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def to_jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


def to_dicom(image: np.ndarray) -> bytes:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = image.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = image.tobytes()
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def measure_decoding(content: bytes, folder: Path) -> float:
    """Seconds an image where `predict` decodes: in a process that can be stopped, which hands images back."""
    file = folder / "image"
    file.write_bytes(content)

    def draw_paths(until: float):
        while time.perf_counter() < until:
            yield str(file)

    with Decoders(Preparation(224), workers=1) as decoders:
        for _ in decoders.decode([str(file)] * 20):
            pass
        started = time.perf_counter()
        images = sum(image.image is not None for image in decoders.decode(draw_paths(started + SECONDS)))
        return (time.perf_counter() - started) / images


def measure_store(folder: Path) -> tuple[float, float]:
    """Seconds an image to write features, and to find them whole and read them."""
    array = ChunkedArray(folder / "features.npy", (IMAGES, WIDTH), "<f4", CHUNK)
    features = np.random.default_rng(0).normal(size=(CHUNK, WIDTH)).astype(np.float32)
    started = time.perf_counter()
    array.allocate()
    for chunk in range(array.count):
        array.write(chunk, features)
    written = time.perf_counter()
    assert array.find_missing() == []
    np.load(array.file, mmap_mode="r").sum(dtype=np.float64)
    return (written - started) / IMAGES, (time.perf_counter() - written) / IMAGES


def measure_head(folder: Path) -> float:
    """Seconds an image and epoch that the head of configs/default.toml takes, its features on disk."""
    from pneumo_keras.runtime.backend import start_backend

    start_backend(folder / "cache")
    from pneumo_keras.features.store import FeatureTable
    from pneumo_keras.model.head import build_head
    from pneumo_keras.training import batches
    from pneumo_keras.training.batches import Batches
    from pneumo_keras.training.fit import FitConfig, fit

    batches.IN_MEMORY = 0
    table = FeatureTable({"mixed5": folder / "features.npy"}, IMAGES)
    labels = np.arange(IMAGES) % 2
    head = build_head(WIDTH, moments=None, hidden_units=128, dropout=0.1, outputs=1, seeds=[0])
    few = FeatureTable({"mixed5": folder / "features.npy"}, CHUNK)

    def run(epochs: int) -> float:
        started = time.perf_counter()
        fit(
            head,
            Batches([table], labels, batch_size=256, seed=0),
            Batches([few], labels[:CHUNK], batch_size=CHUNK, seed=None),
            FitConfig("adamw", "cosine", epochs, 0.2, 2, [2e-3], [0.1]),
            class_weights=None,
        )
        return time.perf_counter() - started

    first = run(1)
    return (run(4) - first) / (3 * IMAGES)


if __name__ == "__main__":
    main()
