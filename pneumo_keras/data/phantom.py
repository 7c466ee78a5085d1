"""Phantom images: synthetic chest images, to try everything out without a download."""

import functools
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from pneumo_keras.arrays import SPLITS, Images, Labels
from pneumo_keras.data.images import Preparation, Rows
from pneumo_keras.data.phantom_drawing import draw_images, draw_patches
from pneumo_keras.data.sources import DataCard, DataOptions, DataSet
from pneumo_keras.errors import DataError
from pneumo_keras.runtime.seeds import derive_seeds

Patches = Float32[np.ndarray, "n size size"]

log = logging.getLogger("pneumo_keras")

# Part of the fingerprint: to be raised with every change of what is drawn.
GENERATOR_VERSION = 2

# Of the images that `data.source = "phantom"` means.
SOURCE_SEED = 0

# Below 16 pixels a rib is thinner than a pixel, and a faint opacity is one pixel.
MIN_SIZE = 16

# Every block holds its share, so that short sets are as imbalanced as long ones. Fifty is the
# smallest block that holds the default share, 0.74, without rounding.
LABEL_BLOCK = 50


@dataclass(frozen=True)
class PhantomImages:
    """Chest images with labels, in random order, drawn when they are read.

    Image i depends on the other arguments and on i, never on n: a longer set starts with the shorter
    one. The first two images are of different classes, so that every set has both.

    Attributes:
        n: ImageSet, at least 2.
        size: Height and width in pixels, at least 16.
        seed: At least 0.
        pneumonia_share: Share of images with pneumonia, in (0, 1). The default is that of
            PneumoniaMNIST.

    Raises:
        DataError: An attribute is out of its range.
    """

    n: int
    size: int
    seed: int
    pneumonia_share: float = 0.74

    def __post_init__(self) -> None:
        rules = (
            (self.n >= 2, "n must be at least 2, an image of each class", self.n),
            (self.size >= MIN_SIZE, f"size must be at least {MIN_SIZE} pixels", self.size),
            (self.seed >= 0, "seed must be at least 0", self.seed),
            (
                0 < self.pneumonia_share < 1,
                "pneumonia_share must lie between 0 and 1",
                self.pneumonia_share,
            ),
        )
        for holds, rule, value in rules:
            if not holds:
                raise DataError(f"Phantom images: {rule}. Received: {value}.")

    def __len__(self) -> int:
        return self.n

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.size

    def fingerprint(self) -> str:
        """SHA-256 of all that the pixels are made from: nothing needs to be drawn for it."""
        recipe = ("phantom", GENERATOR_VERSION, self.n, self.size, self.seed, float(self.pneumonia_share))
        return hashlib.sha256(repr(recipe).encode()).hexdigest()

    @property
    def labels(self) -> Labels:
        """Of all images."""
        return _draw_labels(self.n, self.seed, self.pneumonia_share)

    def read(self, rows: Rows) -> Images:
        """The images of these rows; whole blocks are drawn for them."""
        return self._read_blocks(rows, _draw_block, np.uint8)

    def read_patches(self, rows: Rows) -> Patches:
        """How much of the lung an opacity fills at each pixel of these images, in [0, 1]."""
        return self._read_blocks(rows, _draw_block_patches, np.float32)

    def _read_blocks(self, rows: Rows, draw: Callable[..., Any], kind: type[np.generic]) -> Any:
        indices = np.arange(self.n)[rows]
        planes = np.empty((len(indices), self.size, self.size), kind)
        blocks = indices // LABEL_BLOCK
        for block in np.unique(blocks).tolist():
            inside = blocks == block
            drawn = draw(self.size, self.seed, self.pneumonia_share, block)
            planes[inside] = drawn[indices[inside] % LABEL_BLOCK]
        return planes


def build_phantom_splits(counts: tuple[int, int, int], *, size: int, seed: int) -> dict[str, PhantomImages]:
    """The splits of a set of phantoms. No image of one stands in another, or in one of another seed.

    Args:
        counts: Images in train, val and test, each at least 2.
        size: Height and width in pixels, at least 16.
        seed: At least 0.

    Raises:
        DataError: An argument is out of its range.
    """
    seeds = derive_seeds(seed, count=len(SPLITS))
    return {
        split: PhantomImages(n, size, split_seed)
        for split, n, split_seed in zip(SPLITS, counts, seeds, strict=True)
    }


def open_images(options: DataOptions) -> DataSet:
    """The source `phantom`."""
    splits = build_phantom_splits(options.phantom_images, size=options.size, seed=SOURCE_SEED)
    card = DataCard(
        title=f"synthetic phantoms, {options.size} px",
        description="A program drew these images, and each label is the one that it was told to draw.",
        limits=(
            "It was trained and evaluated on synthetic images. The figures show that the machinery works, "
            "and say nothing about patients.",
        ),
        notice="",
        licence="",
        citation="",
        synthetic=True,
        medmnist_name=None,
        files={},
    )
    log.info("The images are %s", card.title)
    return DataSet(card, splits.__getitem__, lambda: Preparation(options.size))


def is_at_hand(options: DataOptions) -> bool:
    """Always: they are drawn."""
    return True


def _open_lot(seed: int, block: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(block,))


@functools.lru_cache(maxsize=len(SPLITS))
def _draw_labels(n: int, seed: int, share: float) -> Labels:
    blocks = range(-(-n // LABEL_BLOCK))
    labels = np.concatenate([_draw_block_labels(share, block, _open_lot(seed, block)) for block in blocks])
    labels.flags.writeable = False  # who asks next gets the same array
    return labels[:n]


def _draw_block_labels(share: float, block: int, lot: np.random.SeedSequence) -> Labels:
    start, end = np.rint(share * LABEL_BLOCK * np.array([block, block + 1]))
    sick = end - start if block else np.clip(end, 1, LABEL_BLOCK - 1)
    labels = np.random.default_rng(lot).permutation((np.arange(LABEL_BLOCK) < sick).astype(np.int64))
    if block == 0:
        other = np.flatnonzero(labels != labels[0])[0]
        labels[[1, other]] = labels[[other, 1]]
    return labels


@functools.lru_cache(maxsize=2)  # images read in their order meet a block twice at most
def _draw_block(size: int, seed: int, share: float, block: int) -> Images:
    return draw_images(*_open_block(size, seed, share, block))


def _draw_block_patches(size: int, seed: int, share: float, block: int) -> Patches:
    return draw_patches(*_open_block(size, seed, share, block))


def _open_block(
    size: int, seed: int, share: float, block: int
) -> tuple[Labels, int, list[np.random.Generator]]:
    """What a block is drawn from."""
    lot = _open_lot(seed, block)
    labels = _draw_block_labels(share, block, lot)
    return labels, size, [np.random.default_rng(part) for part in lot.spawn(4)]
