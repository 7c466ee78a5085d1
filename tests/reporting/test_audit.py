import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from pneumo_keras.audit.audit import audit_images
from pneumo_keras.data.sources import ImageNames
from pneumo_keras.reporting.audit import draw_audit, format_audit, to_findings
from pneumo_keras.reporting.plots import save_plot
from tests.audit.noise import brighten, draw_images, draw_splits, put
from tests.images import build_phantom_images


@pytest.fixture
def clean():
    return draw_splits()


def find(findings, words):
    return next((finding for finding in findings if words in finding), "")


def test_clean_images_give_no_alarm(clean):
    assert to_findings(audit_images(clean)) == ["No image is in two splits."]


def test_copies_are_described(clean):
    put(clean, ("val", 5), clean["train"].images[0], 0)
    put(clean, ("val", 6), clean["train"].images[1], 0)
    put(clean, ("test", 1), clean["test"].images[0], 0)
    put(clean, ("val", 3), clean["train"].images[9], 1)
    put(clean, ("val", 7), brighten(clean["train"].images[3]))
    put(clean, ("train", 30), clean["train"].images[4] // 2 + 20)
    assert to_findings(audit_images(clean))[:4] == [
        "Images of training that are also in validation: 3 (15.0 % of the validation images are known "
        "beforehand; metrics on them are optimistically biased).",
        "Repeats among the test images, each of which counts again: 1.",
        "Images labelled both normal and pneumonia: 1. One label of each is wrong; see train[9], val[3].",
        "Pairs of images almost equal without being identical (similarity 0.96 or more): 2, across splits 1, "
        "with different labels 1. An altered copy, or one patient twice.",
    ]


def test_images_are_named_by_their_files_where_these_are_known(clean):
    put(clean, ("val", 3), clean["train"].images[9], 1)
    names = {
        split: ImageNames(tuple(f"{split}/{index}.png" for index in range(len(images))))
        for split, images in clean.items()
    }
    audit = audit_images(clean, names)
    assert "see train[9] (train/9.png), val[3] (val/3.png)." in find(to_findings(audit), "labelled both")
    panels = list_panels(draw_audit(clean, audit, names=names, title=""))
    assert "train[9] normal\n9.png\nval[3] pneumonia\n3.png" in panels
    assert {"train[0] normal\n0.png", "test[0] normal\n0.png"} <= panels.keys()


def test_patients_are_described_where_they_are_known(clean):
    train = ImageNames(patients=tuple(f"p{row // 2}" for row in range(40)))
    val = ImageNames(patients=("p0", "p0", "p1", "", *(f"q{row}" for row in range(16))))
    test = ImageNames(patients=("test-p0",) * 24, numberings=frozenset({"test"}))
    assert to_findings(audit_images(clean, {"train": train, "val": val, "test": test}))[1:5] == [
        "Images whose patients are known: 40 of 40 training (20 patients), 19 of 20 validation (18 "
        "patients), 24 of 24 test (1 patient).",
        "Patients of training who are also in validation: 2, with 3 images there (15.0 % of the validation "
        "images; metrics on them are optimistically biased).",
        "Patients of training and test are numbered separately: whether they share any is unknown.",
        "Patients of validation and test are numbered separately: whether they share any is unknown.",
    ]
    apart = {"train": train, "val": ImageNames(patients=("q",) * 20), "test": ImageNames()}
    assert to_findings(audit_images(clean, apart))[2:] == [
        "No known patient of training is also in validation."
    ]


def test_notable_shifts_are_described():
    splits = {
        "train": draw_images(400, seed=1, pneumonia=300),
        "test": draw_images(400, seed=2, pneumonia=200, level=104),
    }
    audit = audit_images(splits)
    findings = to_findings(audit)
    assert find(findings, "Pneumonia is") == (
        "Pneumonia is 75.0 % of the training images but 50.0 % of the test images: accuracy, precision and "
        "calibration do not carry over; sensitivity, specificity and AUC do not depend on it."
    )
    means = [part.images[part.labels == 0].mean() for part in splits.values()]
    assert find(findings, "mean grey of normal images").startswith(
        f"Exposure differs: mean grey of normal images, {means[0]:.1f} in training and {means[1]:.1f} "
        "in test (d "
    )


def test_what_separates_the_classes_and_blank_images_are_described():
    images = draw_images(40, seed=1)
    images.images[20:] += np.arange(10, dtype=np.uint8).repeat(2)[:, None, None]
    images.images[0] = 0
    audit = audit_images({"train": images})
    assert to_findings(audit)[1:] == [
        "Mean grey alone separates the classes, AUC "
        f"{audit.splits['train'].exposure['mean grey'].auc:.2f} in "
        "training: a classifier must do better than that.",
        "Images of training of one grey level, which show nothing: 1.",
    ]


def test_what_is_undefined_is_a_dash():
    audit = audit_images({"train": draw_images(4, seed=1), "test": draw_images(1, seed=2, pneumonia=0)})
    assert not find(to_findings(audit), "Exposure")
    text = format_audit(audit, title="")
    assert "nan" not in text and "28.9 (sd -)        - (sd -)     -\n" in text


def test_the_text_is_narrow_and_ends_with_the_findings(clean):
    for index in range(10):
        put(clean, ("test", index), brighten(clean["train"].images[index]))
    audit = audit_images(clean)
    text = format_audit(audit, title="Ten copies")
    assert max(map(len, text.splitlines())) < 80
    assert text.startswith(
        "Ten copies\n\n"
        "       images  normal  pneumonia  prevalence     size\n"
        "train      40      20         20      50.0 %  28 x 28\n"
    )
    assert "\ntrain/test           0            10\n" in text
    assert "\nThe most similar of 10\n" in text
    shown = " ".join(text.split("Findings\n")[1].replace("\n  ", " ").removeprefix("- ").split("\n- "))
    assert shown == " ".join(to_findings(audit))


@pytest.fixture
def splits():
    sizes = {"train": 60, "val": 20, "test": 30}
    return {split: build_phantom_images(n, size=28, seed=n) for split, n in sizes.items()}


def list_panels(figure):
    return {axes.get_title(): axes.images for axes in figure.findobj(Axes) if axes.images}


def test_the_page_shows_images_of_each_split_and_class_and_copies(splits, tmp_path):
    splits["val"].images[3] = splits["train"].images[5]
    splits["test"] = build_phantom_images(10, size=40, seed=1)  # of another size
    figure = draw_audit(splits, audit_images(splits), names={}, title="Phantoms")
    panels = list_panels(figure)
    for split, images in splits.items():
        for label, name in enumerate(("normal", "pneumonia")):
            first = int(np.flatnonzero(images.labels == label)[0])
            (shown,) = panels[f"{split}[{first}] {name}"]
            np.testing.assert_array_equal(shown.get_array(), images.images[first])
    names = [("normal", "pneumonia")[splits[s].labels[i]] for s, i in (("train", 5), ("val", 3))]
    pair = panels[f"train[5] {names[0]}\nval[3] {names[1]}"]
    assert all(np.array_equal(shown.get_array(), splits["train"].images[5]) for shown in pair)
    save_plot(figure, tmp_path / "audit.png")
    with Image.open(tmp_path / "audit.png") as page:
        assert page.size == (1600, 1200)
