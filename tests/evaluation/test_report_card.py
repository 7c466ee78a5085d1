import json
import math

import numpy as np
import pytest

from pneumo_keras.errors import DataError, RunError
from pneumo_keras.evaluation.intervals import to_auc_interval, to_wilson_interval
from pneumo_keras.evaluation.metrics import count_confusions, to_figures
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.report_card import (
    Metrics,
    ThresholdMetrics,
    evaluate,
    evaluate_at,
    to_member_figures,
)
from pneumo_keras.storage.documents import parse_document, to_document


def test_every_figure_is_reported_with_its_interval(draw_images):
    labels, scores = draw_images(auc=0.9)
    at_threshold = evaluate_at(labels, scores, 0.4, resamples=500, seed=0)
    assert {name: figure.value for name, figure in at_threshold.figures.items()} == pytest.approx(
        to_figures(labels, scores, scores > 0.4), abs=1e-12
    )
    for figure in at_threshold.figures.values():
        assert figure.low <= figure.value <= figure.high
        assert figure.high - figure.low < 0.2


def test_each_figure_has_the_interval_that_suits_it(draw_images):
    labels, scores = draw_images()
    figures = evaluate_at(labels, scores, 0.5, resamples=100, seed=0).figures
    assert {name: figure.method for name, figure in figures.items()} == {
        "auc": "DeLong, logit",
        "average_precision": "bootstrap, Student's t, logit",
        "accuracy": "Wilson",
        "balanced_accuracy": "bootstrap, Student's t, logit",
        "sensitivity": "Wilson",
        "specificity": "Wilson",
        "precision_pneumonia": "Wilson",
        "precision_normal": "Wilson",
        "f1_pneumonia": "bootstrap, Student's t, logit",
        "f1_normal": "bootstrap, Student's t, logit",
        "brier_loss": "bootstrap, Student's t, logit",
        "log_loss": "bootstrap, Student's t, log",
        "calibration_error": "bootstrap, Student's t, less chance",
        "prevalence": "Wilson",
    }


def assert_equal(found, expected):
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert found.method == expected.method


def test_counts_and_closed_intervals_are_those_of_the_images(draw_images):
    labels, scores = draw_images(auc=0.8)
    at_threshold = evaluate_at(labels, scores, 0.5, resamples=10, seed=0)
    counts, figures = count_confusions(labels, scores, 0.5), at_threshold.figures
    assert at_threshold.counts == counts
    assert_equal(figures["auc"], to_auc_interval(labels, scores))
    for name, part, whole in (
        ("accuracy", counts.tn + counts.tp, 624),
        ("sensitivity", counts.tp, 390),
        ("specificity", counts.tn, 234),
        ("precision_pneumonia", counts.tp, counts.tp + counts.fp),
        ("precision_normal", counts.tn, counts.tn + counts.fn),
        ("prevalence", 390, 624),
    ):
        assert_equal(figures[name], to_wilson_interval(part / whole, whole))


def test_the_report_is_plain_json(draw_images):
    labels, scores = draw_images()
    document = to_document(evaluate_at(labels, scores, 0.5, resamples=50, seed=3))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert list(document) == [
        *("n", "threshold", "counts", "figures", "resamples", "seed"),
        *("stated_prevalence", "trained_prevalence", "short_intervals", "patients"),
    ]
    assert (document["n"], document["threshold"]) == (624, 0.5)
    assert document["counts"]["tn"] + document["counts"]["fp"] == 234
    assert set(document["figures"]["auc"]) == {"value", "low", "high", "method"}


def test_the_same_seed_gives_the_same_report(draw_images):
    labels, scores = draw_images()
    first, again = (evaluate_at(labels, scores, 0.5, resamples=100, seed=1) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_gaps_and_no_warnings(label):
    labels, scores = np.full(6, label), np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    document = to_document(evaluate_at(labels, scores, 0.5, resamples=20, seed=0))
    json.dumps(document, allow_nan=False)
    for name in ("auc", "average_precision", "balanced_accuracy", "specificity" if label else "sensitivity"):
        figure = document["figures"][name]
        assert (figure["value"], figure["low"], figure["high"]) == (None, None, None)
    assert document["figures"]["accuracy"]["value"] == 0.5
    assert document["figures"]["brier_loss"]["low"] is not None


def test_a_flawless_classifier_is_not_taken_as_certain():
    labels, scores = np.repeat([0, 1], [30, 50]), np.repeat([0.0, 1.0], [30, 50])
    figures = to_document(evaluate_at(labels, scores, 0.5, resamples=50, seed=0))["figures"]
    for name in ("auc", "accuracy", "sensitivity", "specificity", "precision_normal"):
        assert figures[name]["high"] == 1.0 and 0.8 < figures[name]["low"] < 0.99
    for name in ("average_precision", "balanced_accuracy", "f1_normal", "brier_loss", "log_loss"):
        assert figures[name]["low"] is figures[name]["high"] is None


def test_one_image_is_evaluated():
    document = to_document(evaluate_at(np.array([1]), np.array([0.8]), 0.5, resamples=10, seed=0))
    assert document["figures"]["sensitivity"]["value"] == 1.0


def test_no_images_are_an_error():
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate_at(np.array([], dtype=np.int64), np.array([]), 0.5, seed=0)


SPLIT = {"split": "val", "images_sha256": "f", "labels_sha256": "l", "scores_sha256": "s"}
SHIFT = PrevalenceShift(trained=0.5, stated=0.1)
OF_THE_SHARE = ("accuracy", "precision_pneumonia", "f1_pneumonia", "average_precision", "brier_loss")


def test_a_stated_prevalence_changes_no_prediction_at_either_threshold(draw_images):
    labels, scores = draw_images(auc=0.9)
    plain, corrected = (
        evaluate(labels, scores, 0.3, members=[scores, scores**2], seed=0, shift=shift)
        for shift in (None, SHIFT)
    )
    assert corrected.counts == plain.counts
    assert corrected.at_half.counts == plain.at_half.counts
    assert corrected.at_half.threshold == pytest.approx(0.1)  # even odds, and one to nine after
    assert corrected.members["sensitivity"].values == pytest.approx(plain.members["sensitivity"].values)
    assert corrected.members["accuracy"] != plain.members["accuracy"]


def test_figures_at_a_stated_prevalence_speak_of_that_population(draw_images):
    labels, scores = draw_images(auc=0.9)
    at_threshold = evaluate_at(labels, scores, 0.3, resamples=300, seed=0, shift=SHIFT)
    assert (at_threshold.stated_prevalence, at_threshold.trained_prevalence) == (0.1, 0.5)
    expected = to_figures(labels, SHIFT.correct_scores(scores), scores > 0.3, prevalence=0.1)
    assert {name: figure.value for name, figure in at_threshold.figures.items()} == pytest.approx(expected)
    for figure in at_threshold.figures.values():
        assert figure.low <= figure.value <= figure.high
    plain = evaluate_at(labels, scores, 0.3, resamples=300, seed=0)
    for name in ("auc", "sensitivity", "specificity"):
        found, same = at_threshold.figures[name], plain.figures[name]
        assert (found.value, found.low, found.high) == pytest.approx((same.value, same.low, same.high))
    for name in OF_THE_SHARE:
        assert at_threshold.figures[name].value != plain.figures[name].value
    assert (plain.stated_prevalence, plain.trained_prevalence) == (None, None)


def test_intervals_at_a_stated_prevalence_are_those_that_suit_it(draw_images):
    labels, scores = draw_images(auc=0.9)
    at_threshold = evaluate_at(labels, scores, 0.3, resamples=100, seed=0, shift=SHIFT)
    counts, figures = at_threshold.counts, at_threshold.figures
    for name in ("accuracy", "precision_pneumonia", "precision_normal"):
        assert figures[name].method == "bootstrap, Student's t, logit"
    assert_equal(figures["sensitivity"], to_wilson_interval(counts.tp / 390, 390))
    assert_equal(figures["specificity"], to_wilson_interval(counts.tn / 234, 234))
    stated = figures["prevalence"]
    assert (stated.value, stated.low, stated.high, stated.method) == (0.1, 0.1, 0.1, "stated")


def test_a_stated_prevalence_takes_both_classes():
    with pytest.raises(DataError, match="takes normal and pneumonia images"):
        evaluate_at(np.array([1, 1]), np.array([0.2, 0.8]), 0.5, seed=0, shift=SHIFT)


def test_scores_corrected_for_the_images_own_share_are_evaluated_as_before(draw_images):
    labels, scores = draw_images(auc=0.9)
    share = 390 / 624
    plain = evaluate_at(labels, scores, 0.3, resamples=50, seed=0)
    corrected = evaluate_at(labels, scores, 0.3, resamples=50, seed=0, shift=PrevalenceShift(share, share))
    for name, figure in plain.figures.items():
        assert corrected.figures[name].value == pytest.approx(figure.value)


@pytest.mark.parametrize("shift", [None, SHIFT])
def test_the_metrics_of_a_split_survive_json(draw_images, shift):
    labels, scores = draw_images()
    evaluation = evaluate(labels, scores, 0.3, members=[scores, scores**2], seed=3, shift=shift)
    metrics = Metrics(**vars(evaluation), **SPLIT)
    document = to_document(metrics)
    assert to_document(evaluation).items() <= document.items()
    assert document["at_0.5"] == to_document(evaluation.at_half)
    assert set(document["members"]["auc"]) == {"mean", "deviation", "values"}
    assert SPLIT.items() <= document.items()
    back = parse_document(Metrics, json.dumps(document, allow_nan=False), name="metrics_val.json")
    assert back == metrics


def test_damaged_metrics_are_an_error():
    with pytest.raises(RunError, match=r"^metrics_val\.json is damaged: 'n' is missing\."):
        parse_document(Metrics, "{}", name="metrics_val.json")


def test_images_out_of_distribution_are_counted_by_grade_and_left_out(draw_images):
    labels, scores = draw_images(auc=0.9)
    distances = np.full(len(labels), 0.7)
    distances[:10], distances[10:14], distances[14] = 1.2, 1.6, 1.0
    evaluation = evaluate(labels, scores, 0.5, members=[], seed=1, distances=distances)
    outside = evaluation.out_of_distribution
    assert outside is not None and outside.inside is not None
    assert (outside.outside, outside.far_outside, outside.n) == (10, 4, 14)
    assert outside.inside == evaluate_at(labels[14:], scores[14:], 0.5, seed=1)
    whole = evaluate_at(labels, scores, 0.5, seed=1)
    assert whole == ThresholdMetrics(**{name: getattr(evaluation, name) for name in vars(whole)})


@pytest.mark.parametrize("distance", [0.5, 2.0])
def test_nothing_is_compared_where_none_or_all_images_are_out_of_distribution(draw_images, distance):
    labels, scores = draw_images()
    distances = np.full(len(labels), distance)
    outside = evaluate(labels, scores, 0.5, members=[], seed=1, distances=distances).out_of_distribution
    assert outside is not None and outside.inside is None
    assert outside.n == (distance > 1) * len(labels)


def test_a_stated_prevalence_needs_both_classes_among_those_inside(draw_images):
    labels, scores = draw_images()
    shift = PrevalenceShift(0.5, 0.1)
    distances = np.where(labels == 1, 0.5, 2.0)
    outside = evaluate(labels, scores, 0.5, members=[], seed=1, shift=shift, distances=distances)
    assert outside.out_of_distribution.inside is None


def test_what_was_found_out_of_distribution_is_written_and_read(draw_images):
    labels, scores = draw_images()
    distances = np.linspace(0, 2, len(labels))
    evaluation = evaluate(labels, scores, 0.5, members=[], seed=1, distances=distances)
    text = json.dumps(to_document(Metrics(**vars(evaluation), **SPLIT)))
    assert parse_document(Metrics, text, name="m").out_of_distribution == evaluation.out_of_distribution


def test_members_are_summed_up_figure_by_figure():
    found = to_member_figures([{"auc": 0.8, "f1_normal": math.nan}, {"auc": 0.9, "f1_normal": 0.5}])
    assert (found["auc"].mean, found["auc"].deviation) == pytest.approx((0.85, 0.05 * math.sqrt(2)))
    assert found["auc"].values == (0.8, 0.9)
    assert math.isnan(found["f1_normal"].mean)
    assert math.isnan(to_member_figures([{"auc": 0.8}])["auc"].deviation)
    assert to_member_figures([]) == {}
