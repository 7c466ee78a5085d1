"""Names that mean no good, in pictures, tables and pages."""

import numpy as np
import pytest

from pneumo_keras.evaluation.report_card import evaluate, evaluate_at
from pneumo_keras.reporting.evaluation_text import format_differences, format_evaluation
from pneumo_keras.reporting.formats import format_table
from pneumo_keras.reporting.plots import draw_rocs, draw_summary, save_plot
from pneumo_keras.reporting.report import load_template

LABELS = np.array([0, 0, 1, 1, 1])
SCORES = np.array([0.1, 0.6, 0.4, 0.8, 0.9])
NAMES = ["_under", r"$\frac$", "$x$", "x" * 255, "\udcff", "\x1b[31m", "\u202egnp", "胸部", "%s {0}", "<b>"]
HISTORY = [{"epoch": 1, "loss": 1, "accuracy": 1, "val_loss": 1, "val_accuracy": 1, "kept": 1}]


def test_every_run_is_in_the_legend_under_its_own_name(tmp_path):
    plot = draw_rocs(LABELS, {name: (SCORES, 0.5) for name in NAMES}, title="images")
    texts = plot.axes[0].get_legend().get_texts()
    assert len(texts) == len(NAMES)
    assert all(len(text.get_text()) < 150 for text in texts)
    assert texts[0].get_text().startswith("_under: AUC ") and texts[1].get_text().startswith(r"$\frac$: AUC ")
    assert not any(text.get_parse_math() for text in texts)
    save_plot(plot, tmp_path / "roc.png")


@pytest.mark.parametrize("name", NAMES)
def test_a_summary_can_have_any_title(tmp_path, name):
    at_threshold = evaluate_at(LABELS, SCORES, 0.5, resamples=20, seed=1)
    save_plot(draw_summary(HISTORY, LABELS, SCORES, at_threshold, title=name), tmp_path / "summary.png")


def test_nothing_reaches_the_terminal_but_text():
    evaluation = evaluate(LABELS, SCORES, 0.5, members=[SCORES], seed=1)
    texts = [
        format_evaluation(evaluation, heading="a\x1b[2J\nb\udcff"),
        format_differences({}, heading="a\x1b[2J", changed={"data.path": ("\x1b[31m", "\u202e")}),
        format_table([["\x1b[2J"]], header=["a\nb"]),
    ]
    for text in texts:
        assert all(line.isprintable() for line in text.split("\n"))
    assert texts[0].startswith("a\\x1b[2J\\nb\\udcff\n")


def test_what_a_page_shows_can_be_written_and_turns_nothing_round():
    environment = load_template().environment
    page = environment.from_string("{{ text }}").render(text="<b>\u202e\udcff\x1b\ntwo lines")
    assert page == "&lt;b&gt;\\u202e\\udcff\\x1b\ntwo lines"
    page.encode()
