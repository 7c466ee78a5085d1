import numpy as np
import pytest
from PIL import Image

from pneumo_keras.reporting.explanations import (
    CAVEAT,
    draw_explanation,
    paint_evidence,
    to_limit,
)
from pneumo_keras.reporting.plots import save_plot
from pneumo_keras.runs.run import ScoredImage

IMAGE = np.full((28, 28), 100, np.uint8)


def build_evidence(**places):
    evidence = np.zeros((28, 28), np.float32)
    evidence[5:10, 5:10], evidence[18:23, 18:23] = places.get("above", 0), places.get("below", 0)
    return evidence


def draw(evidence, score=0.731, warning="", title="image.png"):
    scored = ScoredImage("images/image.png", score, 0.5, warning)
    return draw_explanation(IMAGE, evidence, base=-4.0, scored=scored, title=title)


def test_what_speaks_for_pneumonia_is_red_and_against_it_blue():
    painting = paint_evidence(IMAGE, build_evidence(above=10, below=-10), limit=10, edge=28).astype(int)
    red, _, blue = painting[7, 7]
    assert red > blue + 60
    red, _, blue = painting[20, 20]
    assert blue > red + 60
    assert painting[0, 27].tolist() == [100] * 3  # no evidence, nothing but the image


def test_faint_evidence_looks_faint():
    tints = [
        np.ptp(paint_evidence(IMAGE, build_evidence(above=above), limit=10, edge=28)[7, 7].astype(int))
        for above in (0.5, 2, 10)
    ]
    assert tints[0] < 5 < 10 < tints[1] < 50 < tints[2]


@pytest.mark.parametrize("size", [28, 224, 700])
def test_a_painting_has_the_size_asked_for_and_shows_the_image(size):
    image = np.zeros((size, size), np.uint8)
    image[: size // 2] = 200
    painting = paint_evidence(image, build_evidence(), limit=10, edge=512)
    assert painting.shape == (512, 512, 3)
    assert painting[100, 100].tolist() == [200] * 3 and painting[400, 100].tolist() == [0] * 3


def test_colours_are_the_same_for_maps_that_are_shown_together():
    strong, weak = build_evidence(above=30), build_evidence(below=-2)
    assert to_limit([strong, weak]) == 30
    assert to_limit([weak]) == to_limit([]) == 10


def test_the_picture_says_what_the_score_is_made_of_and_what_the_map_is_not(tmp_path):
    evidence = np.full((28, 28), 5.0, np.float32)
    plot = draw(evidence)
    said = " ".join(
        [plot.get_suptitle(), plot.get_supxlabel(), *(axes.get_title() for axes in plot.axes)]
    ).replace("\n", " ")
    for words in (
        "image.png score 0.731, above the threshold 0.5: pneumonia",
        "base -4.0, map +5.0 in its mean: log odds +1.0",
        CAVEAT,
    ):
        assert words in said
    bar = plot.axes[-1]
    assert bar.get_ylim() == (-10, 10) and "log odds" in bar.get_ylabel()
    save_plot(plot, tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.size == (1500, 900)


def test_an_image_below_the_threshold_is_not_called_above_it():
    plot = draw(build_evidence(), score=0.5, title="x" * 100)
    assert plot.get_suptitle() == f"{'x' * 60}...\nscore 0.500, not above the threshold 0.5: normal"


def test_an_image_that_is_warned_about_is_not_to_be_believed():
    plot = draw(build_evidence(), warning="outside the range of the training images (1.2 x the limit)")
    assert plot.get_suptitle().endswith("Warning: outside the range of the training images (1.2 x the limit)")


@pytest.mark.parametrize("title", [r"$\frac$.png", "胸部.png"])
def test_a_name_is_neither_mathematics_nor_a_warning(title, tmp_path):
    save_plot(draw(build_evidence(), title=title), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 10_000
