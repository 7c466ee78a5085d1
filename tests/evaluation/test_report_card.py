import json
import time

import numpy as np
import pytest

from pneumo_keras.errors import DataError, RunError
from pneumo_keras.evaluation.combined_intervals import to_mean_interval
from pneumo_keras.evaluation.figures import to_figures
from pneumo_keras.evaluation.intervals import (
    to_auc_interval,
    to_precision_interval,
    to_wilson_interval,
)
from pneumo_keras.evaluation.loss_intervals import to_loss_interval
from pneumo_keras.evaluation.metrics import count_confusions
from pneumo_keras.evaluation.prevalence import PrevalenceShift, weigh_images
from pneumo_keras.evaluation.report_card import Metrics, evaluate, evaluate_at, to_metrics
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
        "average_precision": "bootstrap, stratified, logit t",
        "accuracy": "Wilson",
        "balanced_accuracy": "MOVER of Wilson",
        "sensitivity": "Wilson",
        "specificity": "Wilson",
        "precision_pneumonia": "Wilson",
        "precision_normal": "Wilson",
        "f1_pneumonia": "MOVER of Wilson",
        "f1_normal": "MOVER of Wilson",
        "brier_loss": "Hall, Welch's t",
        "log_loss": "Hall, Welch's t",
        "calibration_error": "bootstrap, stratified, test inversion",
        "prevalence": "Wilson",
    }


def test_counts_and_closed_intervals_are_those_of_the_images(draw_images):
    labels, scores = draw_images(auc=0.8)
    at_threshold = evaluate_at(labels, scores, 0.5, resamples=10, seed=0, level=0.9)
    counts, figures = count_confusions(labels, scores, 0.5), at_threshold.figures
    assert at_threshold.counts == counts
    assert figures["auc"] == to_auc_interval(labels, scores, level=0.9)
    assert figures["accuracy"] == to_wilson_interval(counts.tn + counts.tp, 624, level=0.9)
    assert figures["sensitivity"] == to_wilson_interval(counts.tp, 390, level=0.9)
    assert figures["specificity"] == to_wilson_interval(counts.tn, 234, level=0.9)
    assert figures["precision_pneumonia"] == to_wilson_interval(counts.tp, counts.tp + counts.fp, level=0.9)
    assert figures["precision_normal"] == to_wilson_interval(counts.tn, counts.tn + counts.fn, level=0.9)
    assert figures["prevalence"] == to_wilson_interval(390, 624, level=0.9)


def test_the_report_is_plain_json(draw_images):
    labels, scores = draw_images()
    document = to_document(evaluate_at(labels, scores, 0.5, resamples=50, seed=3))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert list(document) == [
        "n",
        "threshold",
        "tn",
        "fp",
        "fn",
        "tp",
        "figures",
        "level",
        "resamples",
        "seed",
        "stated_prevalence",
        "trained_prevalence",
        "short_intervals",
        "patients",
    ]
    assert (document["n"], document["threshold"], document["resamples"], document["seed"]) == (
        624,
        0.5,
        50,
        3,
    )
    assert document["tn"] + document["fp"] == 234
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


def test_a_flawless_classifier_is_not_called_certain():
    labels, scores = np.repeat([0, 1], [30, 50]), np.repeat([0.0, 1.0], [30, 50])
    figures = to_document(evaluate_at(labels, scores, 0.5, resamples=50, seed=0))["figures"]
    for name in ("auc", "accuracy", "sensitivity", "specificity", "balanced_accuracy", "f1_normal"):
        assert figures[name]["high"] == 1.0 and 0.8 < figures[name]["low"] < 0.99
    for name in ("average_precision", "brier_loss", "log_loss", "calibration_error"):
        assert figures[name]["low"] is figures[name]["high"] is None


def test_one_image_is_evaluated():
    document = to_document(evaluate_at(np.array([1]), np.array([0.8]), 0.5, resamples=10, seed=0))
    assert document["figures"]["sensitivity"]["value"] == 1.0


def test_no_images_are_an_error():
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate_at(np.array([], dtype=np.int64), np.array([]), 0.5, seed=0)


SHIFT = PrevalenceShift(trained=0.5, stated=0.1)
OF_THE_SHARE = ("accuracy", "precision_pneumonia", "f1_pneumonia", "average_precision", "brier_loss")


def test_a_stated_prevalence_changes_no_call_at_either_threshold(draw_images):
    labels, scores = draw_images(auc=0.9)
    plain, corrected = (
        evaluate(labels, scores, 0.3, members=[scores, scores**2], seed=0, shift=shift)
        for shift in (None, SHIFT)
    )
    assert corrected.at_threshold.counts == plain.at_threshold.counts
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
    assert figures["accuracy"] == to_mean_interval(
        figures["accuracy"].value, figures["sensitivity"], figures["specificity"], share=0.1
    )
    assert figures["sensitivity"] == to_wilson_interval(counts.tp, 390)
    assert figures["specificity"] == to_wilson_interval(counts.tn, 234)
    assert figures["precision_pneumonia"] == to_precision_interval(
        counts.tp, 390, counts.fp, 234, prevalence=0.1
    )
    assert figures["precision_normal"] == to_precision_interval(
        counts.tn, 234, counts.fn, 390, prevalence=0.9
    )
    weighted = weigh_images(labels, 0.1) * (SHIFT.correct_scores(scores) - labels) ** 2
    assert figures["brier_loss"] == to_loss_interval(figures["brier_loss"].value, labels, weighted)
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
    metrics = to_metrics(evaluation, split="val", images_sha256="f", labels_sha256="l", scores_sha256="s")
    document = to_document(metrics)
    expected = {**to_document(evaluation.at_threshold), "at_0.5": to_document(evaluation.at_half)}
    assert expected.items() <= document.items()
    assert set(document["members"]["auc"]) == {"mean", "deviation", "values"}
    assert (document["split"], document["images_sha256"], document["labels_sha256"]) == ("val", "f", "l")
    back = parse_document(Metrics, json.dumps(document, allow_nan=False), name="metrics_val.json")
    assert back == metrics


def test_damaged_metrics_are_an_error():
    with pytest.raises(RunError, match=r"^metrics_val\.json is damaged: 'n' is missing\."):
        parse_document(Metrics, "{}", name="metrics_val.json")


@pytest.mark.slow
def test_two_thousand_resamples_take_less_than_a_second(draw_images):
    labels, scores = draw_images()
    evaluate_at(labels, scores, 0.5, seed=0)
    started = time.process_time()
    evaluate_at(labels, scores, 0.5, seed=0)
    assert time.process_time() - started < 1


def test_images_out_of_distribution_are_counted_by_grade_and_left_out(draw_images):
    labels, scores = draw_images(auc=0.9)
    distances = np.full(len(labels), 0.7)
    distances[:10], distances[10:14], distances[14] = 1.2, 1.6, 1.0
    evaluation = evaluate(labels, scores, 0.5, members=[], seed=1, distances=distances)
    outside = evaluation.out_of_distribution
    assert outside is not None and outside.inside is not None
    assert (outside.outside, outside.far_outside, outside.n) == (10, 4, 14)
    assert outside.inside == evaluate_at(labels[14:], scores[14:], 0.5, seed=1)
    assert evaluation.at_threshold == evaluate_at(labels, scores, 0.5, seed=1)


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
    metrics = to_metrics(evaluation, split="test", images_sha256="f", labels_sha256="l", scores_sha256="s")
    text = json.dumps(to_document(metrics))
    assert parse_document(Metrics, text, name="m").out_of_distribution == evaluation.out_of_distribution
