import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pneumo_keras.audit import lookalikes
from pneumo_keras.audit.audit import audit_images
from pneumo_keras.audit.lookalikes import Pair
from pneumo_keras.audit.traces import Place, to_averaging
from pneumo_keras.data import images as images_module
from pneumo_keras.data.images import ImageArray
from tests.audit.noise import brighten, draw_images, put
from tests.images import build_phantom_images


def test_altered_copies_are_almost_equal(clean):
    put(clean, ("val", 7), brighten(clean["train"].images[3]))
    put(clean, ("train", 30), clean["train"].images[4] // 2 + 20)
    audit = audit_images(clean)
    assert {key: n for key, n in audit.alike.counts.items() if n} == {"train/train": 1, "train/val": 1}
    assert [(pair.first, pair.second, pair.mirrored) for pair in audit.alike.pairs] == [
        (Place("train", 4, 0), Place("train", 30, 1), False),
        (Place("train", 3, 0), Place("val", 7, 0), False),
    ]
    assert all(0.96 <= pair.similarity < 1.0001 for pair in audit.alike.pairs)
    assert audit.alike.conflicts == 1


def test_mirrored_copies_are_almost_equal(clean):
    put(clean, ("test", 7), clean["train"].images[3][:, ::-1])
    assert audit_images(clean).alike.pairs == [
        Pair(Place("train", 3, 0), Place("test", 7, 0), 1.0, mirrored=True)
    ]


def test_identical_images_are_not_called_almost_equal(clean):
    symmetric = clean["train"].images[0] // 2 + clean["train"].images[0][:, ::-1] // 2
    for target in [("train", 0), ("train", 1), ("val", 0)]:
        put(clean, target, symmetric)
    alike = audit_images(clean).alike
    assert sum(alike.counts.values()) == 0
    assert max(pair.similarity for pair in alike.closest.values()) < 0.5


def test_tiles_change_nothing(clean, monkeypatch):
    put(clean, ("val", 7), brighten(clean["train"].images[3]))
    put(clean, ("train", 39), brighten(clean["train"].images[2]))
    whole = audit_images(clean).alike
    monkeypatch.setattr(lookalikes, "TILE", 7)
    monkeypatch.setattr(images_module.iterate_images, "__defaults__", (3,))
    tiled = audit_images(clean).alike
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
    closest = audit_images(clean).alike.closest["train/val"]
    detail = {}
    for split in ("train", "val"):
        images = clean[split].images.astype(np.float64)
        blurred = gaussian_filter(images, (0, 2, 2))
        detail[split] = (images - blurred).reshape(len(images), -1)
    n = len(clean["train"])
    mirrored = detail["train"].reshape(n, 28, 28)[:, :, ::-1].reshape(n, -1)
    best = max(np.corrcoef(side, detail["val"])[:n, n:].max() for side in (detail["train"], mirrored))
    assert closest.similarity == pytest.approx(best, abs=1e-4)


def test_only_the_most_similar_pairs_are_kept(clean, monkeypatch):
    monkeypatch.setattr(lookalikes, "PAIRS_KEPT", 2)
    monkeypatch.setattr(lookalikes, "TILE", 8)
    lot = np.random.default_rng(0)
    for index in range(10, 15):
        noise = lot.integers(0, index - 9, (28, 28)).astype(np.uint8)
        put(clean, ("train", index), clean["train"].images[3] + noise + (index == 10))
    alike = audit_images(clean).alike
    assert alike.counts["train/train"] == 15
    assert [(pair.first.index, pair.second.index) for pair in alike.pairs] == [(3, 10), (3, 11)]


def test_large_images_are_averaged_down():
    averaging = to_averaging(5, 2)
    np.testing.assert_allclose(averaging, [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], rtol=1e-6)
    images = draw_images(6, seed=1)
    large = ImageArray(images.images.repeat(3, 1).repeat(3, 2), images.labels)
    alike = audit_images({"train": images, "val": large}).alike
    assert (alike.height, alike.width) == (28, 28)
    assert [(p.first.index, p.second.index) for p in alike.pairs] == [(i, i) for i in range(6)]


def test_images_below_28_pixels_stay_as_they_are():
    alike = audit_images({"train": draw_images(6, seed=1, size=20)}).alike
    assert (alike.height, alike.width) == (20, 20)


def test_phantoms_are_not_almost_equal():
    splits = {
        split: build_phantom_images(n, size=28, seed=n) for split, n in {"train": 640, "test": 400}.items()
    }
    assert sum(audit_images(splits).alike.counts.values()) == 0


def test_another_similarity_can_be_asked(clean):
    assert audit_images(clean, similarity=0.01).alike.counts["train/train"] > 100


def test_pairs_with_different_labels_are_counted_beyond_those_that_are_kept(clean, monkeypatch):
    monkeypatch.setattr(lookalikes, "PAIRS_KEPT", 1)
    for index in range(3):
        put(clean, ("val", index), brighten(clean["train"].images[index]), 1)
    alike = audit_images(clean).alike
    assert (sum(alike.counts.values()), alike.conflicts, len(alike.pairs)) == (3, 3, 1)


def test_a_pair_counts_by_the_similarity_that_is_shown(clean):
    closest = audit_images(clean).alike.closest["train/val"]
    assert closest.similarity == round(closest.similarity, 4)
    assert audit_images(clean, similarity=closest.similarity).alike.counts["train/val"] >= 1
