import numpy as np

from pneumo_keras.evaluation.calibration import to_reliability_bins
from pneumo_keras.evaluation.report_card import evaluate_at
from pneumo_keras.reporting.plots import (
    DOTS_PER_INCH,
    draw_panels,
    draw_precision_recall,
    draw_reliability,
    draw_robustness,
    draw_score_distributions,
    draw_summary,
    draw_threshold_curve,
)
from tests.robustness import build_robustness

LABELS = np.array([0, 0, 1, 1, 1])
SCORES = np.array([0.1, 0.6, 0.4, 0.8, 0.9])


def to_legend(*val_losses, **more):
    """Texts of the legend of the loss, from each member's validation losses."""
    members = np.array(val_losses)
    history = [
        {
            "epoch": epoch + 1.0,
            "loss": 0.5,
            "accuracy": 0.8,
            "val_loss": losses.mean(),
            "val_accuracy": 0.7,
            "kept": int((members.argmin(axis=1) == epoch).sum()),
            **{name: values[epoch] for name, values in more.items()},
        }
        | ({f"val_loss_{k + 1}": loss for k, loss in enumerate(losses)} if len(members) > 1 else {})
        for epoch, losses in enumerate(members.T)
    ]
    at_threshold = evaluate_at(LABELS, SCORES, 0.5, resamples=20, seed=1)
    axes = draw_summary(history, LABELS, SCORES, at_threshold, title="").axes[0]
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_kept_epoch_is_marked():
    assert to_legend([0.5, 0.3, 0.4]) == ["training", "validation", "kept: epoch 2"]


def test_members_keep_epochs_of_their_own():
    assert to_legend([0.5, 0.3, 0.4], [0.5, 0.4, 0.2])[-1] == "kept: epoch 2 to 3"


def test_epochs_in_which_blocks_learn_are_marked():
    assert to_legend([0.5, 0.3, 0.4], phase=[1, 1, 2])[-1] == "fine-tuning"


def test_axes_have_the_words_of_the_field():
    at_threshold = evaluate_at(LABELS, SCORES, 0.5, resamples=20, seed=1)
    history = [
        {"epoch": epoch, "loss": 1, "val_loss": 1, "accuracy": 1, "val_accuracy": 1, "kept": 1}
        for epoch in (1, 2)
    ]
    plots = {
        **draw_panels(history, LABELS, SCORES, at_threshold),
        "precision_recall": draw_precision_recall(LABELS, SCORES, at_threshold),
        "reliability": draw_reliability(to_reliability_bins(LABELS, SCORES)),
        "scores": draw_score_distributions(LABELS, SCORES, 0.5),
        "thresholds": draw_threshold_curve(LABELS, SCORES, 0.5),
    }
    score = "score (predicted probability of pneumonia)"
    assert {
        name: (plot.axes[-1].get_xlabel(), plot.axes[0].get_ylabel()) for name, plot in plots.items()
    } == {
        "loss": ("epoch", "loss"),
        "accuracy": ("epoch", "accuracy"),
        "confusion": ("predicted class", "true class"),
        "roc": ("false positive rate (1 - specificity)", "true positive rate (sensitivity)"),
        "precision_recall": ("recall (sensitivity)", "precision (PPV)"),
        "reliability": (score, "observed prevalence"),
        "scores": (score, "number of images"),
        "thresholds": ("threshold", "proportion of images"),
    }


def test_each_kind_of_perturbation_has_a_panel_from_the_images_as_they_are_on():
    plot = draw_robustness(build_robustness(), title="run")
    assert plot.get_size_inches()[0] * DOTS_PER_INCH == 1600
    gamma, rotation, *spare = plot.axes
    assert [axes.get_title() for axes in (gamma, rotation)] == ["gamma up", "rotation"]
    auc, error, alexnet = gamma.lines
    assert auc.get_ydata().tolist() == [0.95, *[0.85] * 5]
    np.testing.assert_allclose(error.get_ydata()[1:], [0.1, 0.2, 0.3, 0.4, 0.5])
    assert alexnet.get_ydata()[0] == 0.09606837606837607
    assert len(rotation.lines) == 2  # AlexNet was not tried on it
    assert gamma.get_xlabel() == "severity (0: unperturbed)"
    assert not any(axes.get_visible() for axes in spare)
