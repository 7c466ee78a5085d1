"""Pictures of where an image's log odds come from."""

import matplotlib
import numpy as np
from jaxtyping import Float32, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.reporting.formats import format_number
from pneumo_keras.reporting.plots import build_figure
from pneumo_keras.runs.run import ScoredImage

GreyImage = UInt8[np.ndarray, "height width"]
Evidence = Float32[np.ndarray, "_height _width"]
Painting = UInt8[np.ndarray, "edge edge 3"]

SHOWN_EDGE = 512  # pixels of an image that a picture shows, at most
COLOURS = "coolwarm"  # blue is below zero, red above
TITLE = 60  # characters of an image's name shown in a picture
LEAST_LIMIT = 10.0  # log odds, from one certainty to the other, so that weak evidence is drawn faintly
OPACITY = 0.65  # of all except faint colours: the image remains visible
LEGEND = "log odds relative to normal images\nif the whole image resembled this region"

CAVEAT = "The map shows what the classifier summed up, not where the disease is."


def draw_explanation(
    image: GreyImage,
    evidence: Evidence,
    *,
    base: float,
    scored: ScoredImage,
    title: str,
) -> Figure:
    """The image, and the same image with its map over it. 1,500 px wide.

    The image is square, 0 (black) to 255 (white); the evidence is log odds, positive for pneumonia, on a grid
    over the same square, and its mean is added to `base`.
    """
    side = "not above" if scored.prediction == CLASS_NAMES[0] else "above"
    score = format_number(scored.probability)
    result = f"score {score}, {side} the threshold {scored.threshold:.3g}: {scored.prediction}"
    warning = f"\nWarning: {scored.warning}" if scored.warning else ""
    name = title if len(title) <= TITLE else f"{title[:TITLE]}..."
    plot = build_figure(1500, 900, f"{name}\n{result}{warning}")
    plain, painted = plot.subplots(1, 2)
    limit = to_limit([evidence])
    plain.imshow(image, cmap="gray", vmin=0, vmax=255)
    painted.imshow(paint_evidence(image, evidence, limit=limit, edge=SHOWN_EDGE))
    mean = float(evidence.mean())
    summed = f"base {base:+.1f}, map {mean:+.1f} in its mean: log odds {base + mean:+.1f}"
    titles = ("the image", f"what the classifier summed up\n{summed}")
    for axes, name in zip((plain, painted), titles, strict=True):
        axes.set_title(name, fontsize=11)
        axes.set_axis_off()
    scale = ScalarMappable(Normalize(-limit, limit), matplotlib.colormaps[COLOURS])
    plot.colorbar(scale, ax=painted, shrink=0.8).set_label(LEGEND, fontsize=9)
    plot.supxlabel(CAVEAT, fontsize=8, color="#444444")
    return plot


def paint_evidence(image: GreyImage, evidence: Evidence, *, limit: float, edge: int) -> Painting:
    """An image with its map over it, `edge` pixels square; without evidence the image alone is seen.

    Log odds of `limit`, up or down, get the strongest colour.
    """
    smooth = Image.fromarray(evidence).resize((edge, edge), Image.Resampling.BICUBIC)
    share = np.clip(np.asarray(smooth) / limit, -1, 1)
    colours = matplotlib.colormaps[COLOURS]((share + 1) / 2)[..., :3]
    opacity = OPACITY * (1 - np.exp(-np.square(3 * share)))[..., None]  # no line where the sign changes
    shrunk = Image.Resampling.BOX if len(image) > edge else Image.Resampling.NEAREST
    grey = np.asarray(Image.fromarray(image).resize((edge, edge), shrunk))[..., None] / 255
    return np.rint(255 * (grey * (1 - opacity) + colours * opacity)).astype(np.uint8)


def to_limit(maps: list[Evidence]) -> float:
    """The log odds that get the strongest colour, for maps that are shown together."""
    return max([LEAST_LIMIT, *(float(np.abs(one).max()) for one in maps)])
