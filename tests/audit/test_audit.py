import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from pneumo_keras.arrays import SPLITS
from pneumo_keras.audit import audit as module
from pneumo_keras.audit.audit import (
    Identical,
    Pair,
    Place,
    audit_films,
    measure_exposure,
)
from pneumo_keras.data.films import FilmArray, LabelledFilms
from pneumo_keras.errors import DataError
from pneumo_keras.reporting.audit_text import format_audit, to_findings
from tests.films import build_phantom_films, load_archive

REAL = Path(__file__).resolve().parents[2].parent / "shared/data/pneumoniamnist.npz"


def draw_films(
    n: int, *, seed: int, pneumonia: int | None = None, size: int = 28, level: int = 100
) -> LabelledFilms:
    """Films of noise about `level`, the last `pneumonia` of them positive."""
    lot = np.random.default_rng(seed)
    images = lot.integers(level - 50, level + 50, (n, size, size)).astype(np.uint8)
    labels = np.zeros(n, np.int64)
    labels[n - (n // 2 if pneumonia is None else pneumonia) :] = 1
    return FilmArray(images, labels)


@pytest.fixture
def clean() -> dict[str, LabelledFilms]:
    return {split: draw_films(n, seed=n) for split, n in {"train": 40, "val": 20, "test": 24}.items()}


def put(
    splits: dict[str, LabelledFilms], target: tuple[str, int], image: np.ndarray, label: int | None = None
) -> None:
    split, index = target
    splits[split].images[index] = image
    if label is not None:
        splits[split].labels[index] = label


def find(findings: list[str], words: str) -> str:
    return next((finding for finding in findings if words in finding), "")


def test_clean_films_give_no_alarm(clean):
    assert to_findings(audit_films(clean)) == [
        "No film stands in two splits.",
        "No two films are almost equal without being identical (similarity 0.96 or more).",
        find(to_findings(audit_films(clean)), "Exposure hardly differs between splits."),
    ]


def test_classes_are_counted_with_their_prior():
    facts = audit_films({"train": draw_films(8, seed=0, pneumonia=6)}).splits["train"]
    assert (facts.films, facts.normal, facts.pneumonia, facts.pneumonia_share) == (8, 2, 6, 0.75)
    assert (facts.height, facts.width) == (28, 28)


def test_repeats_count_beyond_the_first_and_shared_films_count_once(clean):
    film = clean["train"].images[0].copy()
    for target in [("train", 1), ("train", 2), ("val", 5), ("val", 6)]:
        put(clean, target, film, 0)
    identical = audit_films(clean).identical
    assert identical == Identical(
        groups=[
            [Place(*place, 0) for place in (("train", 0), ("train", 1), ("train", 2), ("val", 5), ("val", 6))]
        ],
        repeats={"train": 2, "val": 1, "test": 0},
        shared={"train/val": 1, "train/test": 0, "val/test": 0},
        conflicts=0,
    )


def test_shared_and_repeated_films_are_told(clean):
    put(clean, ("val", 5), clean["train"].images[0], 0)
    put(clean, ("val", 6), clean["train"].images[1], 0)
    put(clean, ("test", 1), clean["test"].images[0], 0)
    put(clean, ("train", 3), clean["train"].images[2], 0)
    put(clean, ("train", 4), clean["train"].images[2], 0)
    assert to_findings(audit_films(clean))[:5] == [
        "2 training films are also in validation: 10.0 % of its films are known beforehand, "
        "and figures on it flatter.",
        "No film is shared by training and test or by validation and test.",
        "2 training films are repeats of other training films, which count more than once.",
        "1 test film is a repeat of another test film, which counts twice.",
        "Identical films have identical labels.",
    ]


def test_one_film_is_told_in_the_singular(clean):
    put(clean, ("test", 5), clean["train"].images[0], 0)
    assert to_findings(audit_films(clean))[0].startswith(
        "1 training film is also in test: 4.2 % of its films"
    )


def test_conflicting_labels_are_found_and_stand_first(clean):
    put(clean, ("val", 1), clean["train"].images[0], 0)
    put(clean, ("val", 3), clean["train"].images[9], 1)
    audit = audit_films(clean)
    assert audit.identical.conflicts == 1
    assert audit.identical.groups[0] == [Place("train", 9, 0), Place("val", 3, 1)]
    assert (
        "1 film stands there as normal and as pneumonia; one label is wrong. See train[9] and val[3]."
        in to_findings(audit)
    )


def test_films_of_another_shape_are_not_identical():
    zeros = np.zeros((2, 14, 56), np.uint8)
    films = {
        "train": FilmArray(zeros[:1], np.zeros(1, np.int64)),
        "val": FilmArray(zeros.reshape(2, 28, 28), np.arange(2)),
    }
    assert audit_films(films).identical.shared == {"train/val": 0}


def brighten(image: np.ndarray) -> np.ndarray:
    return (255 * (image / 255) ** 0.7).round().astype(np.uint8)


def test_altered_copies_are_almost_equal(clean):
    put(clean, ("val", 7), brighten(clean["train"].images[3]))
    put(clean, ("train", 30), clean["train"].images[4] // 2 + 20)
    audit = audit_films(clean)
    assert {key: n for key, n in audit.alike.counts.items() if n} == {"train/train": 1, "train/val": 1}
    assert [(pair.first, pair.second, pair.mirrored) for pair in audit.alike.pairs] == [
        (Place("train", 4, 0), Place("train", 30, 1), False),
        (Place("train", 3, 0), Place("val", 7, 0), False),
    ]
    assert all(0.96 <= pair.similarity < 1.0001 for pair in audit.alike.pairs)
    assert find(to_findings(audit), "almost equal") == (
        "2 pairs of films are almost equal without being identical (similarity 0.96 or more), 1 of them "
        "across splits, 1 with different labels: an altered copy, or one patient twice."
    )


def test_mirrored_copies_are_almost_equal(clean):
    put(clean, ("test", 7), clean["train"].images[3][:, ::-1])
    assert audit_films(clean).alike.pairs == [
        Pair(Place("train", 3, 0), Place("test", 7, 0), 1.0, mirrored=True)
    ]


def test_identical_films_are_not_called_almost_equal(clean):
    symmetric = clean["train"].images[0] // 2 + clean["train"].images[0][:, ::-1] // 2
    for target in [("train", 0), ("train", 1), ("val", 0)]:
        put(clean, target, symmetric)
    alike = audit_films(clean).alike
    assert sum(alike.counts.values()) == 0
    assert max(pair.similarity for pair in alike.closest.values()) < 0.5


def test_tiles_change_nothing(clean, monkeypatch):
    put(clean, ("val", 7), brighten(clean["train"].images[3]))
    put(clean, ("train", 39), brighten(clean["train"].images[2]))
    whole = audit_films(clean).alike
    monkeypatch.setattr(module, "TILE", 7)
    monkeypatch.setattr(module, "FILMS_AT_ONCE", 3)
    tiled = audit_films(clean).alike
    assert (tiled.counts, tiled.pairs) == (whole.counts, whole.pairs)
    assert list(tiled.closest) == [
        "train/train",
        "train/val",
        "train/test",
        "val/val",
        "val/test",
        "test/test",
    ]
    assert tiled.closest == whole.closest


def test_pairs_agree_with_plain_correlation(clean):
    closest = audit_films(clean).alike.closest["train/val"]
    detail = {}
    for split in ("train", "val"):
        images = clean[split].images.astype(np.float64)
        blurred = module.gaussian_filter(images, (0, 2, 2))
        detail[split] = (images - blurred).reshape(len(images), -1)
    n = len(clean["train"])
    mirrored = detail["train"].reshape(n, 28, 28)[:, :, ::-1].reshape(n, -1)
    best = max(np.corrcoef(side, detail["val"])[:n, n:].max() for side in (detail["train"], mirrored))
    assert closest.similarity == pytest.approx(best, abs=1e-4)


def test_only_the_most_similar_pairs_are_kept(clean, monkeypatch):
    monkeypatch.setattr(module, "PAIRS_KEPT", 2)
    monkeypatch.setattr(module, "TILE", 8)
    lot = np.random.default_rng(0)
    for index in range(10, 15):
        noise = lot.integers(0, index - 9, (28, 28)).astype(np.uint8)
        put(clean, ("train", index), clean["train"].images[3] + noise + (index == 10))
    alike = audit_films(clean).alike
    assert alike.counts["train/train"] == 15
    assert [(pair.first.index, pair.second.index) for pair in alike.pairs] == [(3, 10), (3, 11)]


def test_large_films_are_averaged_down():
    averaging = module._to_averaging(5, 2)
    np.testing.assert_allclose(averaging, [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], rtol=1e-6)
    films = draw_films(6, seed=1)
    large = FilmArray(films.images.repeat(3, 1).repeat(3, 2), films.labels)
    alike = audit_films({"train": films, "val": large}).alike
    assert (alike.height, alike.width) == (28, 28)
    assert [(p.first.index, p.second.index) for p in alike.pairs] == [(i, i) for i in range(6)]


def test_films_below_28_pixels_stay_as_they_are():
    alike = audit_films({"train": draw_films(6, seed=1, size=20)}).alike
    assert (alike.height, alike.width) == (20, 20)


def test_blank_films_are_told_and_resemble_nothing(clean):
    for index, grey in enumerate((0, 7, 255)):
        put(clean, ("train", index), np.full((28, 28), grey, np.uint8))
    audit = audit_films(clean)
    assert audit.splits["train"].blank == 3
    assert sum(audit.alike.counts.values()) == 0
    assert "3 training films of one grey level show nothing." in to_findings(audit)


def test_phantoms_are_not_almost_equal():
    splits = {
        split: build_phantom_films(n, size=28, seed=n) for split, n in {"train": 640, "test": 400}.items()
    }
    assert sum(audit_films(splits).alike.counts.values()) == 0


def test_another_similarity_can_be_asked(clean):
    assert audit_films(clean, similarity=0.01).alike.counts["train/train"] > 100


def test_prior_shift_is_told_when_it_is_large_and_no_chance():
    splits = {"train": draw_films(400, seed=1, pneumonia=300), "test": draw_films(400, seed=2, pneumonia=200)}
    audit = audit_films(splits)
    (shift,) = audit.prior_shifts
    assert (shift.first, shift.second, shift.difference) == ("train", "test", -0.25)
    assert shift.p == pytest.approx(stats.fisher_exact([[100, 300], [200, 200]]).pvalue)
    assert to_findings(audit)[0] == (
        "Pneumonia is 75.0 % of the training films but 50.0 % of the test films: accuracy, precision and "
        "calibration do not carry over; sensitivity, specificity and AUC do not depend on it."
    )


def test_prior_shift_of_a_few_films_may_be_chance():
    audit = audit_films({"train": draw_films(8, seed=1, pneumonia=6), "test": draw_films(8, seed=2)})
    assert not find(to_findings(audit), "Pneumonia is")


def test_exposure_is_that_of_each_film():
    films = FilmArray(np.array([[[0, 0], [200, 200]], [[50, 50], [50, 50]]], np.uint8), np.array([0, 1]))
    exposure = measure_exposure(films.images)
    assert exposure["mean grey"].tolist() == [100, 50]
    assert exposure["contrast"].tolist() == [100, 0]


def test_exposure_shift_agrees_with_its_definition():
    a, b = draw_films(60, seed=1), draw_films(30, seed=2, level=104)
    audit = audit_films({"train": a, "test": b})
    shift = next(s for s in audit.exposure_shifts if (s.measure, s.films) == ("mean grey", "all"))
    x, y = (films.images.mean(axis=(1, 2)) for films in (a, b))
    pooled = math.sqrt((59 * x.var(ddof=1) + 29 * y.var(ddof=1)) / 88)
    assert shift.d == pytest.approx((y.mean() - x.mean()) / pooled)
    assert shift.ks == pytest.approx(stats.ks_2samp(x, y).statistic)
    assert shift.is_notable
    words = find(to_findings(audit), "mean grey of all films")
    means = f"{x.mean():.1f} in training and {y.mean():.1f} in test"
    assert words.startswith(f"Exposure differs: mean grey of all films, {means} (d ")
    assert f"(d {shift.d:+.2f}, Kolmogorov-Smirnov {shift.ks:.2f}, p " in words


def test_a_single_film_has_no_spread():
    audit = audit_films({"train": draw_films(4, seed=1), "test": draw_films(1, seed=2, pneumonia=0)})
    assert math.isnan(audit.splits["test"].exposure["mean grey"]["all"].sd)
    assert math.isnan(audit.splits["test"].exposure["mean grey"]["pneumonia"].mean)
    assert math.isnan(audit.splits["test"].separation["contrast"])
    assert all(math.isnan(shift.d) and not shift.is_notable for shift in audit.exposure_shifts)
    assert not find(to_findings(audit), "Exposure")
    json.dumps(audit.to_dict(), allow_nan=False)
    assert "nan" not in format_audit(audit, heading="")


def test_exposure_that_tells_the_classes_apart_is_told():
    films = draw_films(40, seed=1)
    films.images[20:] += np.arange(10, dtype=np.uint8).repeat(2)[:, None, None]
    audit = audit_films({"train": films})
    auc = roc_auc_score(films.labels, films.images.mean(axis=(1, 2)))
    assert audit.splits["train"].separation["mean grey"] == pytest.approx(auc)
    assert (
        f"Mean grey alone tells the classes apart with AUC {auc:.2f} in training: a classifier must do "
        "better than that."
    ) in to_findings(audit)
    turned = audit_films({"train": FilmArray(films.images, 1 - films.labels)})
    assert turned.splits["train"].separation["mean grey"] == pytest.approx(auc)


def test_the_text_is_narrow_and_ends_with_the_findings(clean):
    for index in range(10):
        put(clean, ("test", index), brighten(clean["train"].images[index]))
    audit = audit_films(clean)
    text = format_audit(audit, heading="Ten copies")
    assert max(map(len, text.splitlines())) < 80
    assert text.startswith(
        "Ten copies\n\n"
        "                        films     normal  pneumonia        prior        size\n"
        "train                      40         20         20       50.0 %     28 x 28\n"
    )
    assert "and 4 more in the JSON document" in text
    assert text.splitlines().count("val                                      0          0") == 2
    told = " ".join(text.split("Findings\n")[1].replace("\n  ", " ").removeprefix("- ").split("\n- "))
    assert told == " ".join(to_findings(audit))


def test_the_document_holds_everything(clean):
    put(clean, ("val", 7), brighten(clean["train"].images[3]))
    document = json.loads(json.dumps(audit_films(clean).to_dict(), allow_nan=False))
    assert list(document) == ["splits", "identical", "alike", "prior_shifts", "exposure_shifts"]
    assert document["alike"]["pairs"][0]["second"] == {"split": "val", "index": 7, "label": 0}
    assert document["splits"]["train"]["exposure"]["contrast"]["normal"]["n"] == 20


def test_an_empty_split_is_refused():
    none = FilmArray(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64))
    with pytest.raises(DataError, match=r"films in every split\. Received: none in split 'val'"):
        audit_films({"train": draw_films(2, seed=0), "val": none})


@pytest.mark.real_data
def test_pneumonia_mnist_holds_the_known_repeats():
    audit = audit_films({split: load_archive(REAL, split, size=28) for split in SPLITS})
    assert audit.identical.repeats == {"train": 18, "val": 0, "test": 3}
    assert audit.identical.shared == {"train/val": 8, "train/test": 0, "val/test": 0}
    assert (audit.identical.conflicts, sum(audit.alike.counts.values())) == (0, 0)
    findings = to_findings(audit)
    assert find(findings, "Pneumonia is").startswith("Pneumonia is 74.2 % of the training films but 62.5 %")
    assert find(findings, "8 training films are also in validation: 1.5 %")
    assert find(findings, "Exposure hardly differs between splits.")
    assert find(findings, "Contrast alone tells the classes apart with AUC 0.81 in training")
