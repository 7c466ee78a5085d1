import math
import subprocess
import sys

import numpy as np
import pytest
from MLstatkit import Delong_test
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from pneumo_keras.evaluation.comparison import compare_aucs, compare_figures, compare_shares, to_difference
from pneumo_keras.evaluation.metrics import to_figures
from pneumo_keras.storage.documents import to_document

Z = 1.959963984540054


def compare(labels, first, second, *, second_threshold=0.5, resamples=200, prevalence=None, seed=0):
    return compare_figures(
        labels,
        first,
        second,
        first_threshold=0.5,
        second_threshold=second_threshold,
        resamples=resamples,
        seed=seed,
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
    difference = compare_aucs(labels, first, second)
    error = (difference.high - difference.low) / 2 / Z
    assert difference.value == pytest.approx(second_auc - first_auc, abs=1e-12)
    assert error**2 == pytest.approx(info["var_diff"], abs=1e-8)
    assert difference.value / error == pytest.approx(z, abs=1e-8)
    assert difference.p_value == pytest.approx(p_value, abs=1e-8)


def test_p_values_of_close_rivals_agree_with_mlstatkit(draw_images):
    labels, first = draw_images(auc=0.9)
    for seed in range(5):
        second = np.clip(first + np.random.default_rng(seed).normal(0, 0.1, len(labels)), 0, 1)
        p_value = compare_aucs(labels, first, second).p_value
        assert p_value == pytest.approx(Delong_test(labels, first, second)[1], rel=1e-8)
        assert p_value > 1e-6


def test_the_difference_changes_its_sign_with_the_order(rivals):
    labels, first, second = rivals
    forth, back = compare_aucs(labels, first, second), compare_aucs(labels, second, first)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert forth.p_value == pytest.approx(back.p_value)
    assert forth.value > 0


def test_one_class_has_no_difference_of_aucs():
    difference = compare_aucs(np.array([1, 1]), np.array([0.1, 0.2]), np.array([0.3, 0.1]))
    undefined = dict.fromkeys(("value", "low", "high", "p_value"))
    assert to_document(difference) == {**undefined, "method": "DeLong, paired"}


@pytest.mark.parametrize("images", ["all", 0, 1])
def test_mcnemar_agrees_with_statsmodels(rivals, images):
    labels, first, second = rivals
    inside = labels >= 0 if images == "all" else labels == images
    before, after = ((first > 0.5) == labels)[inside], ((second > 0.3) == labels)[inside]
    table = [[np.sum((before == a) & (after == b)) for b in (True, False)] for a in (True, False)]
    name = {"all": "accuracy", 0: "specificity", 1: "sensitivity"}[images]
    difference = compare(labels, first, second, second_threshold=0.3)[name]
    assert difference == compare_shares(before, after)
    assert difference.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert difference.value == pytest.approx(after.mean() - before.mean())


def test_paired_shares_by_hand():
    # The second corrects 5 images of 10 and loses none.
    difference = compare_shares(np.repeat([False, True], 5), np.full(10, True))
    assert difference.value == 0.5
    assert difference.p_value == pytest.approx(2 / 2**5)
    centre, half = 5 / 12, Z * math.sqrt((7 / 12 - (5 / 12) ** 2) / 12)
    assert (difference.low, difference.high) == pytest.approx((centre - half, centre + half))


def test_equal_predictions_have_equal_shares_within_bounds():
    # One image of each disagreement in 5 + 2: both shares 1 / 7.
    difference = compare_shares(np.full(5, True), np.full(5, True))
    half = Z * math.sqrt(2 / 7 / 7)
    assert (difference.value, difference.p_value) == (0.0, 1.0)
    assert (difference.low, difference.high) == pytest.approx((-half, half))


def test_interval_and_p_value_of_a_difference_are_students():
    difference = to_difference(0.2, 0.1, 11, method="")
    half = stats.t.ppf(0.975, 11) * 0.1
    assert (difference.low, difference.high) == pytest.approx((0.2 - half, 0.2 + half))
    assert difference.p_value == pytest.approx(2 * stats.t.sf(2, 11))
    normal = to_difference(-0.2, 0.1, math.inf, method="")
    assert (normal.low, normal.p_value) == pytest.approx((-0.2 - Z * 0.1, 2 * stats.norm.sf(2)))


def test_runs_that_do_not_differ_have_no_interval_but_of_shares(rivals):
    """Images on which nothing differs do not say how far others may."""
    labels, first, _ = rivals
    for name, one in compare(labels, first, first).items():
        assert (one.value, one.p_value) == (0.0, 1.0), name
        if name in ("accuracy", "sensitivity", "specificity"):
            assert one.low < 0 < one.high
        else:
            assert math.isnan(one.low) and math.isnan(one.high), name


def test_flawless_against_hopeless_differ_without_any_variance():
    labels, scores = np.repeat([0, 1], 20), np.linspace(0.1, 0.9, 40)
    difference = compare_aucs(labels, 1 - scores, scores)
    assert difference.value == 1.0
    assert math.isnan(difference.low) and math.isnan(difference.p_value)


def test_all_figures_are_compared_on_the_same_images(rivals):
    labels, first, second = rivals
    differences = compare(labels, first, second, resamples=500)
    assert len(differences) == 13 and "prevalence" not in differences
    assert differences["auc"] == compare_aucs(labels, first, second)
    methods = {
        "auc": "DeLong, paired",
        **dict.fromkeys(("accuracy", "sensitivity", "specificity"), "McNemar, exact; bounds Bonett-Price"),
    }
    for name, one in differences.items():
        assert one.method == methods.get(name, "bootstrap, Student's t, paired")
        assert one.low < one.value < one.high
        assert 0 < one.p_value <= 1
    assert differences["log_loss"].value < 0 < differences["average_precision"].value
    assert differences["brier_loss"].p_value < 0.05


def test_the_seed_decides_the_bounds(rivals):
    first, again, other = (compare(*rivals, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("prevalence", [None, 0.02, 0.9])
def test_every_difference_is_that_of_the_figures_at_the_same_prevalence(rivals, prevalence):
    labels, *both = rivals
    before, after = (to_figures(labels, one, one > 0.5, prevalence=prevalence) for one in both)
    differences = compare(labels, *both, prevalence=prevalence)
    assert differences.keys() == before.keys() - {"prevalence"}
    for name, one in differences.items():
        assert one.value == pytest.approx(after[name] - before[name], abs=1e-12), name
        assert one.low <= one.value <= one.high


def test_intervals_are_weighted_as_their_figures_are(rivals):
    labels, first, _ = rivals
    # The second errs on other normal images alone: the rarer pneumonia, the more that weighs.
    second = np.where(labels == 1, first, np.random.default_rng(5).permutation(first))
    rare, common = (compare(labels, first, second, prevalence=share) for share in (0.05, 0.95))
    for name in ("accuracy", "brier_loss", "log_loss"):
        widths = [one[name].high - one[name].low for one in (rare, common)]
        assert widths[0] > 3 * widths[1], name
    for name in ("auc", "sensitivity", "specificity"):
        assert rare[name] == common[name]
    assert rare["balanced_accuracy"].value == pytest.approx(common["balanced_accuracy"].value)


def test_comparison_of_one_class_does_not_fail():
    differences = compare(np.array([1, 1, 1]), np.array([0.2, 0.6, 0.7]), np.array([0.6, 0.6, 0.8]))
    assert math.isnan(differences["balanced_accuracy"].value)
    assert math.isnan(differences["specificity"].value) and math.isnan(differences["specificity"].p_value)
    assert differences["sensitivity"].value == pytest.approx(1 / 3)


def test_a_comparison_imports_neither_keras_nor_scikit_learn():
    code = (
        "import sys, numpy as np\n"
        "from pneumo_keras.evaluation.comparison import compare_figures\n"
        "labels, scores = np.repeat([0, 1], 5), np.linspace(0, 1, 10)\n"
        "options = {'first_threshold': 0.5, 'second_threshold': 0.5, 'resamples': 10, 'seed': 0}\n"
        "compare_figures(labels, scores, scores, **options)\n"
        "print([name for name in ('keras', 'jax', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
