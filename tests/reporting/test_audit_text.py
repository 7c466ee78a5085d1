import numpy as np
import pytest

from pneumo_keras.audit.audit import audit_images
from pneumo_keras.data.sources import ImageNames
from pneumo_keras.reporting.audit_text import format_audit, to_findings
from tests.audit.noise import Splits, brighten, draw_images, draw_splits, put


@pytest.fixture
def clean() -> Splits:
    return draw_splits()


def find(findings: list[str], words: str) -> str:
    return next((finding for finding in findings if words in finding), "")


def test_clean_images_give_no_alarm(clean):
    findings = to_findings(audit_images(clean))
    assert findings == [
        "No image stands in two splits.",
        "No two images are almost equal without being identical (similarity 0.96 or more).",
        find(findings, "Exposure hardly differs between splits."),
    ]


def test_shared_and_repeated_images_are_told(clean):
    put(clean, ("val", 5), clean["train"].images[0], 0)
    put(clean, ("val", 6), clean["train"].images[1], 0)
    put(clean, ("test", 1), clean["test"].images[0], 0)
    put(clean, ("train", 3), clean["train"].images[2], 0)
    put(clean, ("train", 4), clean["train"].images[2], 0)
    assert to_findings(audit_images(clean))[:4] == [
        "Images of training that are also in validation: 2 (10.0 % of the validation images are known "
        "beforehand; figures on them flatter).",
        "Repeats among the training images, each of which counts again: 2.",
        "Repeats among the test images, each of which counts again: 1.",
        "Identical images have identical labels.",
    ]


def test_patients_are_counted_where_they_are_known(clean):
    train = ImageNames(patients=tuple(f"p{row // 2}" for row in range(40)))
    val = ImageNames(patients=("p0", "p0", "p1", "", *(f"q{row}" for row in range(16))))
    test = ImageNames(patients=("test-p0",) * 24, numberings=frozenset({"test"}))
    findings = to_findings(audit_images(clean, {"train": train, "val": val, "test": test}))
    assert findings[1:5] == [
        "Images whose patients are known: 40 of 40 training (20 patients), 19 of 20 validation (18 "
        "patients), 24 of 24 test (1 patients).",
        "Patients of training who are also in validation: 2, with 3 images there (15.0 % of the validation "
        "images; figures on them flatter).",
        "Patients of training and test are numbered each for itself: whether they share any is not known.",
        "Patients of validation and test are numbered each for itself: whether they share any is not known.",
    ]
    apart = {"train": train, "val": ImageNames(patients=("q",) * 20), "test": ImageNames()}
    assert to_findings(audit_images(clean, apart))[2:4] == [
        "No known patient of training is also in validation.",
        "No two images are almost equal without being identical (similarity 0.96 or more).",
    ]


def test_conflicting_labels_are_told_with_the_first_places(clean):
    put(clean, ("val", 3), clean["train"].images[9], 1)
    assert find(to_findings(audit_images(clean)), "as normal and as pneumonia") == (
        "Images that stand there as normal and as pneumonia: 1. One label of each is wrong; see train[9], "
        "val[3]."
    )


def test_look_alikes_are_told(clean):
    put(clean, ("val", 7), brighten(clean["train"].images[3]))
    put(clean, ("train", 30), clean["train"].images[4] // 2 + 20)
    assert find(to_findings(audit_images(clean)), "almost equal") == (
        "Pairs of images almost equal without being identical (similarity 0.96 or more): 2, across splits 1, "
        "with different labels 1. An altered copy, or one patient twice."
    )


def test_blank_images_are_told(clean):
    put(clean, ("train", 0), np.zeros((28, 28), np.uint8))
    assert "Images of training of one grey level, which show nothing: 1." in to_findings(audit_images(clean))


def test_a_notable_prior_shift_is_told():
    splits = {
        "train": draw_images(400, seed=1, pneumonia=300),
        "test": draw_images(400, seed=2, pneumonia=200),
    }
    assert to_findings(audit_images(splits))[0] == (
        "Pneumonia is 75.0 % of the training images but 50.0 % of the test images: accuracy, precision and "
        "calibration do not carry over; sensitivity, specificity and AUC do not depend on it."
    )
    few = {"train": draw_images(8, seed=1, pneumonia=6), "test": draw_images(8, seed=2)}
    assert not find(to_findings(audit_images(few)), "Pneumonia is")


def test_an_exposure_shift_is_told_with_its_means():
    a, b = draw_images(60, seed=1), draw_images(30, seed=2, level=104)
    audit = audit_images({"train": a, "test": b})
    shift = next(s for s in audit.exposure_shifts if (s.measure, s.images) == ("mean grey", "all"))
    words = find(to_findings(audit), "mean grey of all images")
    means = f"{a.images.mean():.1f} in training and {b.images.mean():.1f} in test"
    assert words.startswith(f"Exposure differs: mean grey of all images, {means} (d ")
    assert f"(d {shift.d:+.2f}, Kolmogorov-Smirnov {shift.ks:.2f}, p " in words


def test_a_measure_that_tells_the_classes_apart_is_told():
    images = draw_images(40, seed=1)
    images.images[20:] += np.arange(10, dtype=np.uint8).repeat(2)[:, None, None]
    audit = audit_images({"train": images})
    auc = audit.splits["train"].separation["mean grey"]
    assert (
        f"Mean grey alone tells the classes apart, AUC {auc:.2f} in training: a classifier must do "
        "better than that."
    ) in to_findings(audit)


def test_what_is_undefined_is_a_dash():
    audit = audit_images({"train": draw_images(4, seed=1), "test": draw_images(1, seed=2, pneumonia=0)})
    assert not find(to_findings(audit), "Exposure")
    assert "nan" not in format_audit(audit, heading="")


def test_the_text_is_narrow_and_ends_with_the_findings(clean):
    for index in range(10):
        put(clean, ("test", index), brighten(clean["train"].images[index]))
    audit = audit_images(clean)
    text = format_audit(audit, heading="Ten copies")
    assert max(map(len, text.splitlines())) < 80
    assert text.startswith(
        "Ten copies\n\n"
        "       images  normal  pneumonia   prior     size\n"
        "train      40      20         20  50.0 %  28 x 28\n"
    )
    assert "\nThe most similar of 10\n" in text
    assert text.splitlines().count("val             0     0") == 2
    told = " ".join(text.split("Findings\n")[1].replace("\n  ", " ").removeprefix("- ").split("\n- "))
    assert told == " ".join(to_findings(audit))
