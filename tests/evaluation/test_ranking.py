import itertools

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from pneumo_keras.evaluation.ranking import (
    CRITERION,
    PERTURBED,
    PLAIN,
    Candidate,
    build_candidates,
    choose_cheapest,
    evaluate_folds,
    list_within_one_error,
    rank,
)

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.permutation(np.repeat([0, 1], [30, 60]))
FOLDS = np.tile([0, 1, 2], 30)
LOG_ODDS = RANDOM.normal(size=(90, 2)) + 2 * LABELS[:, None] - 1


def build(log_loss, turned=0, operations=7, weights=9):
    """A candidate whose folds differ by 0.01; `turned` says which fold is the best."""
    spread = 0.01 * np.roll([-1.0, 0.0, 1.0], turned)
    return Candidate({"model.dropout": 0.5}, {CRITERION: log_loss + spread}, [1, 2, 2], operations, weights)


def test_figures_are_those_of_each_fold():
    scores = 1 / (1 + np.exp(-LOG_ODDS[:, 0]))
    figures = evaluate_folds(LABELS, scores, FOLDS)
    for fold in range(3):
        inside = fold == FOLDS
        assert figures["auc"][fold] == pytest.approx(roc_auc_score(LABELS[inside], scores[inside]))
        assert figures["log_loss"][fold] == pytest.approx(log_loss(LABELS[inside], scores[inside]))
        assert figures["accuracy"][fold] == pytest.approx(((scores > 0.5) == LABELS)[inside].mean())


def test_the_lowest_log_loss_comes_first_and_what_diverged_last():
    log_odds = np.concatenate([LOG_ODDS, 0 * LOG_ODDS[:, :1], np.full((90, 1), np.nan)], axis=1)
    values = [{"a": index} for index in range(4)]
    ways = {PLAIN: log_odds, PERTURBED: log_odds[:, [1, 0, 2, 3]] / 2}
    candidates = build_candidates(values, LABELS, ways, FOLDS, np.ones((4, 3), int), operations=7, weights=9)
    ranked = rank(candidates)
    losses = [candidate.to_mean(CRITERION) for candidate in ranked]
    assert losses[:3] == sorted(losses[:3])
    assert np.isnan(losses[3]) and ranked[3].values == {"a": 3}
    assert ranked[3].to_row()["auc"] is None
    for candidate, way in itertools.product(ranked[:3], (PLAIN, PERTURBED)):
        scores = expit(ways[way][:, candidate.values["a"]])
        expected = evaluate_folds(LABELS, scores, FOLDS)["log_loss"]
        np.testing.assert_allclose(candidate.figures[f"{way}log_loss"], expected)
    both = (ranked[0].figures["log_loss"] + ranked[0].figures["perturbed_log_loss"]) / 2
    np.testing.assert_allclose(ranked[0].figures[CRITERION], both)


def test_equals_lie_within_a_standard_error_of_their_difference_to_the_best_fold_by_fold():
    best, close, apart = build(0.1), build(0.1), build(0.1)
    # Both are 0.002 worse in the mean: one in some folds more than in others, the other in each alike.
    close.figures[CRITERION] = best.figures[CRITERION] + [0.006, -0.002, 0.002]
    apart.figures[CRITERION] = best.figures[CRITERION] + [0.003, 0.002, 0.001]
    assert close.to_loss(best, CRITERION) == pytest.approx((0.002, 0.004 / np.sqrt(3)))
    assert apart.to_loss(best, CRITERION) == pytest.approx((0.002, 0.001 / np.sqrt(3)))
    assert list_within_one_error([best, close, apart]) == [best, close]


def test_the_cheapest_of_the_equals_takes_the_fewest_operations_then_weights():
    # The fourth is as much worse in every fold, and the last one much worse.
    losses, weights, turns = [0.1, 0.101, 0.102, 0.103, 0.2], [50, 20, 10, 10, 1], [0, 1, 2, 0, 1]
    ranked = [
        build(loss, turned, weights=count) for loss, turned, count in zip(losses, turns, weights, strict=True)
    ]
    assert choose_cheapest(ranked) is ranked[2]
    deeper = [build(0.1, operations=3, weights=1), build(0.101, 1, operations=2, weights=99)]
    assert choose_cheapest(deeper) is deeper[1]
    lost = build(np.nan)
    assert choose_cheapest([lost]) is lost


def test_a_row_holds_values_means_and_deviations():
    assert build(0.1).to_row() == pytest.approx(
        {
            "model.dropout": 0.5,
            "mean_log_loss": 0.1,
            "mean_log_loss_deviation": 0.01,
            "kept_epoch": 2.0,
            "operations": 7,
            "weights": 9,
        }
    )
