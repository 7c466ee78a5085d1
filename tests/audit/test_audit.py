import json
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from pneumo_keras.arrays import SPLITS
from pneumo_keras.audit import copies
from pneumo_keras.audit.audit import audit_images
from pneumo_keras.audit.copies import Occurrence, Pair
from pneumo_keras.data.overlap import SharedPatients
from pneumo_keras.data.sources import ImageNames
from pneumo_keras.errors import DataError
from pneumo_keras.storage.documents import to_document
from tests.audit.noise import brighten, draw_images, draw_splits, put
from tests.conftest import SHARED
from tests.images import ImageArray, build_phantom_images, load_archive


@pytest.fixture
def clean():
    return draw_splits()


def test_an_audit_needs_neither_keras_nor_jax():
    code = (
        "import sys, numpy as np\n"
        "from pneumo_keras.audit.audit import audit_images\n"
        "import pneumo_keras.reporting.audit\n"
        "from tests.images import ImageArray\n"
        "images = np.random.default_rng(0).integers(0, 255, (8, 28, 28)).astype(np.uint8)\n"
        "audit_images({'train': ImageArray(images, np.arange(8) % 2)})\n"
        "print(sorted({'keras', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_images_are_read_once_and_few_at_a_time(monkeypatch):
    images, reads = draw_images(700, seed=0), []
    read = ImageArray.read
    monkeypatch.setattr(ImageArray, "read", lambda self, rows: reads.append(read(self, rows)) or reads[-1])
    audit_images({"train": images})
    assert sum(map(len, reads)) == 700 and max(map(len, reads)) <= 256


def test_classes_and_blank_images_are_counted(clean):
    for index, grey in enumerate((0, 7, 255)):
        put(clean, ("train", index), np.full((28, 28), grey, np.uint8))
    audit = audit_images(clean | {"val": draw_images(8, seed=0, pneumonia=6)})
    facts = audit.splits["val"]
    assert (facts.images, facts.normal, facts.pneumonia, facts.prevalence) == (8, 2, 6, 0.75)
    assert (facts.height, facts.width, facts.blank) == (28, 28, 0)
    assert audit.splits["train"].blank == 3
    assert not audit.alike.pairs


def test_the_prevalence_of_splits_is_compared():
    large = {
        "train": draw_images(400, seed=1, pneumonia=300),
        "test": draw_images(400, seed=2, pneumonia=200),
    }
    shift = audit_images(large).shifts[0]
    assert (shift.measure, shift.first, shift.second, shift.effect) == ("prevalence", "train", "test", -0.25)
    assert shift.p == pytest.approx(stats.fisher_exact([[100, 300], [200, 200]]).pvalue)
    assert shift.is_notable
    few = {"train": draw_images(8, seed=1, pneumonia=6), "test": draw_images(8, seed=2)}
    assert not audit_images(few).shifts[0].is_notable


def test_the_exposure_of_splits_is_compared_by_class():
    a, b = draw_images(60, seed=1), draw_images(30, seed=2, level=104)
    audit = audit_images({"train": a, "test": b})
    shift = next(one for one in audit.shifts if (one.measure, one.images) == ("mean grey", "normal"))
    x, y = (part.images[part.labels == 0].mean(axis=(1, 2)) for part in (a, b))
    pooled = math.sqrt((29 * x.var(ddof=1) + 14 * y.var(ddof=1)) / 43)
    assert shift.effect == pytest.approx((y.mean() - x.mean()) / pooled)
    assert shift.p == pytest.approx(stats.norm.sf(abs(shift.effect) / math.sqrt(1 / 30 + 1 / 15)) * 2)
    assert shift.is_notable
    exposure = audit.splits["train"].exposure["contrast"]
    contrasts = a.images[a.labels == 1].std(axis=(1, 2))
    assert exposure.means[1] == pytest.approx(contrasts.mean())
    assert exposure.deviations[1] == pytest.approx(contrasts.std(ddof=1))


def test_what_is_undefined_is_nan_here_and_null_in_the_document():
    audit = audit_images({"train": draw_images(4, seed=1), "test": draw_images(1, seed=2, pneumonia=0)})
    exposure = audit.splits["test"].exposure["mean grey"]
    assert all(map(math.isnan, (exposure.deviations[0], exposure.means[1], exposure.auc)))
    assert all(math.isnan(one.effect) and not one.is_notable for one in audit.shifts[1:])
    document = json.loads(json.dumps(to_document(audit), allow_nan=False))
    assert list(document) == ["splits", "identical", "alike", "shifts", "patients"]
    assert document["splits"]["test"]["exposure"]["mean grey"]["auc"] is None


def test_exposure_that_separates_the_classes_is_named():
    images = draw_images(40, seed=1)
    images.images[20:] += np.arange(10, dtype=np.uint8).repeat(2)[:, None, None]
    auc = roc_auc_score(images.labels, images.images.mean(axis=(1, 2)))
    for labels in (images.labels, 1 - images.labels):
        exposure = audit_images({"train": ImageArray(images.images, labels)}).splits["train"].exposure
        assert exposure["mean grey"].auc == pytest.approx(auc)
        assert [name for name, one in exposure.items() if one.is_separating] == ["mean grey"]
    few = draw_images(8, seed=3)
    few.images[4:] += 1
    exposure = audit_images({"train": few}).splits["train"].exposure["mean grey"]
    assert exposure.auc >= 0.7 and not exposure.is_separating


def test_an_empty_split_is_refused():
    none = ImageArray(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64))
    with pytest.raises(DataError, match=r"images in every split\. Received: none in split 'val'"):
        audit_images({"train": draw_images(2, seed=0), "val": none})


def test_identical_images_are_counted_within_splits_and_across(clean):
    for target, source, label in [
        (("val", 5), 0, 0),
        (("val", 6), 0, 0),
        (("train", 4), 3, 0),
        (("test", 7), 9, 1),
    ]:
        put(clean, target, clean["train"].images[source], label)
    identical = audit_images(clean).identical
    assert {pair: n for pair, n in identical.counts.items() if n} == {
        "train/train": 1,
        "train/val": 1,
        "train/test": 1,
        "val/val": 1,
    }
    assert identical.conflicts == 1
    assert identical.groups == [
        [Occurrence("train", 9, 0), Occurrence("test", 7, 1)],
        [Occurrence("train", 0, 0), Occurrence("val", 5, 0), Occurrence("val", 6, 0)],
        [Occurrence("train", 3, 0), Occurrence("train", 4, 0)],
    ]


def test_images_of_other_shapes_are_not_identical():
    images = {
        "train": ImageArray(np.zeros((2, 4, 9), np.uint8), np.arange(2)),
        "val": ImageArray(np.zeros((2, 9, 4), np.uint8), np.arange(2)),
    }
    assert audit_images(images).identical.counts["train/val"] == 0


def test_altered_and_mirrored_copies_are_almost_equal(clean, monkeypatch):
    monkeypatch.setattr(copies, "BLOCK", 7)
    put(clean, ("val", 7), brighten(clean["train"].images[3]))
    put(clean, ("train", 30), clean["train"].images[4] // 2 + 20)
    put(clean, ("test", 7), clean["train"].images[5][:, ::-1])
    put(clean, ("test", 8), clean["train"].images[5])
    alike = audit_images(clean).alike
    assert {key: n for key, n in alike.counts.items() if n} == {
        "train/train": 1,
        "train/val": 1,
        "train/test": 1,
    }
    assert alike.pairs[0] == Pair(Occurrence("train", 5, 0), Occurrence("test", 7, 0), 1.0, mirrored=True)
    assert [(pair.first, pair.second, pair.mirrored) for pair in alike.pairs[1:]] == [
        (Occurrence("train", 4, 0), Occurrence("train", 30, 1), False),
        (Occurrence("train", 3, 0), Occurrence("val", 7, 0), False),
    ]
    assert alike.conflicts == 1


def test_the_similarity_is_the_correlation_of_fine_structure(clean):
    put(clean, ("val", 7), brighten(clean["train"].images[3]))
    (pair,) = audit_images(clean).alike.pairs
    first, second = clean["train"].images[3].astype(float), clean["val"].images[7].astype(float)
    details = [image - gaussian_filter(image, 2) for image in (first, second)]
    assert pair.similarity == pytest.approx(np.corrcoef(*(one.ravel() for one in details))[0, 1], abs=1e-3)


def test_of_many_pairs_the_most_similar_are_kept(clean, monkeypatch):
    monkeypatch.setattr(copies, "PAIRS_KEPT", 1)
    for index in range(3):
        put(clean, ("val", index), brighten(clean["train"].images[index]), 1)
    alike = audit_images(clean).alike
    assert (sum(alike.counts.values()), alike.conflicts, len(alike.pairs)) == (3, 3, 1)


def test_larger_images_are_compared_at_28_pixels():
    images = draw_images(6, seed=1)
    large = ImageArray(images.images.repeat(3, 1).repeat(3, 2), images.labels)
    pairs = audit_images({"train": images, "val": large}).alike.pairs
    assert [(pair.first.index, pair.second.index) for pair in pairs] == [(i, i) for i in range(6)]


def test_phantoms_are_not_almost_equal():
    assert not audit_images({"train": build_phantom_images(640, size=28, seed=0)}).alike.pairs


def test_patients_are_counted_where_they_are_known(clean):
    train = ImageNames(patients=("a", "a", *[""] * 38))
    val = ImageNames(patients=("a", "b", *[""] * 18))
    found = audit_images(clean, {"train": train, "val": val, "test": ImageNames()}).patients
    assert found.images == {"train": 2, "val": 2, "test": 0}
    assert found.patients == {"train": 1, "val": 2, "test": 0}
    assert found.shared == {"train/val": SharedPatients(1, 1, 2), "train/test": None, "val/test": None}


@pytest.mark.real_data
def test_pneumonia_mnist_holds_the_known_repeats():
    path = SHARED / "data/pneumoniamnist.npz"
    audit = audit_images({split: load_archive(path, split, size=28) for split in SPLITS})
    assert {pair: n for pair, n in audit.identical.counts.items() if n} == {
        "train/train": 18,
        "train/val": 8,
        "test/test": 3,
    }
    assert (audit.identical.conflicts, audit.alike.pairs) == (0, [])
    assert [(one.measure, one.second) for one in audit.shifts if one.is_notable] == [("prevalence", "test")]
    exposure = audit.splits["train"].exposure
    assert [name for name, one in exposure.items() if one.is_separating] == ["contrast"]
    assert exposure["contrast"].auc == pytest.approx(0.81, abs=0.005)
