"""How a phantom image is drawn: a synthetic chest image, its label and lots for all that is random.

An image is drawn from its anatomy in coordinates of the chest: x and y run from about -1 to 1 across
the image, y downwards, the patient's left at positive x as on any chest image. Densities run from
0 (air, black) to 1 (white).

The label sets one number of an image, the severity of its opacities. Pose, exposure, anatomy and
noise know nothing of it, so there is no short cut to the answer, and the classes overlap.

Drawing needs only sums, products, quotients and square roots, which IEEE 754 fixes to the last bit,
so that the same NumPy draws the same bytes on every machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from pneumo_keras.arrays import Images, Labels

Plane = Float32[np.ndarray, "n size size"]
Trait = Float32[np.ndarray, "n 1 1"]

# One plane of a batch takes 1 MB: it stays in the processor's cache, and memory stays small.
BATCH_PIXELS = 2**18

# Least and greatest severity, by label. The overlap decides how hard the images are: benign haze
# against opacities from barely visible to plain. Chosen so that logistic regression on 600 images of
# 28 pixels, seen through an InceptionV3 of random weights, reaches an AUC near 0.90, not 1.
SEVERITY = ((0.00, 0.22), (0.18, 1.00))

# More opacities would merge into one.
SPOTS = 4

# Cells across the image: clouds as wide as a segment of a lobe, strands as wide as a vessel.
CLOUD_CELLS, STRAND_CELLS = 7, 23

# Densities, matched by eye to the mean images of PneumoniaMNIST. Each but the first two adds to what
# lies in front of it, as absorption does. Filled lung looks like heart: its border disappears.
BACKGROUND, FILLED_LUNG = 0.12, 0.66
FLANK, MIDDLE, BELLY, MEDIASTINUM = 0.54, 0.12, 0.14, 0.09
CHEST_WALL, CLAVICLE, SPINE = 0.10, 0.11, 0.04

# Where the traits of an image may lie: lengths in chest coordinates, the rest densities or factors.
RANGES: Mapping[str, tuple[float, float]] = {
    # pose: image and chest never quite meet, and children turn
    "shift_x": (-0.10, 0.10),
    "shift_y": (-0.16, 0.08),
    "zoom": (0.74, 1.02),
    "tilt": (-0.10, 0.10),
    # exposure: grey levels of whole images differ more between machines than between the classes
    "gain": (0.84, 1.02),
    "offset": (-0.03, 0.08),
    "curve": (-0.30, 0.30),
    "grain": (0.01, 0.05),
    # thorax: a deep or shallow breath, a small or large heart
    "cage_width": (0.78, 0.92),
    "air": (0.18, 0.29),
    "dome": (0.36, 0.58),
    "mediastinum": (0.14, 0.21),
    "heart_size": (0.28, 0.44),
    # bones: soft exposures hide the ribs, hard ones show little else
    "rib_phase": (0.00, 1.00),
    "rib_spacing": (0.17, 0.22),
    "rib_density": (0.03, 0.13),
    "clavicle": (-0.70, -0.52),
    # vessels: harmless, and in the way
    "hilum": (0.05, 0.30),
    "strands": (0.05, 0.25),
    # opacities: spread over both lungs or gathered in spots, even or patchy
    "haze": (0.05, 0.50),
    "patchiness": (0.20, 0.80),
}


@dataclass(frozen=True)
class Chest:
    """Chest coordinates of the pixels of a batch, with what was drawn by lot for each image."""

    x: Plane
    y: Plane
    edge: float
    traits: Mapping[str, Trait]
    clouds: Plane
    strands: Plane


def draw_images(labels: Labels, size: int, lots: Sequence[np.random.Generator]) -> Images:
    """Draws an image for each label.

    Args:
        labels: What the images are to show.
        size: Height and width in pixels.
        lots: Four, for traits, textures, opacities and grain. Each gives an image after the other its
            share, so that an image is the same in whichever batch it is drawn.
    """
    images = np.empty((len(labels), size, size), np.uint8)
    batch = max(1, BATCH_PIXELS // size**2)
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        images[part] = _draw_batch(labels[part], size, lots)
    return images


def draw_patches(labels: Labels, size: int, lots: Sequence[np.random.Generator]) -> Plane:
    """Where the images that `draw_images` draws of the same lots show opacities.

    Args:
        labels: As there.
        size: As there.
        lots: As there, in the same state.

    Returns:
        How much of the lung an opacity fills at each pixel, in [0, 1]. Without the haze that goes with it,
        which lies on the whole of both lungs.
    """
    *chest_lots, opacity_lot, _ = lots
    chest = _draw_chest(len(labels), size, chest_lots)
    severity, patches = _draw_severity(chest, labels, opacity_lot)
    return severity * patches * _to_lung_share(chest)


def _draw_batch(labels: Labels, size: int, lots: Sequence[np.random.Generator]) -> Images:
    *chest_lots, opacity_lot, grain_lot = lots
    chest = _draw_chest(len(labels), size, chest_lots)
    air = chest.traits["air"]
    filled = _to_filling(chest, *_draw_severity(chest, labels, opacity_lot))
    lungs = air + (FILLED_LUNG - air) * filled
    density = _to_tissue(chest)
    density += _to_lung_share(chest) * (lungs - density)
    density += _to_bones(chest)
    density = BACKGROUND + (density - BACKGROUND) * _to_body_share(chest)
    grain = grain_lot.random(density.shape, np.float32) - 0.5
    return _to_grey(density + grain * chest.traits["grain"], chest)


def _draw_chest(n: int, size: int, lots: Sequence[np.random.Generator]) -> Chest:
    trait_lot, texture_lot = lots
    low, high = np.array(list(RANGES.values()), np.float32).T
    drawn = low + (high - low) * trait_lot.random((n, len(RANGES)), np.float32)
    traits = {name: drawn[:, i, None, None] for i, name in enumerate(RANGES)}
    cells = texture_lot.random((n, CLOUD_CELLS**2 + STRAND_CELLS**2), np.float32)
    clouds, strands = np.split(cells, [CLOUD_CELLS**2], axis=1)
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x = axis[None, None, :] - traits["shift_x"]
    y = axis[None, :, None] - traits["shift_y"]
    sine = traits["tilt"]
    cosine = np.sqrt(1 - sine**2)
    return Chest(
        x=(cosine * x + sine * y) * traits["zoom"],
        y=(cosine * y - sine * x) * traits["zoom"],
        edge=max(0.10, 6 / size),  # three pixels at least, or edges turn into stairs
        traits=traits,
        clouds=_to_texture(clouds, CLOUD_CELLS, size),
        strands=_to_texture(strands, STRAND_CELLS, size),
    )


def _to_texture(values: Float32[np.ndarray, "n cells"], across: int, size: int) -> Plane:
    """Random values on a square grid, blended in between; in [0, 1]."""
    grid = values.reshape(-1, across, across)
    place = (np.arange(size, dtype=np.float32) + 0.5) * ((across - 1) / size)
    cell = place.astype(np.int64)
    blend = _rise(place - cell.astype(np.float32) - 0.5, 1.0)
    rows = grid[:, cell] * (1 - blend[:, None]) + grid[:, cell + 1] * blend[:, None]
    return rows[:, :, cell] * (1 - blend) + rows[:, :, cell + 1] * blend


def _rise(distance: np.ndarray, width: float) -> np.ndarray:
    """From 0 to 1 over `width` about distance 0, without a kink."""
    t = np.clip(distance / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _bump(squared: np.ndarray) -> np.ndarray:
    """From 1 at distance 0 to 0 at distance 1, without a kink; takes squared distances."""
    t = np.maximum(1 - squared, 0)
    return t * t


def _to_dome(chest: Chest) -> Plane:
    """Where the diaphragm lies; the right side is higher, the liver being below it."""
    return chest.traits["dome"] + 0.04 * chest.x + 0.7 * (np.abs(chest.x) - 0.38) ** 2


def _to_cage(chest: Chest) -> Plane:
    """Distance from the middle of the thorax; 1 on the inner chest wall."""
    across = chest.x / chest.traits["cage_width"]
    down = (chest.y - 0.45) / 1.22
    return np.sqrt(across**2 + down**2)


def _to_tissue(chest: Chest) -> Plane:
    aside = np.abs(chest.x)
    density = FLANK + MIDDLE * _rise(0.45 - aside, 0.70)
    density += BELLY * _rise(chest.y - _to_dome(chest), 0.30)
    return density + MEDIASTINUM * _rise(chest.traits["mediastinum"] - aside, 0.16)


def _to_lung_share(chest: Chest) -> Plane:
    """What is lung: inside the cage, above the diaphragm, beside mediastinum and heart."""
    x, y, trait = chest.x, chest.y, chest.traits
    middle = trait["mediastinum"] + 0.5 * np.maximum(-0.45 - y, 0)
    heart = np.sqrt((x - 0.13) ** 2 + 0.8 * (y - 0.30 - 0.3 * x) ** 2)
    share = _rise(1 - _to_cage(chest), chest.edge)
    share *= _rise(np.abs(x) - middle, chest.edge)
    share *= _rise(_to_dome(chest) - y, chest.edge)
    return share * (1 - 0.9 * _rise(trait["heart_size"] - heart, chest.edge))


def _to_bones(chest: Chest) -> Plane:
    x, y, trait = chest.x, chest.y, chest.traits
    aside, cage = np.abs(x), _to_cage(chest)
    turns = (y - 0.4 * aside**2) / trait["rib_spacing"] + trait["rib_phase"]
    ribs = trait["rib_density"] * _bump(7 * (turns - np.rint(turns)) ** 2)
    ribs *= _rise(1.02 - cage, 0.10) * (1 - 0.8 * _rise(y - _to_dome(chest), 0.20))
    ribs *= 0.3 + 0.7 * _rise(aside - trait["mediastinum"], 0.15)
    wall = CHEST_WALL * _bump(((cage - 1.04) / 0.12) ** 2) * _rise(0.5 - y, 0.40)
    rising = trait["clavicle"] - 0.28 * (aside - 0.1)
    clavicles = CLAVICLE * _bump(((y - rising) / 0.07) ** 2) * _rise(aside - 0.10, 0.10)
    return ribs + wall + clavicles + SPINE * _bump((x / 0.12) ** 2)


def _to_body_share(chest: Chest) -> Plane:
    aside = np.abs(chest.x)
    shoulders = _rise(chest.y + 0.90 - 0.35 * aside**2, 0.25)
    flanks = _rise(chest.traits["cage_width"] + 0.22 - aside, 0.08)
    return np.maximum(shoulders, _rise(0.30 - aside, 0.15)) * flanks


def _draw_severity(chest: Chest, labels: Labels, lot: np.random.Generator) -> tuple[Trait, Plane]:
    """How severe the opacities of each image are, and where they lie: patches from 0 to 1."""
    drawn = lot.random((len(labels), 1 + 6 * SPOTS), np.float32)[:, :, None, None]
    low, high = np.array(SEVERITY, np.float32)[labels, :, None, None].swapaxes(0, 1)
    severity = low + (high - low) * drawn[:, 0]
    spots = [_to_spot(chest, spot) for spot in np.split(drawn[:, 1:], SPOTS, axis=1)]
    return severity, np.maximum.reduce(spots) * (1 - chest.traits["patchiness"] * chest.clouds)


def _to_filling(chest: Chest, severity: Trait, patches: Plane) -> Plane:
    """How full the lungs are, in [0, 1]: of vessels in every image, of opacities by severity."""
    trait = chest.traits
    hila = _bump(((np.abs(chest.x) - 0.26) / 0.30) ** 2 + ((chest.y - 0.05) / 0.45) ** 2)
    vessels = trait["hilum"] * hila + trait["strands"] * chest.strands
    return np.minimum(severity * (trait["haze"] + patches) + vessels, 1)


def _to_spot(chest: Chest, drawn: Float32[np.ndarray, "n 6 1 1"]) -> Plane:
    """One ellipse of opacity in either lung, with a soft border."""
    side, across, down, width, height, strength = np.moveaxis(drawn, 1, 0)
    x = np.where(side < 0.5, -1, 1).astype(np.float32) * (0.28 + 0.38 * across)
    y = -0.40 + 0.80 * down
    squared = ((chest.x - x) / (0.20 + 0.30 * width)) ** 2
    squared += ((chest.y - y) / (0.20 + 0.35 * height)) ** 2
    return np.sqrt(_bump(squared)) * (0.4 + 0.6 * strength)


def _to_grey(density: Plane, chest: Chest) -> Images:
    trait = chest.traits
    grey = np.clip(density * trait["gain"] + trait["offset"], 0, 1)
    grey += trait["curve"] * grey * (1 - grey)
    return np.rint(255 * grey).astype(np.uint8)
