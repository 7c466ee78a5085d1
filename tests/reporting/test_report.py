import base64
import hashlib
import importlib.resources
import io
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.config import change_config, load_config
from pneumo_keras.data.images import count_classes
from pneumo_keras.data.sources import DataCard, ImageNames
from pneumo_keras.evaluation.calibration import Calibration, to_reliability_bins
from pneumo_keras.evaluation.comparison import compare_figures
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.report_card import (
    Evaluation,
    PerturbedEvaluation,
    evaluate,
    evaluate_at,
    to_member_figures,
)
from pneumo_keras.evaluation.threshold import choose_operating_point
from pneumo_keras.reporting import report
from pneumo_keras.reporting.explanations import CAVEAT
from pneumo_keras.reporting.plots import (
    draw_precision_recall,
    draw_reliability,
    draw_threshold_curve,
)
from pneumo_keras.reporting.report import PerturbedImages, ReportContents, format_report
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.run import Run
from tests.images import ImageArray, build_phantom_images
from tests.robustness import build_robustness

PLOTS = (
    "loss",
    "accuracy",
    "confusion",
    "roc",
    "precision_recall",
    "reliability",
    "scores",
    "thresholds",
)
ENVIRONMENT = {
    "pneumo_keras": "0.1.0",
    "revision": None,
    "packages": {"keras": "3.15.1"},
    "weights_sha256": "d4" * 32,
    "images": {"train": {"sha256": "f1" * 32, "labels_sha256": "a2" * 32, "class_counts": [166, 474]}},
    "class_weights": {"0": 1.92771, "1": 0.67511},
}

PHANTOMS = DataCard(
    title="synthetic phantoms, 28 px",
    description="A program drew these images.",
    limits=("It was trained and evaluated on synthetic images.",),
    notice="",
    licence="",
    citation="",
    synthetic=True,
    medmnist_name=None,
    files={},
)
CHILDREN = DataCard(
    title="mine.npz, 28 px",
    description="Chest images of children.",
    limits=("The images are of children from one hospital.", "Labels are no proven diagnoses."),
    notice="Not the official file: the figures cannot be compared with published ones.",
    licence="CC BY 4.0",
    citation="@article{one}",
    synthetic=False,
    medmnist_name=None,
    files={"mine.npz": "c3" * 32},
)
CALIBRATION = Calibration(
    slope=1.0,
    intercept=0.0,
    method="none",
    fitted_on="val",
    prevalence=0.5,
    error_before=0.05,
    error_after=0.05,
)
HISTORY = [
    {
        "epoch": epoch,
        "loss": 1 / epoch,
        "val_loss": 1.1 / epoch,
        "accuracy": 0.8,
        "val_accuracy": 0.7,
        "kept": float(epoch == 3),
    }
    for epoch in (1.0, 2.0, 3.0)
]
SETTINGS = {"training.schedule": "plateau", "model.weights": "none"}


def gather(labels, scores, *, threshold=0.5, images=None, **changes):
    if images is None:
        images = np.random.default_rng(1).integers(0, 256, (len(labels), 20, 24), dtype=np.uint8)
    contents = ReportContents(
        name="demo",
        run=Run(
            folder=RunFolder(Path("demo")),
            config=change_config(load_config("demo"), SETTINGS),
            operating_point=choose_operating_point(
                labels, scores, rule="fixed", chosen_on="val", threshold=threshold
            ),
            calibration=CALIBRATION,
            history=HISTORY,
            environment=ENVIRONMENT,
        ),
        split="test",
        date="2026-11-23",
        card=PHANTOMS,
        images=ImageArray(images, labels),
        names=ImageNames(),
        scores=scores,
        evaluation=Evaluation(
            **vars(evaluate_at(labels, scores, threshold, resamples=50, seed=1)),
            at_half=evaluate_at(labels, scores, 0.5, resamples=50, seed=1),
            members={},
        ),
        evidence={},
        settings="seed = 42\n",
    )
    return change(contents, **changes)


def change(contents, of_config=None, **changes):
    """The same contents with other settings of the run, or other parts of the run, or of the contents."""
    run, of_run = contents.run, {field.name for field in fields(Run)}
    run = replace(run, **{name: changes.pop(name) for name in set(changes) & of_run})
    if of_config:
        run = replace(run, config=change_config(run.config, of_config))
    return replace(contents, run=run, **changes)


@pytest.fixture(scope="module")
def drawn():
    """Sixty phantom images with scores that tell the classes apart, though not always."""
    images = build_phantom_images(60, size=28, seed=2)
    rng = np.random.default_rng(0)
    return images, np.clip(0.3 + 0.35 * images.labels + 0.25 * rng.normal(size=60), 0.001, 0.999)


@pytest.fixture(scope="module")
def contents(drawn):
    images, scores = drawn
    return gather(images.labels, scores, images=images.images)


@pytest.fixture(scope="module")
def page(contents):
    return format_report(contents)


@pytest.fixture
def without_plots(monkeypatch):
    """Plots take a second or two, and most tests are about words."""
    monkeypatch.setattr(report, "draw_plots", lambda contents: dict.fromkeys(PLOTS, "data:,"))


class Elements(HTMLParser):
    """The page as tags with their attributes, and its text without style sheets."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.skipped = [], [], False
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.skipped = tag == "style"

    def handle_endtag(self, tag):
        self.skipped = False

    def handle_data(self, data):
        if not self.skipped:
            self.words.append(data)

    def list_images(self):
        return [attrs for tag, attrs in self.tags if tag == "img"]


def decode(uri):
    return base64.b64decode(uri.partition(",")[2])


def test_every_picture_is_inside_the_page_and_described(page):
    arrays = Elements(page).list_images()
    plots = [image for image in arrays if image["src"].startswith("data:image/svg+xml;base64,")]
    images = [image for image in arrays if image["src"].startswith("data:image/png;base64,")]
    assert len(plots) == len(PLOTS)
    assert images
    assert len(plots) + len(images) == len(arrays)
    assert all(image["alt"] for image in arrays)
    assert len({image["src"] for image in plots}) == len(PLOTS)


def test_the_page_loads_nothing_from_outside_and_runs_nothing(page):
    elements = Elements(page)
    assert {tag for tag, _ in elements.tags} & {"script", "link", "iframe", "object", "base", "form"} == set()
    for _, attrs in elements.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "style", "onload"):
            assert attrs.get(name, "data:").startswith("data:")
    (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert not re.search(r"url\(|@import|https?:", style)
    for image in elements.list_images():
        if "svg" in image["src"][:20]:
            links = re.findall(rb'href="([^"]*)"', decode(image["src"]))
            assert all(link.startswith((b"#", b"data:")) for link in links)


def test_a_browser_is_told_to_load_nothing(page):
    (policy,) = [attrs["content"] for _, attrs in Elements(page).tags if "http-equiv" in attrs]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_same_contents_give_the_same_bytes(contents, page):
    assert format_report(contents) == page


def test_nothing_but_the_given_date_tells_when_the_page_was_made(contents, without_plots):
    another = format_report(replace(contents, date="another day"))
    assert another.replace("another day", contents.date) == format_report(contents)


def test_everything_put_in_is_escaped(contents, without_plots):
    evil = '<script>alert("1")</script>&\''
    images = {"train": {"sha256": evil, "labels_sha256": evil, "class_counts": [1, 2]}}
    texts = dict.fromkeys(("title", "description", "notice", "licence", "citation"), evil)
    page = format_report(
        change(
            contents,
            {"model.weights": evil},
            name=evil,
            date=evil,
            card=replace(PHANTOMS, **texts, limits=(evil,), files={evil: evil}),
            environment={**ENVIRONMENT, evil: {evil: evil}, "images": images},
            operating_point=replace(contents.run.operating_point, rule="youden", demand={}, chosen_on=evil),
            settings=evil,
        )
    )
    elements = Elements(page)
    assert "<script" not in page
    assert elements.text.count(evil) >= 19
    (title,) = re.findall("<title>(.*?)</title>", page)
    assert title == "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;&#39;: test images"


def test_every_figure_stands_with_its_interval_and_method(contents, page):
    text = Elements(page).text
    for figure in contents.evaluation.figures.values():
        assert f"{figure.value:.3f} {figure.low:.3f} to {figure.high:.3f} {figure.method}" in text


def test_a_page_of_few_images_says_which_intervals_are_too_short(drawn, without_plots):
    images, scores = drawn
    chosen = np.concatenate([np.flatnonzero(images.labels == label)[:8] for label in (0, 1)])
    few = gather(images.labels[chosen], scores[chosen], images=images.images[chosen])
    words = "Few images (8 normal, 8 pneumonia): the 95 % intervals of Brier loss, log loss contained"
    assert words in Elements(format_report(few)).text


def test_the_operating_point_and_one_half_stand_side_by_side_where_they_differ(drawn, page, without_plots):
    images, scores = drawn
    both = gather(images.labels, scores, images=images.images, threshold=0.3)
    text = Elements(format_report(both)).text
    assert "At 0.3, the operating point value and 95 % interval At 0.5 value and 95 %" in text
    for name in ("accuracy", "sensitivity", "f1_normal"):
        at_point, at_half = both.evaluation.figures[name], both.evaluation.at_half.figures[name]
        assert (
            f"{at_point.value:.3f} {at_point.low:.3f} to {at_point.high:.3f} "
            f"{at_half.value:.3f} {at_half.low:.3f} to {at_half.high:.3f} {at_point.method}"
        ) in text
    assert "At 0.5, the operating point value and 95 % interval Method" in Elements(page).text


def test_counts_stand_in_words(drawn, without_plots):
    images, scores = drawn
    both = gather(images.labels, scores, images=images.images, threshold=0.3)
    text = Elements(format_report(both)).text
    run, half = both.evaluation.counts, both.evaluation.at_half.counts
    assert f"predicts pneumonia for {run.tp} of {run.tp + run.fn} pneumonia images" in text
    assert f"and normal for {run.tn} of {run.tn + run.fp} normal images" in text
    assert f"Normal, predicted normal tn {run.tn} {half.tn} " in text
    assert f"Normal, predicted pneumonia (false positives) fp {run.fp} {half.fp} " in text
    assert f"Pneumonia, predicted normal (false negatives) fn {run.fn} {half.fn} " in text
    assert f"Pneumonia, predicted pneumonia tp {run.tp} {half.tp} " in text


def test_what_is_undefined_is_a_dash(drawn, without_plots):
    images, scores = drawn
    never = gather(images.labels, scores, images=images.images, threshold=1.0)
    text = Elements(format_report(never)).text
    assert "correct among the predictions of pneumonia (PPV) - - " in text
    assert "revision - " in text
    assert not re.search(r"\b(nan|None)\b", text)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("label", [0, 1])
def test_images_of_one_class_get_a_report_too(label):
    labels = np.full(12, label, dtype=np.int64)
    text = Elements(format_report(gather(labels, np.linspace(0.05, 0.95, 12)))).text
    assert "AUC - 95 % interval: -" in text
    assert text.count("Undefined: all images are of one class.") == 2 and "upper left" not in text
    assert not re.search(r"\bnan\b", text)


def test_the_pictures_of_mistakes_are_those_images(without_plots):
    labels = np.repeat(np.array([1, 0], dtype=np.int64), 15)
    scores = np.concatenate([np.linspace(0.01, 0.8, 15), np.linspace(0.2, 0.99, 15)])
    contents = gather(labels, scores)
    shown = [image for image in Elements(format_report(contents)).list_images() if "png" in image["src"][:20]]
    assert len(shown) == 16
    for image, index in zip(shown, [*range(8), *range(29, 21, -1)], strict=True):
        label = "pneumonia" if labels[index] else "normal"
        assert image["alt"] == f"Synthetic image {index}, labelled {label}, score {scores[index]:.3f}"
        pixels = np.asarray(Image.open(io.BytesIO(decode(image["src"]))))
        np.testing.assert_array_equal(pixels, contents.images.images[index])


def test_mistakes_are_called_by_their_files_and_patients_where_these_are_known(without_plots):
    labels = np.array([1, 1, 1, 0], dtype=np.int64)
    files = ("a<b>&'\n.png", "/home/me/b.png", "val/c.png", "d.png")
    names = ImageNames(files, ("<i>12", "", "13", ""))
    page = format_report(gather(labels, np.full(4, 0.4), names=names))
    assert "<b>&" not in page and "<i>12" not in page and "/home/me" not in page
    alts = [image["alt"] for image in Elements(page).list_images() if "png" in image["src"][:20]]
    named = ("a<b>&'\\n.png, patient <i>12", "b.png", "val/c.png, patient 13")
    assert alts == [f"{name}, labelled pneumonia, score 0.400" for name in named]
    text = Elements(page).text
    assert all(f"{name}: pneumonia, score 0.400" in text for name in named)
    without = Elements(format_report(gather(labels, np.full(4, 0.4), names=ImageNames(files)))).text
    assert "val/c.png: pneumonia" in without and "patient 13" not in without


def test_mistakes_have_their_maps_below_them(without_plots):
    labels = np.repeat(np.array([1, 0], dtype=np.int64), 3)
    scores, images = np.full(6, 0.4), np.full((6, 28, 28), 90, np.uint8)
    evidence = {index: np.full((28, 28), 15.0 * (index - 1), np.float32) for index in (0, 2)}
    contents = gather(labels, scores, images=images)
    page = format_report(replace(contents, evidence=evidence))
    sources = {image["alt"]: image["src"] for image in Elements(page).list_images()}
    tints = [
        np.asarray(Image.open(io.BytesIO(decode(sources[f"{alt}: what the classifier summed up"])))).mean(
            (0, 1)
        )
        for alt in (f"Synthetic image {index}, labelled pneumonia, score 0.400" for index in evidence)
    ]
    assert tints[0][2] > tints[0][0] and tints[1][0] > tints[1][2]  # blue, red
    text = Elements(page).text
    assert "The strongest colours are 15 log odds" in text and CAVEAT in text
    assert page.count("summed up") - text.count("summed up") == 2
    assert "summed up" not in format_report(contents)


def test_a_flawless_classifier_has_no_mistakes_to_show(without_plots):
    labels = np.array([0, 0, 0, 1, 1, 1], dtype=np.int64)
    text = Elements(format_report(gather(labels, labels * 0.8 + 0.1))).text
    assert "There is no false negative." in text
    assert "There is no false positive." in text


def test_phantoms_are_called_synthetic_and_real_images_are_not(contents, page, without_plots):
    text = Elements(page).text
    assert "The images are synthetic: a program drew them, and the metrics do not apply to patients." in text
    real = Elements(format_report(replace(contents, card=CHILDREN))).text
    assert "synthetic" not in real.lower()


def test_the_page_says_of_the_images_what_their_card_says_and_no_more(contents, page, without_plots):
    """A user's own file was called `Chest images of children, published by MedMNIST`."""
    text = Elements(format_report(replace(contents, card=CHILDREN))).text
    for words in (CHILDREN.title, CHILDREN.description, *CHILDREN.limits, CHILDREN.notice, "CC BY 4.0"):
        assert words in text
    assert f"mine.npz {'c3' * 32}" in text
    assert "@article{one}" in text
    for word in ("MedMNIST", "children", "Licence", "To cite", "SHA-256 mine"):
        assert word not in Elements(page).text


def test_the_result_comes_first_and_the_notice_on_the_images_with_the_data(contents, without_plots):
    """Two checksums stood above it."""
    page = format_report(replace(contents, card=CHILDREN))
    text, figures = Elements(page).text, contents.evaluation.figures
    shown = [
        f"{name.capitalize() if name != 'auc' else 'AUC'} {one.value:.3f} 95 % interval: {one.low:.3f} to"
        for name in ("auc", "accuracy", "sensitivity", "specificity")
        for one in [figures[name]]
    ]
    order = ["demo: test images", *shown, "At the operating point", "A research tool", "All metrics"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert text.count(CHILDREN.notice) == 1
    assert text.index(CHILDREN.notice) > text.index("Data mine.npz, 28 px.")
    assert "Images 60, mine.npz, 28 px (see the notice under Data) Weights" in text
    assert "see the notice" not in Elements(format_report(contents)).text


def test_the_data_card_knows_the_images_of_the_page_and_of_the_training(contents, page):
    text = Elements(page).text
    normal, pneumonia = count_classes(contents.images.labels)
    images = contents.images.images
    digest = hashlib.sha256(str(images.shape).encode() + images.tobytes()).hexdigest()
    evaluated = hashlib.sha256(contents.images.labels.astype("<i8").tobytes()).hexdigest()
    assert f"Training images 166 474 74.1 % {'f1' * 32} {'a2' * 32}" in text
    assert f"Test images {normal} {pneumonia} {100 * pneumonia / 60:.1f} % {digest} {evaluated}" in text
    assert "Class weights in training: normal 1.9277, pneumonia 0.6751." in text
    assert "packages.keras 3.15.1" in text


def test_every_page_says_that_it_is_no_medical_device(page):
    header, footer = page[: page.index("</header>")], page[page.index("<footer>") :]
    assert "A research tool, not a medical device" in header
    assert "A research tool, not a medical device" in footer


@pytest.mark.parametrize(
    ("weights", "named"),
    [("imagenet", "imagenet"), ("none", "none (random)"), ("/a/b/mine.weights.h5", "mine.weights.h5")],
)
def test_weights_are_named_by_their_source(contents, weights, named, without_plots):
    text = Elements(format_report(change(contents, {"model.weights": weights}))).text
    assert f"Weights {named} Date 2026-11-23" in text
    assert ("weights are random" in text) == (weights == "none")


@pytest.mark.parametrize(
    ("split", "note"),
    [
        ("train", "The classifier was fitted on these images: the metrics are optimistically biased."),
        ("val", "The epoch was chosen on these images"),
        ("test", "Nothing was fitted or chosen on these images"),
    ],
)
def test_figures_on_images_that_were_used_before_are_called_flattering(contents, split, note, without_plots):
    assert note in Elements(format_report(replace(contents, split=split))).text


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (0, "None of these images is among those that the run learnt from, by their pixels."),
        (
            7,
            "(the training). 7 of these 60 images are among the training and validation images of the run",
        ),
    ],
)
def test_other_images_are_named_as_such_with_those_that_the_run_learnt_from(
    contents, without_plots, seen, words
):
    """Of images that the run had seen the page said that nothing was fitted on them."""
    environment = {**ENVIRONMENT, "data": {"title": "the training"}}
    page = format_report(change(contents, environment=environment, seen=seen))
    header = Elements(page[: page.index("</header>")]).text
    assert words in header and "Nothing was fitted" not in header
    assert ("None of these images" in header) == (seen == 0)
    assert "Evaluated on other images than those of the training (the training)." in header
    assert "Evaluated on other" not in Elements(format_report(contents)).text


def test_captions_are_true_of_the_run(contents, page, without_plots):
    """A page of a run without dropout had a sentence on it."""
    assert "measured during an epoch, with dropout; validation accuracy after it, without." in page
    assert "Choose one on validation images, not here." in page
    settings = {"model.dropout": 0.0}
    other = Elements(format_report(change(contents, settings, split="val"))).text
    assert "measured during an epoch; validation accuracy after it." in other
    assert "Choose one" not in other
    for members, head in ((1, "a small head that was fitted"), (3, "3 small heads that were fitted")):
        assert head in format_report(change(contents, {"training.members": members}))


def test_the_number_of_patients_stands_where_it_is_known(drawn, page, without_plots):
    images, scores = drawn
    for unknown, words in ((0, "Patients 3 Weights"), (5, "Patients 3, and 5 images of unknown patients")):
        patients = tuple([""] * unknown + [f"p{index % 3}" for index in range(60 - unknown)])
        assert (
            words
            in Elements(format_report(gather(images.labels, scores, names=ImageNames(None, patients)))).text
        )
    assert "Patients" not in Elements(page).text


def test_subgroups_stand_by_column_with_intervals(drawn, page, without_plots):
    images, scores = drawn
    columns = {"<sex>": ["F", "M", ""] * 20, "id": [f"x{index}" for index in range(60)]}
    evaluation = evaluate(images.labels, scores, 0.5, members=[], seed=1, columns=columns)
    told = Elements(format_report(gather(images.labels, scores, evaluation=evaluation))).text
    cells = []
    for one, name in zip(evaluation.subgroups, ("F", "M", "missing"), strict=True):
        figures = (
            f"{figure.value:.3f} {figure.low:.3f} to {figure.high:.3f}" for figure in one.figures.values()
        )
        cells.append(f"{name} 20 {' '.join(figures)}")
    assert f"<sex> {' '.join(cells)}" in told
    assert "Columns with more than 12 different texts have no subgroups: id." in told
    assert "ubgroup" not in Elements(page).text


def test_the_rule_of_the_operating_point_stands_in_words(contents, drawn, without_plots):
    images, scores = drawn
    point = choose_operating_point(
        images.labels, scores, rule="cost", chosen_on="val", cost_fn=3.0, cost_fp=0.5
    )
    text = Elements(format_report(change(contents, operating_point=point))).text
    assert "the least cost, a missed pneumonia counted 3 and a false alarm 0.5" in text
    assert "and a false alarm 0.5, chosen on validation images" in text
    assert f"Sensitivity on validation images {point.sensitivity:.3f}" in text
    val = Elements(format_report(change(contents, operating_point=point, split="val"))).text
    assert "The epoch and the operating point were chosen on these images" in val


def test_what_was_chosen_on_validation_images_is_said(drawn, without_plots):
    images, scores = drawn
    fixed = gather(images.labels, scores, split="val", of_config={"training.schedule": "cosine"})
    assert "Nothing was fitted or chosen on these images in this run" in format_report(fixed)
    youden = choose_operating_point(images.labels, scores, rule="youden", chosen_on="val")
    calibrated = replace(CALIBRATION, method="platt")
    page = format_report(
        gather(images.labels, scores, split="val", operating_point=youden, calibration=calibrated)
    )
    assert "The epoch, the operating point and the calibration were chosen on these images" in page


def test_perturbed_images_are_shown_with_both_scores(drawn, without_plots):
    images, scores = drawn
    under = gather(images.labels, 1 - scores).evaluation
    plain = gather(images.labels, scores)
    changes = compare_figures(
        images.labels, scores, 1 - scores, first_threshold=0.5, second_threshold=0.5, seed=1
    )
    contents = replace(
        plain,
        evaluation=replace(
            plain.evaluation,
            perturbed=PerturbedEvaluation(
                **vars(under), changes=changes, perturbation={}, robustness=build_robustness()
            ),
        ),
        perturbed=PerturbedImages(1 - scores, images.images[:2]),
    )
    page = format_report(contents)
    auc = under.figures["auc"].value
    section = page[page.index("<h3>Perturbed</h3>") :]
    assert section[: section.index("</tr>", section.index("AUC"))].count(f"<b>{auc:.3f}</b>") == 1
    assert f"{changes['auc'].value:+.3f}" in section
    assert f"score {1 - scores[1]:.3f}, unperturbed {scores[1]:.3f}" in page
    kinds = Elements(section[section.index("by kind") :]).text
    assert "gamma up" in kinds and "rotation" in kinds and "medmnistc 0.1.0" in kinds
    assert 'alt="AUC and balanced error over five severities' in section
    assert "Perturbed" not in format_report(plain)


def test_a_threshold_of_the_settings_is_not_called_chosen(contents, page):
    text = Elements(page).text
    reached = f"Sensitivity on validation images {contents.run.operating_point.sensitivity:.3f}"
    assert f"Rule given in the settings {reached}" in text
    assert "chosen on" not in text.lower().replace("nothing was fitted or chosen on these images", "")


@pytest.mark.parametrize(
    ("calibration", "prevalence", "words"),
    [
        (
            {},
            None,
            [
                "none: log odds as they are",
                "Calibration error on validation images 0.050 A score",
                "images of which 50.0 % show pneumonia",
            ],
        ),
        (
            {"method": "platt", "slope": 1.25, "intercept": -0.5, "prevalence": 0.742},
            0.1,
            [
                "Platt: log odds times 1.250, plus -0.500",
                "Calibration error on validation images 0.050, before the scaling 0.050",
                "images of which 10 % show pneumonia, as was stated for this evaluation (fitted for 74.2 %)",
            ],
        ),
    ],
)
def test_what_a_score_means_stands_in_words(contents, without_plots, calibration, prevalence, words):
    evaluation = replace(contents.evaluation, stated_prevalence=prevalence)
    changed = change(contents, calibration=replace(CALIBRATION, **calibration), evaluation=evaluation)
    text = Elements(format_report(changed)).text
    for phrase in words:
        assert phrase in text


def test_members_stand_with_their_spread_and_one_alone_does_not(contents, without_plots):
    names = ("auc", "accuracy", "sensitivity", "specificity", "log_loss")
    members = to_member_figures([dict.fromkeys(names, value) for value in (0.8, 0.9, 0.85)])
    several = replace(contents, evaluation=replace(contents.evaluation, members=members))
    text = Elements(format_report(several)).text
    assert "3 heads of different seeds, each alone mean deviation lowest highest" in text
    assert "AUC 0.850 0.050 0.800 0.900" in text
    assert "different seeds" not in Elements(format_report(contents)).text


def test_the_page_of_a_corrected_evaluation_says_so_and_shows_ppv_and_npv(contents, page, without_plots):
    changed = format_report(replace(contents, evaluation=replace(contents.evaluation, stated_prevalence=0.1)))
    header = Elements(changed[: changed.index("</header>")]).text
    assert header.count("demo: test images, corrected to a prevalence of 10 %") == 2  # title and heading
    assert "Corrected to a prevalence of 10 %: " in header
    assert "no prediction changes." in header
    text = Elements(changed).text
    for name, figure in (("PPV", "precision_pneumonia"), ("NPV", "precision_normal")):
        assert f"{name} at 10 % {contents.evaluation.figures[figure].value:.3f}" in text
    assert "orrected" not in Elements(page).text


def test_corrected_plots_keep_to_the_figures(drawn):
    images, scores = drawn
    own = images.labels.mean()
    plain, corrected = (
        draw_precision_recall(
            images.labels,
            scores,
            evaluate_at(images.labels, scores, 0.5, resamples=20, seed=1, shift=shift),
        )
        for shift in (None, PrevalenceShift(0.5, 0.1))
    )
    precision, shifted = (plot.axes[0].lines[1].get_ydata() for plot in (plain, corrected))
    odds = precision[:-1] / np.maximum(1 - precision[:-1], 1e-300) * (0.1 / 0.9) / (own / (1 - own))
    np.testing.assert_allclose(shifted[:-1], odds / (1 + odds), rtol=1e-6)
    lines = {
        line.get_label(): line for line in draw_threshold_curve(images.labels, scores, 0.5, 0.1).axes[0].lines
    }
    sensitivity, specificity, accuracy = (
        lines[name].get_ydata() for name in ("sensitivity", "specificity", "accuracy")
    )
    np.testing.assert_allclose(accuracy, 0.1 * sensitivity + 0.9 * specificity)


def test_corrected_reliability_is_that_of_the_stated_population(contents):
    images, scores = contents.images, contents.scores
    plain = to_reliability_bins(images.labels, scores)
    corrected = to_reliability_bins(images.labels, scores, prevalence=0.1)
    own = contents.images.labels.mean()
    for before, after in zip(plain, corrected, strict=True):
        pneumonia, normal = before.prevalence * 0.1 / own, (1 - before.prevalence) * 0.9 / (1 - own)
        assert after.prevalence == pytest.approx(pneumonia / (pneumonia + normal))
        assert after.prevalence_low <= after.prevalence + 1e-12 <= after.prevalence_high + 2e-12
    assert plain != corrected


def test_the_words_below_the_reliability_diagram_fit_its_axes(contents, page, drawn):
    """They said that points lie above the line where they lay below it."""
    images, scores = drawn
    plot = draw_reliability(to_reliability_bins(images.labels, np.full(len(scores), 0.01)))
    (points,) = plot.axes[0].containers
    assert points.lines[0].get_ydata() > points.lines[0].get_xdata()  # more pneumonia than scores say
    share = f"{images.labels.mean():.1%}".replace("%", " %")
    assert (
        "Above the line more images show pneumonia than their scores predict, below it fewer. "
        f"Scores are meant for images of which 50.0 % show pneumonia; of these {share} do."
    ) in Elements(page).text


def test_an_interval_that_is_undefined_is_not_in_a_legend(drawn):
    labels = drawn[0].labels
    flawless = evaluate_at(labels, labels * 0.8 + 0.1, 0.5, resamples=20, seed=1)
    plot = draw_precision_recall(labels, labels * 0.8 + 0.1, flawless)
    texts = [text.get_text() for text in plot.axes[0].get_legend().get_texts()]
    assert "average precision 1.000" in texts


def test_no_folder_of_the_machine_is_on_the_page(contents, without_plots):
    paths = {"data.path": "/home/someone/images/mine.npz", "model.weights": "/srv/mine.weights.h5"}
    settings = {"data.source": "pneumonia_mnist", **paths}
    environment = {**ENVIRONMENT, "paths": paths}
    changed = change(contents, settings, card=CHILDREN, environment=environment)
    page = format_report(changed)
    assert "mine.weights.h5" in page
    assert not re.search("/home|/srv", page)


def test_every_template_is_packed_beside_the_code():
    folder = importlib.resources.files("pneumo_keras.reporting") / "templates"
    names = {part.name for part in folder.iterdir()}
    assert {"report.html.jinja", "report.css"} <= names
    for name in names:
        assert report.load_template().environment.get_template(name)


def test_the_model_card_says_which_blocks_were_trained_further(without_plots):
    labels, scores = np.array([0, 1] * 10), np.linspace(0.1, 0.9, 20)
    assert "A frozen InceptionV3, weights" in format_report(gather(labels, scores))
    settings = {
        "model.feature_layers": ["mixed10"],
        "training.unfreeze_from": "mixed8",
        "training.unfrozen_learning_rate": 2e-4,
    }
    ends = {"e5": "0.0002. It gives", "d4": "0.0002, and put back as they were: no epoch had"}
    for digest, end in ends.items():
        environment = {**ENVIRONMENT, "fine_tuned_weights_sha256": digest * 32}
        page = format_report(gather(labels, scores, of_config=settings, environment=environment))
        assert "A frozen InceptionV3" not in page
        assert f"from <b>mixed8</b> on were trained further, at a learning rate of {end}" in page


def test_images_out_of_distribution_stand_in_the_report_with_figures_without_them(drawn, page, without_plots):
    images, scores = drawn
    distances = np.where(np.arange(60) < 6, 1.7, 0.5)
    evaluation = evaluate(images.labels, scores, 0.5, members=[], seed=1, distances=distances)
    told = format_report(gather(images.labels, scores, images=images.images, evaluation=evaluation))
    assert "6 of 60 images (10.0 %) are out of distribution" in told
    assert "The 54 others" in told
    assert "Out of distribution" not in page
