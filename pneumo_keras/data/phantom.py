"""Phantom images: synthetic chest images, to try everything out without a download.

An image is drawn in coordinates of the chest: x and y run from about -1 to 1 across the image, y downwards,
the patient's left at positive x as on any chest image. Densities run from 0 (air, black) to 1 (white).

The label sets one number of an image, the severity of its opacities. Pose, exposure, anatomy and noise do not
depend on it, so nothing else predicts the label, and the classes overlap.

Drawing needs only sums, products, quotients and square roots, which IEEE 754 fixes to the last bit, so that
the same seed draws the same bytes on every machine.
"""

import functools
import hashlib
import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from pneumo_keras.arrays import SPLITS, Images, Labels
from pneumo_keras.data.images import Preparation, Rows
from pneumo_keras.data.sources import DataCard, DataOptions, DataSet
from pneumo_keras.errors import DataError
from pneumo_keras.runtime.seeds import derive_seeds

Plane = Float64[np.ndarray, "size size"]

log = logging.getLogger("pneumo_keras")

GENERATOR_VERSION = 4  # part of the fingerprint: raised with every change of what is drawn
SOURCE_SEED = 0  # of the images that `data.source = "phantom"` means
MIN_SIZE = 16  # pixels: below, a rib is thinner than a pixel
# Labels come in blocks of one prevalence, so that short sets are as imbalanced as long ones. Fifty is the
# smallest block that has the default, 0.74, without rounding.
LABEL_BLOCK = 50
# Least and greatest severity, by label. The overlap decides how hard the images are: benign haze against
# opacities from barely visible to plain. Chosen so that the configuration `demo`, whose network is random,
# reaches an AUC near 0.90, not 1.
SEVERITY = (0.00, 0.22), (0.18, 1.00)
SPOTS = 4  # opacities of an image: more would merge into one
FILLED_LUNG = 0.66  # density: as the heart, whose border disappears behind it


@dataclass(frozen=True)
class PhantomImages:
    """Chest images with labels, in random order, drawn when they are read.

    A longer set starts with the shorter one. The first two images are of different classes.

    Attributes:
        n: Images, at least 2.
        size: Height and width in pixels, at least 16.
        seed: At least 0.
        prevalence: Share of pneumonia, in (0, 1). The default is that of PneumoniaMNIST.

    Raises:
        DataError: There are too few images, or they are too small.
    """

    n: int
    size: int
    seed: int
    prevalence: float = 0.74

    def __post_init__(self) -> None:
        if self.n < 2 or self.size < MIN_SIZE:
            raise DataError(
                f"Phantom images must be at least 2, of at least {MIN_SIZE} px. "
                f"Received: {self.n} of {self.size} px."
            )

    def __len__(self) -> int:
        return self.n

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.size

    def fingerprint(self) -> str:
        """SHA-256 of all that the pixels are made from."""
        recipe = ("phantom", GENERATOR_VERSION, self.n, self.size, self.seed, float(self.prevalence))
        return hashlib.sha256(repr(recipe).encode()).hexdigest()

    @property
    def labels(self) -> Labels:
        """Labels of all images."""
        return _draw_labels(self.n, self.seed, self.prevalence)

    def read(self, rows: Rows) -> Images:
        """The images of these rows."""
        indices = np.arange(self.n)[rows]
        images = np.empty((len(indices), *self.shape), np.uint8)
        for at, index in enumerate(indices.tolist()):
            images[at] = self._draw(index)[0]
        return images

    def read_patches(self, rows: Rows) -> Float64[np.ndarray, "n size size"]:
        """How much of the lung an opacity fills at each pixel, in [0, 1], without the haze of both lungs."""
        return np.stack([self._draw(index)[1] for index in np.arange(self.n)[rows].tolist()])

    def _draw(self, index: int) -> tuple[np.ndarray, Plane]:
        random = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(index, 1)))
        return _draw_chest(int(self.labels[index]), self.size, random)


def build_phantom_splits(counts: tuple[int, int, int], *, size: int, seed: int) -> dict[str, PhantomImages]:
    """Train, val and test of so many phantoms, without a common image; see `PhantomImages`."""
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
        description="A program drew these images, each for its label.",
        limits=(
            "It was trained and evaluated on synthetic images. The results show that the software works, "
            "and do not apply to patients.",
        ),
        synthetic=True,
    )
    log.info("The images are %s", card.title)
    return DataSet(card, splits.__getitem__, lambda: Preparation(options.size))


@functools.lru_cache(maxsize=len(SPLITS))
def _draw_labels(n: int, seed: int, prevalence: float) -> Labels:
    ends = np.rint(prevalence * LABEL_BLOCK * np.arange(-(-n // LABEL_BLOCK) + 1))
    pneumonia = np.diff(ends)
    pneumonia[0] = np.clip(pneumonia[0], 1, LABEL_BLOCK - 1)
    blocks = [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,))).permutation(
            (np.arange(LABEL_BLOCK) < count).astype(np.int64)
        )
        for number, count in enumerate(pneumonia)
    ]
    labels = np.concatenate(blocks)
    other = np.flatnonzero(labels != labels[0])[0]
    labels[[1, other]] = labels[[other, 1]]
    labels.flags.writeable = False  # it is cached
    return labels[:n]


def _draw_chest(label: int, size: int, random: np.random.Generator) -> tuple[np.ndarray, Plane]:
    """An image, and how much of the lung an opacity fills at each of its pixels."""

    def draw(low: float, high: float) -> float:
        return low + (high - low) * random.random()

    # Pose: the chest is never perfectly centred or upright.
    axis = (np.arange(size) + 0.5) * (2 / size) - 1
    across, down = axis[None, :] - draw(-0.10, 0.10), axis[:, None] - draw(-0.16, 0.08)
    zoom, sine = draw(0.74, 1.02), draw(-0.10, 0.10)
    cosine = np.sqrt(1 - sine * sine)
    x, y = (cosine * across + sine * down) * zoom, (cosine * down - sine * across) * zoom
    aside, edge = np.abs(x), max(0.10, 6 / size)  # three pixels at least, or edges turn into stairs

    # Anatomy: a deep or shallow breath, a small or large heart, ribs that soft exposures hide.
    width, middle = draw(0.78, 0.92), draw(0.14, 0.21)
    cage = np.sqrt((x / width) ** 2 + ((y - 0.45) / 1.22) ** 2)  # 1 on the inner chest wall
    below_dome = y - (draw(0.36, 0.58) + 0.04 * x + 0.7 * (aside - 0.38) ** 2)
    heart = np.sqrt((x - 0.13) ** 2 + 0.8 * (y - 0.30 - 0.3 * x) ** 2)
    lung = _rise(1 - cage, edge) * _rise(-below_dome, edge)
    lung *= _rise(aside - middle - 0.5 * np.maximum(-0.45 - y, 0), edge)
    lung *= 1 - 0.9 * _rise(draw(0.28, 0.44) - heart, edge)
    tissue = 0.54 + 0.12 * _rise(0.45 - aside, 0.70) + 0.14 * _rise(below_dome, 0.30)
    tissue += 0.09 * _rise(middle - aside, 0.16)
    ribs = (y - 0.4 * aside**2) / draw(0.17, 0.22) + draw(0, 1)
    bones = draw(0.03, 0.13) * _bump(7 * (ribs - np.rint(ribs)) ** 2) * _rise(1.02 - cage, 0.10)
    bones *= (1 - 0.8 * _rise(below_dome, 0.20)) * (0.3 + 0.7 * _rise(aside - middle, 0.15))
    bones += 0.10 * _bump(((cage - 1.04) / 0.12) ** 2) * _rise(0.5 - y, 0.40)  # chest wall
    bones += 0.11 * _bump(((y - draw(-0.70, -0.52) + 0.28 * (aside - 0.1)) / 0.07) ** 2)  # clavicles
    body = np.maximum(_rise(y + 0.90 - 0.35 * aside**2, 0.25), _rise(0.30 - aside, 0.15))
    body *= _rise(width + 0.22 - aside, 0.08)

    # What fills the lungs: vessels in every image, opacities in spots and as a haze by severity.
    hila = _bump(((aside - 0.26) / 0.30) ** 2 + ((y - 0.05) / 0.45) ** 2)
    vessels = draw(0.05, 0.30) * hila + draw(0.05, 0.25) * _draw_texture(23, size, random)
    severity = draw(*SEVERITY[label])
    spots = np.zeros((size, size))
    for _ in range(SPOTS):
        left, top = (0.28 + draw(0, 0.38)) * (1 if draw(-1, 1) > 0 else -1), draw(-0.40, 0.40)
        squared = ((x - left) / draw(0.20, 0.50)) ** 2 + ((y - top) / draw(0.20, 0.55)) ** 2
        spots = np.maximum(spots, np.sqrt(_bump(squared)) * draw(0.4, 1))
    opacities = severity * spots * (1 - draw(0.20, 0.80) * _draw_texture(7, size, random))
    air = draw(0.18, 0.29)
    filled = air + (FILLED_LUNG - air) * np.minimum(severity * draw(0.05, 0.50) + opacities + vessels, 1)

    # Exposure: grey levels of whole images differ more between machines than between the classes.
    gain, offset, curve, grain = draw(0.84, 1.02), draw(-0.03, 0.08), draw(-0.30, 0.30), draw(0.01, 0.05)
    density = 0.12 + (tissue + lung * (filled - tissue) + bones - 0.12) * body
    density += grain * (random.random((size, size)) - 0.5)
    grey = np.clip(density * gain + offset, 0, 1)
    grey += curve * grey * (1 - grey)
    return np.rint(255 * grey).astype(np.uint8), opacities * lung


def _draw_texture(cells: int, size: int, random: np.random.Generator) -> Plane:
    """Random values on a square grid of so many cells across, blended in between; in [0, 1]."""
    position = (np.arange(size) + 0.5) * ((cells - 1) / size)
    cell = position.astype(np.int64)
    blend = _rise(position - cell - 0.5, 1.0)
    grid = random.random((cells, cells))
    rows = grid[cell] * (1 - blend[:, None]) + grid[cell + 1] * blend[:, None]
    return rows[:, cell] * (1 - blend) + rows[:, cell + 1] * blend


def _rise(distance: np.ndarray, width: float) -> np.ndarray:
    """From 0 to 1 over `width` about distance 0, without a kink."""
    t = np.clip(distance / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _bump(squared: np.ndarray) -> np.ndarray:
    """From 1 at distance 0 to 0 at distance 1, without a kink; takes squared distances."""
    t = np.maximum(1 - squared, 0)
    return t * t
