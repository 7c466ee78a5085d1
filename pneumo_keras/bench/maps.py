"""Whether maps show what they claim to: held against known opacities, and by taking away what they show."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy.ndimage import binary_dilation, gaussian_filter

from pneumo_keras.arrays import Images

Planes = Float[np.ndarray, "n height width"]

DENSE = 0.25  # of the densest place of an image's opacities: what is denser counts as opacity
BLOB = 0.08  # standard deviation of random blobs, as a share of the image's edge: as smooth as maps are


@dataclass(frozen=True)
class PointingGame:
    """How often a map's highest point lies on an opacity.

    Attributes:
        images: How many.
        hits: Share of the images whose highest point lies on one, in [0, 1].
        chance: The same of a point drawn at random: the mean share of an image that opacities take.
    """

    images: int
    hits: float
    chance: float


@dataclass(frozen=True)
class Deletion:
    """How log odds change when a part of each image is replaced by an average normal image.

    Attributes:
        images: How many.
        share: Of each image that is replaced.
        highest: Mean change where the image's own map is highest.
        others: Where the map of another image is.
        random: In random blobs.
        errors: Standard errors of these three.
    """

    images: int
    share: float
    highest: float
    others: float
    random: float
    errors: tuple[float, float, float]


def play_pointing_game(evidence: Planes, patches: Planes) -> PointingGame:
    """Holds maps against opacities that are known.

    Args:
        evidence: A map of each image.
        patches: How dense the opacities of each image are at each pixel.

    References:
        Zhang, J. et al. (2016). Top-down neural attention by excitation backprop. ECCV: the pointing game,
        with a tolerance, here of a pixel.
    """
    opacities = patches >= DENSE * patches.max(axis=(1, 2), keepdims=True)
    near = np.array([binary_dilation(one) for one in opacities]).reshape(len(patches), -1)
    highest = evidence.reshape(len(evidence), -1).argmax(axis=1)
    hits = near[np.arange(len(near)), highest]
    return PointingGame(len(near), float(hits.mean()), float(near.mean()))


def measure_deletion(
    images: Images,
    evidence: Planes,
    fill: Float[np.ndarray, "height width"],
    compute_log_odds: Callable[[Images], Float64[np.ndarray, " n"]],
    *,
    share: float = 0.1,
    seed: int = 0,
) -> Deletion:
    """Takes away what maps show, and the same amount elsewhere.

    Args:
        images: Of pneumonia, in an order that has nothing to do with what they show.
        evidence: A map of each.
        fill: An average normal image.
        compute_log_odds: Log odds of images.
        share: Of each image that is replaced.
        seed: Of the random blobs.

    References:
        Petsiuk, V. et al. (2018). RISE. BMVC: deletion.
    """
    noise = np.random.default_rng(seed).normal(size=evidence.shape)
    blobs = gaussian_filter(noise, (0, *(BLOB * edge for edge in evidence.shape[1:])))
    before = compute_log_odds(images)
    changes = [
        compute_log_odds(np.where(choose_highest(planes, share), fill.round(), images).astype(np.uint8))
        - before
        for planes in (evidence, np.roll(evidence, len(images) // 2, axis=0), blobs)
    ]
    means = [float(change.mean()) for change in changes]
    first, second, third = (float(change.std(ddof=1) / np.sqrt(len(images))) for change in changes)
    return Deletion(len(images), share, *means, errors=(first, second, third))


def choose_highest(planes: Planes, share: float) -> Bool[np.ndarray, "n height width"]:
    """The pixels of each plane with the highest values.

    Args:
        planes: Of any values.
        share: Of the pixels that are chosen, in (0, 1).
    """
    flat = planes.reshape(len(planes), -1)
    count = round(share * flat.shape[1])
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    chosen = np.zeros(flat.shape, bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen.reshape(planes.shape)
