import csv
import io

import numpy as np
import pytest

from pneumo_keras.config import format_config, load_config
from pneumo_keras.evaluation.ranking import Candidate, rank
from pneumo_keras.reporting.sweep import (
    draw_sweep,
    format_sweep,
    format_table,
    write_sweep,
    write_sweep_plot,
)

RANDOM = np.random.default_rng(0)


def build(taps, rate, loss):
    figures = {name: loss + 0.01 * RANDOM.normal(size=3) for name in ("auc", "log_loss", "accuracy")}
    values = {"model.taps": taps, "model.dropout": 0.5, "training.learning_rate": rate}
    return Candidate(values, figures, [3, 4, 4], weights=1200)


@pytest.fixture
def ranked():
    candidates = [
        build(taps, rate, loss=0.1 * index)
        for index, (taps, rate) in enumerate(
            (taps, rate) for taps in (["mixed4"], ["mixed2", "mixed5"]) for rate in (1e-4, 1e-3)
        )
    ]
    return rank(candidates)


def test_the_table_holds_every_candidate_the_best_first(ranked):
    rows = list(csv.DictReader(io.StringIO(format_table(ranked))))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[2]["model.taps"] == "mixed2 mixed5"
    assert float(rows[0]["log_loss"]) == pytest.approx(ranked[0].to_mean("log_loss"), rel=1e-5)
    losses = [float(row["log_loss"]) for row in rows]
    assert losses == sorted(losses)


def test_the_best_settings_can_be_trained_on(ranked, tmp_path):
    best = load_config("demo", ["training.learning_rate=0.02"])
    chosen = {"best": (ranked[0], format_config(best))}
    write_sweep(tmp_path, ranked, chosen, title="3 folds of 80 films")
    assert load_config(str(tmp_path / "best.toml")) == best
    first = (tmp_path / "best.toml").read_text().splitlines()[0]
    assert first.startswith("# The best of 4 combinations: log loss ")


def test_the_text_shows_what_was_varied_and_how_many_are_as_good(ranked):
    lines = format_sweep(ranked, heading="sweeps/one, 3 folds").splitlines()
    assert lines[0] == "sweeps/one, 3 folds"
    assert lines[2].split() == ["log", "loss", "AUC", "accuracy", "taps", "learning_rate"]
    assert lines[3].endswith("mixed4          0.0001")
    assert lines[-1] == (
        "Within one standard error of the best: 1. The simplest of them, with 1,200 weights: "
        "taps mixed4, learning_rate 0.0001."
    )


def test_the_picture_has_a_panel_for_each_setting_that_was_varied(ranked, tmp_path):
    titles = [axes.get_title() for axes in draw_sweep(ranked, title="").axes if axes.get_visible()]
    assert titles == ["model.taps", "training.learning_rate"]
    write_sweep_plot(tmp_path, ranked, title="3 folds of 80 films")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_candidate_that_diverged_is_shown_and_does_not_break_the_picture(ranked):
    lost = Candidate(ranked[0].values, dict.fromkeys(ranked[0].figures, np.full(3, np.nan)), [0, 0, 0], 9)
    assert list(csv.DictReader(io.StringIO(format_table([*ranked, lost]))))[-1]["auc"] == ""
    draw_sweep([*ranked, lost], title="")
    assert "nan" in format_sweep([*ranked, lost], heading="")
