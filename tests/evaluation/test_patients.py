import math

import numpy as np
import pytest
from scipy.special import expit, ndtri, stdtrit

from pneumo_keras.evaluation.bootstrap import draw_figures, draw_resamples
from pneumo_keras.evaluation.comparison import Rivals, compare_aucs, compare_figures, compare_shares
from pneumo_keras.evaluation.figure_intervals import to_call_intervals
from pneumo_keras.evaluation.figures import to_image_losses, to_resampled_figures
from pneumo_keras.evaluation.intervals import (
    to_auc_interval,
    to_auc_variance,
    to_placement_sums,
    to_placements,
    to_share_interval,
)
from pneumo_keras.evaluation.loss_intervals import to_loss_interval
from pneumo_keras.evaluation.patients import (
    PatientCounts,
    count_patients,
    count_rarer,
    to_effective_size,
    to_groups,
    to_variance,
)
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.evaluation.report_card import evaluate_at

LIKENESS = 0.6  # correlation of two images of a patient, within a class
A_PATIENT = 3


def draw_patients(seed, *, normal=10, ill=23, auc=0.95, rivals=1):
    """Labels, patients, and scores of classifiers of one AUC, of three images a patient."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(normal + ill), A_PATIENT)
    labels = (patients >= normal).astype(np.int64)

    def draw_noise():
        own, shared = rng.normal(size=len(patients)), rng.normal(size=normal + ill)[patients]
        return LIKENESS**0.5 * shared + (1 - LIKENESS) ** 0.5 * own

    distance, common = 2**0.5 * ndtri(auc), draw_noise()
    noises = [0.8**0.5 * common + 0.2**0.5 * draw_noise() for _ in range(rivals)]
    return labels, patients, [expit(distance * (noise + distance * (labels - 0.5))) for noise in noises]


def to_values(labels, scores):
    """Every figure, faster than by scikit-learn."""
    images = np.ones((1, len(labels)), dtype=np.int64)
    return {
        name: float(value[0])
        for name, value in to_resampled_figures(labels, scores, scores > 0.5, images).items()
    }


def test_patients_are_numbered_in_the_order_of_their_images():
    assert to_groups(("b", "a", "b", "", "")).tolist() == [0, 1, 0, 2, 3]


@pytest.mark.parametrize("patients", [None, (), ("", ""), ("a", "b", "")])
def test_where_no_patient_has_two_images_each_image_stands_for_itself(patients):
    assert to_groups(patients) is None


def test_patients_are_counted_by_the_class_of_their_images():
    labels, patients = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 2, 2])
    assert count_patients(labels, patients) == PatientCounts(3, 2, 2)
    assert count_rarer(labels, patients) == 2
    assert count_rarer(labels, None) == 2
    assert count_rarer(np.array([1, 1, 1]), np.array([0, 0, 1])) == 2


@pytest.mark.parametrize("shift", [None, PrevalenceShift(0.5, 0.2)])
def test_patients_change_intervals_and_no_figure(shift):
    labels, patients, (scores,) = draw_patients(1)
    options = {"threshold": 0.4, "resamples": 100, "seed": 3, "shift": shift}
    plain = evaluate_at(labels, scores, **options)
    by_patient = evaluate_at(labels, scores, **options, patients=patients)
    assert (plain.patients, by_patient.patients) == (None, PatientCounts(33, 10, 23))
    for name, one in by_patient.figures.items():
        before = plain.figures[name]
        assert one.value == pytest.approx(before.value, abs=1e-12), name
        assert (one.method == "stated") or one.method == f"{before.method}, by patient", name
        assert one.low <= one.value <= one.high, name
    shorter = [
        name
        for name, one in by_patient.figures.items()
        if one.high - one.low < plain.figures[name].high - plain.figures[name].low
    ]
    assert shorter in ([], ["calibration_error"])  # of which chance alone says how low it may be


def test_images_of_one_patient_that_agree_tell_no_more_than_one_of_them(draw_images):
    labels, scores = draw_images(normal=20, pneumonia=30, auc=0.8)
    twice, again = np.repeat(labels, 2), np.repeat(scores, 2)
    patients = np.repeat(np.arange(50), 2)
    variance, _ = to_variance(to_placement_sums(*to_placements(twice, again), twice, patients))
    assert variance == pytest.approx(to_auc_variance(labels, scores))
    for name, losses in to_image_losses(labels, scores).items():
        value = float(losses.mean())
        alone = to_loss_interval(value, labels, losses)
        doubled = to_loss_interval(value, twice, np.repeat(losses, 2), patients)
        assert (doubled.low, doubled.high) == pytest.approx((alone.low, alone.high)), name


def test_the_size_of_a_share_by_hand():
    # Of four patients with two images each, those of one patient agree: the images tell as much as three.
    part, patients = np.array([1, 1, 1, 1, 0, 0, 1, 1], dtype=bool), np.repeat(np.arange(4), 2)
    student = (ndtri(0.975) / stdtrit(3, 0.975)) ** 2
    assert to_effective_size(part, patients, level=0.95) == pytest.approx(3 * student)
    # Nobody knows how alike images are where all are right: a patient is one image.
    assert to_effective_size(np.ones(8, dtype=bool), patients, level=0.95) == pytest.approx(4 * student)
    # Images that differ within each patient tell no more than images of as many patients.
    mixed = np.array([1, 0] * 4, dtype=bool)
    assert to_effective_size(mixed, patients, level=0.95) == pytest.approx(8 * student)
    assert to_effective_size(mixed, None, level=0.95) == 8


def test_a_share_of_one_patient_has_no_interval():
    one = to_share_interval(np.array([True, False]), np.array([True, True]), np.array([0, 0]))
    assert one.value == 0.5
    assert math.isnan(one.low) and math.isnan(one.high)


def test_resamples_draw_patients_and_keep_the_number_of_each_class():
    patients = np.array([0, 0, 1, 2, 2, 2, 3, 4, 4, 5])
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0, 1, 1])  # patient 4 has both
    drawn = np.concatenate(list(draw_resamples(labels, 500, seed=0, patients=patients)))
    for label in (0, 1):
        of_class = drawn[:, labels == label]
        np.testing.assert_allclose(of_class.sum(axis=1), (labels == label).sum())
    assert (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 3] == drawn[:, 5]).all()
    assert len(np.unique(drawn[:, 0])) > 2
    assert (drawn[:, 7] > 0).all()  # without this patient some resamples would lack one with both


def test_the_draws_of_the_auc_spread_as_obuchowskis_variance_says():
    labels, patients, (scores,) = draw_patients(3, normal=100, ill=130)
    (draws,) = draw_figures(labels, [(scores, scores > 0.5)], seed=0, patients=patients)
    variance, _ = to_variance(to_placement_sums(*to_placements(labels, scores), labels, patients))
    assert np.std(draws["auc"]) == pytest.approx(math.sqrt(variance), rel=0.05)
    assert variance > 1.5 * to_auc_variance(labels, scores)


def test_a_patient_may_have_images_of_both_classes():
    labels, patients, scores = draw_patients(5, rivals=2)
    labels[::7] = 1 - labels[::7]
    found = evaluate_at(labels, scores[0], 0.5, resamples=50, seed=1, patients=patients)
    assert all(one.low <= one.value <= one.high for one in found.figures.values())
    thresholds = {"first_threshold": 0.5, "second_threshold": 0.5}
    differences = compare_figures(labels, *scores, **thresholds, resamples=50, seed=1, patients=patients)
    assert all(one.low <= one.value <= one.high for one in differences.values())


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 0, 1]])
@pytest.mark.parametrize("patients", [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 2]])
@pytest.mark.parametrize("scores", [[0.1, 0.2, 0.8, 0.9], [0.5] * 4, [0.9, 0.8, 0.2, 0.6]])
def test_few_patients_have_a_defined_interval_or_none(labels, patients, scores):
    labels, patients, scores = np.array(labels), np.array(patients), np.array(scores)
    found = evaluate_at(labels, scores, 0.5, resamples=20, seed=1, patients=patients)
    for name, one in found.figures.items():
        assert math.isnan(one.low) or one.low <= one.value <= one.high, name
    thresholds = {"first_threshold": 0.5, "second_threshold": 0.5}
    options = {"resamples": 20, "seed": 1, "patients": patients}
    for name, one in compare_figures(labels, scores, scores[::-1].copy(), **thresholds, **options).items():
        assert math.isnan(one.low) or one.low <= one.value <= one.high, name


def test_95_percent_intervals_hold_the_truth_with_three_images_a_patient():
    """Intervals that take each image for a witness of its own hold it in 80 to 90 % of cases."""
    labels, _, (scores,) = draw_patients(0, normal=100_000, ill=230_000)
    truth = to_values(labels, scores)
    held = {"by patient": {}, "by image": {}}
    sets = 200
    for seed in range(sets):
        labels, groups, (scores,) = draw_patients(seed + 1)
        calls, losses = scores > 0.5, to_image_losses(labels, scores)["brier_loss"]
        values = to_values(labels, scores)
        for way, patients in (("by patient", groups), ("by image", None)):
            intervals = {
                "auc": to_auc_interval(labels, scores, patients),
                "brier_loss": to_loss_interval(values["brier_loss"], labels, losses, patients),
                **to_call_intervals(values, labels, calls, None, patients),
            }
            for name, one in intervals.items():
                inside = one.low <= truth[name] <= one.high
                held[way][name] = held[way].get(name, 0) + inside / sets
    assert min(held["by patient"].values()) > 0.9
    others = [share for name, share in held["by image"].items() if name != "prevalence"]
    assert np.mean(others) < 0.9


def test_95_percent_of_differences_hold_none_with_three_images_a_patient():
    sets, held = 300, {"by patient": np.zeros(2), "by image": np.zeros(2)}
    for seed in range(sets):
        labels, groups, scores = draw_patients(seed, auc=0.85, rivals=2)
        for way, patients in (("by patient", groups), ("by image", None)):
            calls = [one > 0.5 for one in scores]
            right = [one == (labels == 1) for one in calls]
            found = compare_aucs(Rivals(labels, *scores, *calls, patients)), compare_shares(*right, patients)
            held[way] += [(one.low <= 0 <= one.high) / sets for one in found]
            assert all((one.p_value < 0.05) <= (not one.low <= 0 <= one.high) for one in found)
    assert (held["by patient"] > 0.92).all()
    assert held["by image"][0] < 0.9


def test_a_figure_stands_where_a_class_of_one_patient_leaves_its_interval_undefined():
    labels = np.array([1, 1, 1, 1, 1, 0, 0, 0])
    scores = np.array([0.9, 0.8, 0.2, 0.7, 0.6, 0.1, 0.3, 0.7])
    patients = np.array([0, 1, 2, 3, 4, 5, 5, 5])
    shift = PrevalenceShift(0.5, 0.3)
    alone = evaluate_at(labels, scores, 0.5, seed=1, resamples=50, shift=shift).figures
    together = evaluate_at(labels, scores, 0.5, seed=1, resamples=50, shift=shift, patients=patients).figures
    for name in ("precision_pneumonia", "precision_normal"):
        assert together[name].value == pytest.approx(alone[name].value)
        assert np.isnan(together[name].low) and np.isnan(together[name].high)
