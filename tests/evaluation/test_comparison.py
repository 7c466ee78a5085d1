import math
import subprocess
import sys

import numpy as np
import pytest
from MLstatkit import Delong_test
from scipy.stats import norm, t
from statsmodels.stats.contingency_tables import mcnemar

from pneumo_keras.evaluation.comparison import (
    ADDED,
    OF_CALLS,
    Rivals,
    compare_aucs,
    compare_figures,
    compare_shares,
    expand_difference,
    to_bootstrap_difference,
)
from pneumo_keras.evaluation.figures import to_figures
from pneumo_keras.storage.documents import to_document


def build(labels, first, second, *, first_threshold=0.5, second_threshold=0.5):
    return Rivals(labels, first, second, first > first_threshold, second > second_threshold)


def compare_plain(
    labels, first, second, *, first_threshold=0.5, second_threshold=0.5, resamples=200, prevalence=None
):
    return compare_figures(
        labels,
        first,
        second,
        first_threshold=first_threshold,
        second_threshold=second_threshold,
        resamples=resamples,
        seed=0,
        prevalence=prevalence,
    )


@pytest.fixture
def rivals(draw_images):
    """Two classifiers whose scores of the same images are alike, the second better."""
    labels, first = draw_images(auc=0.85)
    noise = np.random.default_rng(9).normal(0, 0.05, len(labels))
    return labels, first, np.clip(first + 0.1 * (labels - 0.5) + noise, 0, 1)


@pytest.mark.parametrize("digits", [1, 17])
def test_delongs_test_agrees_with_mlstatkit(rivals, digits):
    labels, first, second = rivals
    first, second = np.round(first, digits), np.round(second, digits)
    z, p_value, _, _, first_auc, second_auc, info = Delong_test(labels, first, second)
    difference = compare_aucs(build(labels, first, second))
    error = (difference.high - difference.low) / 2 / 1.959963984540054
    assert difference.value == pytest.approx(second_auc - first_auc, abs=1e-12)
    assert error**2 == pytest.approx(info["var_diff"], abs=1e-8)
    assert difference.value / error == pytest.approx(z, abs=1e-8)
    assert difference.p_value == pytest.approx(p_value, abs=1e-8)


def test_p_values_of_close_rivals_agree_with_mlstatkit(draw_images):
    labels, first = draw_images(auc=0.9)
    for seed in range(5):
        second = np.clip(first + np.random.default_rng(seed).normal(0, 0.1, len(labels)), 0, 1)
        p_value = compare_aucs(build(labels, first, second)).p_value
        assert p_value == pytest.approx(Delong_test(labels, first, second)[1], rel=1e-8)
        assert p_value > 1e-6


def test_the_difference_changes_its_sign_with_the_order(rivals):
    labels, first, second = rivals
    forth, back = compare_aucs(build(labels, first, second)), compare_aucs(build(labels, second, first))
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert forth.p_value == pytest.approx(back.p_value)
    assert forth.value > 0


def test_a_classifier_does_not_differ_from_itself_within_bounds(rivals):
    labels, first, _ = rivals
    difference = compare_aucs(build(labels, first, first**2))
    assert (difference.value, difference.p_value) == (0.0, 1.0)
    assert difference.low == pytest.approx(-difference.high)
    assert 0 < difference.high < 0.05
    assert difference.method == "DeLong, paired" + ADDED


def test_bounds_of_equal_rankings_are_those_of_images_with_disagreements_added():
    # By hand: both classifiers win all of 2 * 2 pairs. With the four images, each pneumonia image has
    # four normal ones beside it, of which the image scored 1 by the first and 0 by the second turns.
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.2, 0.3, 0.6, 0.7])
    added = np.array([0, 0, 1, 1])
    first, second = np.append(scores, [1.0, 0.0, 1.0, 0.0]), np.append(scores, [0.0, 1.0, 0.0, 1.0])
    _, p_value, _, _, before, after, info = Delong_test(np.append(labels, added), first, second)
    half = 1.959963984540054 * math.sqrt(info["var_diff"])
    difference = compare_aucs(build(labels, scores, scores))
    assert before == pytest.approx(after)
    assert (difference.low, difference.high) == pytest.approx((-half, half), abs=1e-6)
    assert difference.p_value == p_value == 1.0


def test_flawless_against_hopeless_differ_without_any_variance():
    labels, scores = np.repeat([0, 1], 20), np.linspace(0.1, 0.9, 40)
    difference = compare_aucs(build(labels, 1 - scores, scores))
    assert difference.value == difference.high == 1.0
    assert 0.5 < difference.low < 1.0 and difference.p_value < 1e-6


def test_one_class_has_no_difference_of_aucs():
    difference = compare_aucs(build(np.array([1, 1]), np.array([0.1, 0.2]), np.array([0.3, 0.1])))
    assert to_document(difference) == {
        "value": None,
        "low": None,
        "high": None,
        "p_value": None,
        "method": "DeLong, paired",
    }


def test_mcnemar_agrees_with_statsmodels(rivals):
    labels, first, second = rivals
    first_right, second_right = (first > 0.5) == labels, (second > 0.3) == labels
    table = [
        [np.sum((first_right == one) & (second_right == other)) for other in (True, False)]
        for one in (True, False)
    ]
    difference = compare_shares(first_right, second_right)
    assert difference.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert difference.value == pytest.approx(second_right.mean() - first_right.mean())


def test_paired_shares_by_hand():
    # The second mends 5 images and spoils none of 10.
    first, second = np.repeat([False, True], 5), np.full(10, True)
    difference = compare_shares(first, second)
    assert difference.value == 0.5
    assert difference.p_value == pytest.approx(2 / 2**5)
    centre, half = 5 / 12, 1.959963984540054 * math.sqrt((7 / 12 - (5 / 12) ** 2) / 12)
    assert (difference.low, difference.high) == pytest.approx((centre - half, centre + half))


def test_equal_calls_have_equal_shares_within_bounds():
    # One image of each disagreement in 5 + 2: both shares 1 / 7.
    difference = compare_shares(np.full(5, True), np.full(5, True))
    half = 1.959963984540054 * math.sqrt(2 / 7 / 7)
    assert (difference.value, difference.p_value) == (0.0, 1.0)
    assert (difference.low, difference.high) == pytest.approx((-half, half))


def test_sensitivity_and_specificity_are_paired_shares_of_their_class(rivals):
    labels, first, second = rivals
    differences = compare_plain(labels, first, second, second_threshold=0.3)
    right = [(first > 0.5) == labels, (second > 0.3) == labels]
    for name, label in (("sensitivity", 1), ("specificity", 0)):
        images = labels == label
        assert differences[name] == compare_shares(right[0][images], right[1][images])
        table = [
            [np.sum(images & (right[0] == a) & (right[1] == b)) for b in (True, False)] for a in (True, False)
        ]
        assert differences[name].p_value == pytest.approx(mcnemar(table, exact=True).pvalue)


def assert_every_interval_is_defined(differences):
    for name, difference in differences.items():
        assert difference.low <= difference.value <= difference.high, name
        assert difference.low < difference.high, name
        assert 0 < difference.p_value <= 1, name


def test_two_equal_runs_have_an_interval_for_every_figure(rivals):
    labels, first, _ = rivals
    differences = compare_plain(labels, first, first)
    assert_every_interval_is_defined(differences)
    assert {difference.value for difference in differences.values()} == {0.0}
    assert {difference.p_value for difference in differences.values()} == {1.0}
    for name in ("balanced_accuracy", "precision_normal", "f1_pneumonia", "brier_loss"):
        assert differences[name].method.endswith(ADDED)


def test_runs_that_agree_on_all_images_of_one_class_have_an_interval_for_every_figure(rivals):
    labels, first, _ = rivals
    second = np.where(labels == 1, first, first**2)
    differences = compare_plain(labels, first, second)
    assert_every_interval_is_defined(differences)
    assert differences["sensitivity"].p_value == 1.0


def test_near_identical_runs_have_an_interval_for_every_figure(rivals):
    labels, first, _ = rivals
    second = np.clip(first + np.random.default_rng(0).normal(0, 1e-7, len(first)), 0, 1)
    assert_every_interval_is_defined(compare_plain(labels, first, second))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_flawless_runs_have_an_interval_for_every_figure_that_is_defined(threshold):
    labels = np.repeat([0, 1], 5)
    differences = compare_plain(
        labels,
        labels.astype(float),
        labels.astype(float),
        first_threshold=threshold,
        second_threshold=threshold,
    )
    before = to_figures(labels, labels.astype(float), labels > threshold)
    for name, difference in differences.items():
        assert math.isnan(difference.low) == math.isnan(before[name]), name
        assert math.isnan(difference.high) == math.isnan(before[name]), name


def test_a_precision_that_some_resamples_do_not_have_still_has_an_interval():
    # One image alone is called pneumonia: a third of all resamples call none.
    labels, first = np.repeat([0, 1], 10), np.linspace(0.1, 0.55, 20)
    difference = compare_plain(labels, first, first**1.01)["precision_pneumonia"]
    assert (difference.value, difference.p_value) == (0.0, 1.0)
    assert difference.low < 0 < difference.high


def test_disagreements_are_one_of_each_kind_for_every_label_that_there_is():
    labels, scores = np.array([1, 1]), np.array([0.2, 0.7])
    added = build(labels, scores, scores).add_disagreements()
    assert added.labels.tolist() == [1, 1, 1, 1]
    assert (added.first.tolist(), added.second.tolist()) == ([0.2, 0.7, 1, 0], [0.2, 0.7, 0, 1])
    assert added.first_calls.tolist() == [False, True, True, False]
    assert added.second_calls.tolist() == [False, True, False, True]
    both = build(np.array([0, 1]), scores, scores).add_disagreements()
    assert both.labels.tolist() == [0, 1, 0, 0, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("discordant", [0.002, 0.01, 0.03])
def test_95_percent_intervals_of_balanced_accuracy_hold_no_difference_often_enough(discordant):
    rng, held, draws = np.random.default_rng(0), 0, 300
    labels = np.repeat([0, 1], [40, 60])
    for _ in range(draws):
        # Each classifier turns each of the right calls with the same small chance.
        first, second = (np.abs(labels - 0.2 - 0.6 * (rng.random(100) < discordant)) for _ in range(2))
        difference = compare_plain(labels, first, second)["balanced_accuracy"]
        assert difference.low < difference.high
        held += difference.low <= 0 <= difference.high
    # 93 % of 1,000 draws at 3 %: percentiles stay a little short where few images disagree.
    assert held / draws >= 0.9


def test_a_bootstrap_p_value_counts_the_rarer_side():
    difference = to_bootstrap_difference(0.5, np.array([-1.0] + [1.0] * 98))
    assert difference.p_value == pytest.approx(2 * 2 / 100)


def test_percentiles_of_few_images_are_expanded_as_students_interval_is():
    gains = np.linspace(-1, 3, 100_001)
    difference = expand_difference(1.0, gains, images=12, level=0.9)
    # Twelve images: t with 11 degrees of freedom, 1.7959, times the root of 12 / 11.
    tail = norm.cdf(-1.7958848 * math.sqrt(12 / 11))
    assert (difference.low, difference.high) == pytest.approx((-1 + 4 * tail, 3 - 4 * tail), abs=1e-6)
    assert difference.method == "bootstrap, paired, stratified, expanded percentile"
    # A quarter of the gains lies on the far side of 0.
    assert difference.p_value == pytest.approx(2 * t.cdf(norm.ppf(0.25) / math.sqrt(12 / 11), 11), abs=1e-4)


def test_p_value_and_expanded_interval_agree():
    gains = np.linspace(-1, 9, 10_001)
    p_value = expand_difference(4.0, gains, images=8).p_value
    assert expand_difference(4.0, gains, images=8, level=1 - p_value).low == pytest.approx(0, abs=2e-3)


def test_one_image_of_a_class_expands_to_all_draws():
    difference = expand_difference(0.5, np.linspace(0, 1, 101), images=1)
    assert (difference.low, difference.high) == pytest.approx((0, 1))


def test_figures_of_calls_always_have_disagreements_added(rivals):
    labels, first, second = rivals
    differences = compare_plain(labels, first, second, prevalence=0.1)
    for name in OF_CALLS:
        assert differences[name].method == "bootstrap, paired, stratified, percentile" + ADDED
    for name in ("average_precision", "brier_loss", "log_loss", "calibration_error"):
        assert differences[name].method == "bootstrap, paired, stratified, expanded percentile"


def test_few_calls_that_differ_do_not_make_a_certain_difference():
    # One normal image of twelve is called otherwise: most resamples that hold it find a gain.
    labels = np.repeat([0, 1], [12, 28])
    first = np.where(labels == 1, 0.9, 0.1)
    second = np.where(np.arange(40) == 0, 0.9, first)
    difference = compare_plain(labels, first, second)["precision_pneumonia"]
    assert difference.low < difference.value < 0.05 < difference.high


def test_all_figures_are_compared_on_the_same_images(rivals):
    labels, first, second = rivals
    differences = compare_figures(
        labels, first, second, first_threshold=0.5, second_threshold=0.5, resamples=500, seed=0
    )
    assert len(differences) == 13 and "prevalence" not in differences
    assert differences["auc"] == compare_aucs(build(labels, first, second))
    for name in ("accuracy", "sensitivity", "specificity"):
        assert differences[name].method.startswith("McNemar")
    assert differences["log_loss"].value < 0 < differences["average_precision"].value
    for difference in differences.values():
        assert difference.low <= difference.value <= difference.high
        assert 0 < difference.p_value <= 1
    assert differences["brier_loss"].p_value < 0.05


def test_paired_bounds_of_the_auc_agree_with_the_bootstraps(rivals):
    from pneumo_keras.evaluation.bootstrap import draw_figures

    labels, first, second = rivals
    before, after = draw_figures(labels, [(first, first > 0.5), (second, second > 0.5)], seed=0)
    resampled = to_bootstrap_difference(0.0, after["auc"] - before["auc"])
    difference = compare_aucs(build(labels, first, second))
    assert (resampled.low, resampled.high) == pytest.approx((difference.low, difference.high), abs=2e-3)


@pytest.mark.parametrize("prevalence", [None, 0.02, 0.9])
def test_every_difference_is_that_of_the_figures_at_the_same_prevalence(rivals, prevalence):
    labels, *both = rivals
    before, after = (to_figures(labels, one, one > 0.5, prevalence=prevalence) for one in both)
    differences = compare_plain(labels, *both, prevalence=prevalence)
    assert differences.keys() == before.keys() - {"prevalence"}
    for name, one in differences.items():
        assert one.value == pytest.approx(after[name] - before[name], abs=1e-12), name
        assert one.low <= one.value <= one.high


def test_intervals_are_weighted_as_their_figures_are(rivals):
    labels, first, _ = rivals
    # The second errs on other normal images alone: the rarer pneumonia, the more that weighs.
    second = np.where(labels == 1, first, np.random.default_rng(5).permutation(first))
    rare, common = (compare_plain(labels, first, second, prevalence=share) for share in (0.05, 0.95))
    for name in ("accuracy", "brier_loss", "log_loss"):
        widths = [one[name].high - one[name].low for one in (rare, common)]
        assert widths[0] > 3 * widths[1], name
    for name in ("auc", "sensitivity", "specificity"):
        assert rare[name] == common[name]
    assert rare["balanced_accuracy"].value == pytest.approx(common["balanced_accuracy"].value)


def test_comparison_of_one_class_does_not_fail():
    labels, first, second = np.array([1, 1, 1]), np.array([0.2, 0.6, 0.7]), np.array([0.6, 0.6, 0.8])
    differences = compare_figures(
        labels, first, second, first_threshold=0.5, second_threshold=0.5, resamples=20, seed=0
    )
    assert math.isnan(differences["balanced_accuracy"].value)
    assert math.isnan(differences["specificity"].value) and math.isnan(differences["specificity"].p_value)
    assert differences["sensitivity"].value == pytest.approx(1 / 3)


def test_a_comparison_imports_no_library_that_takes_seconds():
    code = (
        "import sys, numpy as np\n"
        "from pneumo_keras.evaluation.comparison import compare_figures\n"
        "labels, scores = np.repeat([0, 1], 5), np.linspace(0, 1, 10)\n"
        "options = {'first_threshold': 0.5, 'second_threshold': 0.5, 'resamples': 10, 'seed': 0}\n"
        "compare_figures(labels, scores, scores, **options)\n"
        "print([name for name in ('keras', 'jax', 'sklearn', 'scipy.stats') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
