import numpy as np
import pytest

from pneumo_keras.features.store import SLICE, FeatureTable
from pneumo_keras.training.fit import compute_moments

RANDOM = np.random.default_rng(0)
VIEWS = [RANDOM.normal(center, 2, (SLICE + 7, 4)).astype(np.float32) for center in (3, 5)]
WHOLE = np.concatenate(VIEWS).astype(np.float64)


def test_moments_are_those_of_all_views():
    mean, variance = compute_moments(VIEWS)
    np.testing.assert_allclose(mean, WHOLE.mean(axis=0))
    np.testing.assert_allclose(variance, WHOLE.var(axis=0))


def test_views_without_weights_may_be_of_other_images():
    mean, variance = compute_moments([WHOLE[:5].astype(np.float32), WHOLE[5:].astype(np.float32)])
    np.testing.assert_allclose(mean, WHOLE.mean(axis=0))
    np.testing.assert_allclose(variance, WHOLE.var(axis=0))


def test_tables_are_read_twice_whatever_the_number_of_folds(tmp_path, monkeypatch):
    tables = []
    for index, view in enumerate(VIEWS):
        np.save(tmp_path / f"{index}.npy", view)
        tables.append(FeatureTable({"mixed10": tmp_path / f"{index}.npy"}, len(view)))
    read = []
    get = FeatureTable.__getitem__
    monkeypatch.setattr(
        FeatureTable, "__getitem__", lambda table, rows: read.append(rows) or get(table, rows)
    )
    masks = np.arange(len(VIEWS[0]))[:, None] % 5 != np.arange(5)
    found = compute_moments(tables, masks)
    assert len(read) == 2 * 2 * 2
    for mine, theirs in zip(found, compute_moments(VIEWS, masks), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_each_fold_has_the_moments_of_the_images_outside_it():
    folds = np.arange(len(VIEWS[0])) % 3
    mean, variance = compute_moments(VIEWS, folds[:, None] != np.arange(3))
    for fold in range(3):
        fitted = np.concatenate([view[folds != fold] for view in VIEWS]).astype(np.float64)
        np.testing.assert_allclose(mean[fold], fitted.mean(axis=0))
        np.testing.assert_allclose(variance[fold], fitted.var(axis=0))


def test_an_image_of_weight_two_counts_twice():
    weights = np.ones(len(VIEWS[0]))
    weights[3] = 2
    mean, variance = compute_moments(VIEWS[:1], weights)
    twice = np.concatenate([VIEWS[0], VIEWS[0][3:4]]).astype(np.float64)
    np.testing.assert_allclose(mean, twice.mean(axis=0))
    np.testing.assert_allclose(variance, twice.var(axis=0))


@pytest.mark.parametrize("weights", [None, np.ones((1000, 2), bool)])
def test_small_variances_about_large_means_survive(weights):
    view = (1000 + np.tile([[-0.125], [0.125]], (500, 1))).astype(np.float32)
    _, variance = compute_moments([view], weights)
    np.testing.assert_allclose(variance, 0.125**2)
