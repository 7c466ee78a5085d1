import numpy as np
import pytest
from scipy.special import expit

from pneumo_keras.errors import SettingsError
from pneumo_keras.evaluation.prevalence import BALANCED_PREVALENCE, PrevalenceShift
from pneumo_keras.evaluation.threshold import choose_operating_point


def test_balanced_class_weights_show_even_odds():
    # scikit-learn's balanced weights n / (2 n_class) of the official training images.
    normal, pneumonia = 1214, 3494
    weights = [4708 / (2 * count) for count in (normal, pneumonia)]
    seen = pneumonia * weights[1] / (normal * weights[0] + pneumonia * weights[1])
    assert seen == pytest.approx(BALANCED_PREVALENCE)


def test_the_odds_are_multiplied():
    # Even odds at half prevalence; at a quarter they are 1 to 3.
    assert PrevalenceShift(0.5, 0.25).correct_scores(np.array([0.5])) == pytest.approx([0.25])
    # Odds 4, times (1/9) / (3/1): 4 / 27.
    assert PrevalenceShift(0.75, 0.1).correct_scores(np.array([0.8])) == pytest.approx([4 / 31])


def test_a_corrected_prevalence_can_be_taken_back():
    scores = np.array([0.0, 1e-12, 0.3, 0.999, 1.0])
    there = PrevalenceShift(0.74, 0.2).correct_scores(scores)
    assert PrevalenceShift(0.2, 0.74).correct_scores(there) == pytest.approx(scores, rel=1e-12)
    assert there[[0, -1]].tolist() == [0.0, 1.0]


def test_the_correction_is_bayes_rule():
    # Two normal distributions: the true posterior is known for every prevalence.
    x = np.linspace(-3, 3, 13)
    seen, used = expit(2 * x + np.log(0.74 / 0.26)), expit(2 * x + np.log(0.1 / 0.9))
    assert PrevalenceShift(0.74, 0.1).correct_scores(seen) == pytest.approx(used, rel=1e-10)


@pytest.mark.parametrize("stated", [0.001, 0.3, 0.97])
def test_an_operating_point_is_corrected_along_and_no_prediction_changes(draw_images, stated):
    labels, scores = draw_images(auc=0.9)
    shift = PrevalenceShift(0.5, stated)
    point = choose_operating_point(labels, scores, rule="cost", cost_fn=3.0, chosen_on="val")
    corrected = shift.correct_point(point)
    assert corrected.threshold == pytest.approx(shift.correct_threshold(point.threshold))
    assert (corrected.counts, corrected.sensitivity) == (point.counts, point.sensitivity)
    assert np.array_equal(shift.correct_scores(scores) > corrected.threshold, scores > point.threshold)


@pytest.mark.parametrize(("trained", "stated"), [(0.0, 0.5), (0.5, 1.0), (0.5, -0.1)])
def test_a_prevalence_out_of_range_is_an_error(trained, stated):
    with pytest.raises(SettingsError) as error:
        PrevalenceShift(trained, stated)
    assert str(error.value) == (
        f"A prevalence is a share in (0, 1). Received: trained on {trained}, stated {stated}."
    )
