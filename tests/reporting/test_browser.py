"""The report in a browser: on a phone, on a screen and on paper."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from pneumo_keras.data.sources import ImageNames
from pneumo_keras.evaluation.comparison import compare_figures
from pneumo_keras.evaluation.report_card import PerturbedEvaluation, evaluate
from pneumo_keras.reporting.report import PerturbedImages, format_report
from tests.images import build_phantom_images
from tests.reporting.test_report import CHILDREN, gather
from tests.robustness import build_robustness

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on this machine"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with all that a page can have, long names among it."""
    images = build_phantom_images(60, size=28, seed=2)
    labels, rng = images.labels, np.random.default_rng(0)
    scores = np.clip(0.3 + 0.35 * labels + 0.25 * rng.normal(size=60), 0.001, 0.999)
    columns = {"a_column_of_a_long_name": ["a value of several words", "x" * 60, ""] * 20}
    distances = np.where(np.arange(60) < 6, 1.7, 0.5)
    options = {"seed": 1, "columns": columns, "distances": distances}
    plain, perturbed = (
        evaluate(labels, one, 0.3, members=[one, one], **options) for one in (scores, 1 - scores)
    )
    changes = compare_figures(labels, scores, 1 - scores, first_threshold=0.5, second_threshold=0.5, seed=1)
    evaluation = replace(
        plain,
        stated_prevalence=0.1,
        perturbed=PerturbedEvaluation(
            **vars(perturbed), changes=changes, perturbation={}, robustness=build_robustness()
        ),
    )
    files = tuple(f"images/{'long_' * 20}{index}.png" for index in range(60))
    contents = gather(
        labels,
        scores,
        images=images.images,
        threshold=0.3,
        card=CHILDREN,
        names=ImageNames(files, tuple(f"patient{index}" * 4 for index in range(60))),
        evaluation=evaluation,
        evidence={index: np.ones((28, 28), np.float32) for index in range(60)},
        perturbed=PerturbedImages(1 - scores, images.images[:2]),
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(format_report(contents))
    return path.as_uri()


@pytest.fixture
def open_page(report):
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )

        def open_page(width, height=844):
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.goto(report)
            return page

        yield open_page
        chromium.close()


@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_the_page_never_scrolls_sideways(open_page, width):
    page = open_page(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_metrics_are_seen_without_scrolling(open_page):
    page = open_page(390)
    for name in ("AUC", "Accuracy", "Sensitivity", "Specificity"):
        tile = page.locator("dl.tiles div", has_text=re.compile(f"^{name}")).bounding_box()
        assert tile["y"] + tile["height"] < 844


def test_a_printed_page_is_black_on_white_and_no_figure_is_cut(open_page):
    page = open_page(700)  # about the width of A4 between its margins
    page.emulate_media(media="print")
    colours = page.evaluate(
        "[...document.querySelectorAll('body, .notice, .tiles div, thead th')].map(one => {"
        " const style = getComputedStyle(one); return [style.color, style.backgroundColor]; })"
    )
    assert {ink for ink, _ in colours} == {"rgb(0, 0, 0)"}
    assert {paper for _, paper in colours} <= {"rgb(255, 255, 255)", "rgba(0, 0, 0, 0)"}
    kept = "[...document.querySelectorAll('figure, table, .tiles')]"
    assert set(page.evaluate(f"{kept}.map(one => getComputedStyle(one).breakInside)")) == {"avoid"}
    heights = page.evaluate(f"{kept}.map(one => one.getBoundingClientRect().height)")
    assert max(heights) < 1000  # pixels of A4 between its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
