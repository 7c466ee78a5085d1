import itertools
from dataclasses import asdict

import numpy as np
import pytest

from pneumo_keras.errors import DataError
from pneumo_keras.evaluation.intervals import to_wilson_interval
from pneumo_keras.evaluation.reliability import (
    to_bin_edges,
    to_bin_index,
    to_bin_members,
    to_calibration_error,
    to_reliability_bins,
)


def to_naive_error(labels, scores, edges):
    error = 0.0
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = [
            image
            for image, score in enumerate(scores)
            if low < score <= high or (number == 0 and score == low)
        ]
        if inside:
            promised = sum(scores[image] for image in inside) / len(inside)
            true = sum(labels[image] for image in inside) / len(inside)
            error += len(inside) / len(scores) * abs(promised - true)
    return error


@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("digits", [None, 1])
def test_the_error_agrees_with_a_plain_loop(draw_images, bins, binning, digits):
    labels, scores = draw_images(auc=0.8, digits=digits)
    edges = to_bin_edges(scores, bins=bins, binning=binning)
    error = to_calibration_error(labels, scores, bins=bins, binning=binning)
    assert error == pytest.approx(to_naive_error(labels, scores, edges), abs=1e-12)


def test_the_error_by_hand():
    labels, scores = np.array([0, 1, 1, 1]), np.array([0.2, 0.4, 0.7, 0.9])
    # Two bins: |0.3 - 0.5| and |0.8 - 1|, half of the images each.
    assert to_calibration_error(labels, scores, bins=2) == pytest.approx(0.2)


def test_a_score_on_an_edge_belongs_to_the_bin_below():
    edges = to_bin_edges(np.array([0.5]), bins=2)
    assert to_bin_index(np.array([0.0, 0.5, 0.51, 1.0]), edges).tolist() == [0, 0, 1, 1]


def test_bins_of_equal_mass_hold_about_equally_many_images(draw_images):
    labels, scores = draw_images()
    table = to_reliability_bins(labels, scores, bins=12, binning="mass")
    assert {row.n for row in table} == {52}


@pytest.mark.parametrize(
    ("scores", "edges"), [([0.1, 0.2, 0.6, 0.7], [0.0, 0.2, 1.0]), ([0.3, 0.3, 0.3, 0.3], [0.0, 0.3, 1.0])]
)
def test_bins_of_equal_mass_end_on_scores(scores, edges):
    bins = 2 if len(set(scores)) > 1 else 4
    assert to_bin_edges(np.array(scores), bins=bins, binning="mass").tolist() == edges


def test_equal_scores_share_a_bin():
    labels, scores = np.array([0, 1, 1, 0]), np.array([0.3, 0.3, 0.3, 1.0])
    assert [row.n for row in to_reliability_bins(labels, scores, bins=4, binning="mass")] == [3, 1]


def test_every_image_is_a_member_of_one_bin(draw_images):
    labels, scores = draw_images(digits=1)
    members = to_bin_members(scores)
    assert members.shape == (624, 15) and (members.sum(axis=1) == 1).all()
    assert np.abs(members.T @ (scores - labels)).sum() / 624 == pytest.approx(
        to_calibration_error(labels, scores)
    )


def test_the_table_by_hand():
    labels, scores = np.array([0, 1, 1]), np.array([0.1, 0.2, 0.9])
    first, last = (asdict(row) for row in to_reliability_bins(labels, scores, bins=4))
    half, whole = to_wilson_interval(1, 2), to_wilson_interval(1, 1)
    assert first == pytest.approx(
        {
            "low": 0.0,
            "high": 0.25,
            "n": 2,
            "mean_score": 0.15,
            "share": 0.5,
            "share_low": half.low,
            "share_high": half.high,
        }
    )
    assert (last["low"], last["high"], last["n"], last["share"]) == (0.75, 1.0, 1, 1.0)
    assert last["share_low"] == whole.low


def test_the_table_sums_up_to_the_error(draw_images):
    labels, scores = draw_images(auc=0.8)
    table = to_reliability_bins(labels, scores)
    error = sum(row.n * abs(row.mean_score - row.share) for row in table) / 624
    assert sum(row.n for row in table) == 624
    assert error == pytest.approx(to_calibration_error(labels, scores))


def test_no_images_have_no_table():
    with pytest.raises(DataError, match="nothing to evaluate"):
        to_reliability_bins(np.array([], dtype=np.int64), np.array([]))


def test_a_bin_at_a_stated_prevalence_by_hand():
    # A quarter of the images of a bin is pneumonia where half of all are. With odds of pneumonia of 1 to 9
    # instead, each pneumonia image weighs 0.2 and each normal one 1.8: 0.2 / (0.2 + 3 * 1.8).
    labels, scores = np.array([0, 0, 0, 1, 1, 1, 1, 0]), np.array([0.1] * 4 + [0.9] * 4)
    first, _ = to_reliability_bins(labels, scores, bins=2, prevalence=0.1)
    assert (first.share, first.mean_score) == pytest.approx((0.2 / 5.6, 0.1))
    wilson = to_wilson_interval(1, 4)
    odds = [bound / (1 - bound) / 9 for bound in (wilson.low, wilson.high)]
    assert [first.share_low, first.share_high] == pytest.approx([odd / (1 + odd) for odd in odds])


def test_the_error_at_a_stated_prevalence_is_that_of_images_drawn_to_it(draw_images):
    labels, scores = draw_images(normal=20, pneumonia=40, auc=0.8)
    more = np.where(labels == 1, 1, 18)
    expected = to_calibration_error(np.repeat(labels, more), np.repeat(scores, more))
    assert to_calibration_error(labels, scores, prevalence=0.1) == pytest.approx(expected)
    table = to_reliability_bins(labels, scores, prevalence=0.1)
    written_out = to_reliability_bins(np.repeat(labels, more), np.repeat(scores, more))
    for row, other in zip(table, written_out, strict=True):
        assert (row.share, row.mean_score) == pytest.approx((other.share, other.mean_score))
