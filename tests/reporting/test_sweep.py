import csv
import io

import numpy as np
import pytest

from pneumo_keras.config import format_config, load_config
from pneumo_keras.evaluation.ranking import CRITERION, Candidate, rank
from pneumo_keras.reporting.sweep import (
    draw_sweep,
    format_sweep,
    write_sweep,
    write_sweep_plot,
)


def build(feature_layers, rate, loss):
    names = (CRITERION, "log_loss", "perturbed_log_loss", "auc", "perturbed_auc")
    figures = {name: loss + np.array([-0.01, 0, 0.01]) for name in names}
    values = {"model.feature_layers": feature_layers, "model.dropout": 0.5, "training.learning_rate": rate}
    return Candidate(values, figures, [3, 4, 4], operations=2_500_000_000, weights=1200)


@pytest.fixture
def ranked():
    candidates = [
        build(feature_layers, rate, loss=0.1 * index)
        for index, (feature_layers, rate) in enumerate(
            (feature_layers, rate)
            for feature_layers in (["mixed4"], ["mixed2", "mixed5"])
            for rate in (1e-4, 1e-3)
        )
    ]
    return rank(candidates)


def write_table(folder, ranked):
    write_sweep(folder, ranked, {}, title="")
    return list(csv.DictReader(io.StringIO((folder / "sweep.csv").read_text())))


def test_the_table_holds_every_candidate_the_best_first(ranked, tmp_path):
    rows = write_table(tmp_path, ranked)
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[2]["model.feature_layers"] == "mixed2 mixed5"
    assert float(rows[0][CRITERION]) == pytest.approx(ranked[0].to_mean(CRITERION), rel=1e-5)
    losses = [float(row[CRITERION]) for row in rows]
    assert losses == sorted(losses)


def test_the_best_settings_can_be_trained_on(ranked, tmp_path):
    best = load_config("demo", ["training.learning_rate=0.02"])
    chosen = {"best": (ranked[0], format_config(best))}
    write_sweep(tmp_path, ranked, chosen, title="3 folds of 80 images")
    assert load_config(str(tmp_path / "best.toml")) == best
    first = (tmp_path / "best.toml").read_text().splitlines()[0]
    assert first.startswith("# The best of 4 combinations. Log loss ")


def test_the_text_shows_what_was_varied_and_how_many_are_as_good(ranked):
    lines = format_sweep(ranked, heading="sweeps/one, 3 folds").splitlines()
    assert lines[0] == "sweeps/one, 3 folds"
    assert lines[2].split() == [
        *("mean", "log", "loss", "log", "loss", "perturbed", "log", "loss", "AUC", "perturbed", "AUC"),
        *("feature_layers", "learning_rate"),
    ]
    assert lines[3].split()[-2:] == ["mixed4", "0.0001"]
    assert "shown" not in "\n".join(lines)
    assert lines[-1] == (
        "Within one standard error of the best: 1. The cheapest of them, with 2.50 GFLOP an image and "
        "1,200 weights: "
        "feature_layers mixed4, learning_rate 0.0001."
    )


def test_rows_that_are_left_out_are_counted():
    candidates = rank([build(["mixed4"], rate, loss=rate) for rate in np.linspace(0.1, 0.3, 16)])
    text = format_sweep(candidates, heading="")
    assert text.count("+-") == 50
    assert "\n10 of 16 shown, all in sweep.csv.\n" in text


def test_the_picture_shows_how_much_folds_differ(ranked):
    plot = draw_sweep(ranked, title="")
    panel = next(axes for axes in plot.axes if axes.get_title() == "training.learning_rate")
    (bars,) = [one for one in panel.containers if one.has_yerr]
    (stems,) = bars.lines[2]
    best_of_values = [
        next(one for one in ranked if one.values["training.learning_rate"] == rate) for rate in (1e-4, 1e-3)
    ]
    for stem, one in zip(stems.get_segments(), best_of_values, strict=True):
        mean, deviation = one.to_mean(CRITERION), one.to_deviation(CRITERION)
        np.testing.assert_allclose(stem[:, 1], [mean - deviation, mean + deviation])
    low, high = panel.get_ylim()
    assert low <= max(0, min(stem[:, 1].min() for stem in stems.get_segments()))
    assert high > max(one.to_mean(CRITERION) for one in ranked)


def test_combinations_above_the_picture_are_counted():
    candidates = rank([build(["mixed4"], rate, loss=rate) for rate in [*np.linspace(0.1, 0.2, 19), 9.0]])
    assert draw_sweep(candidates, title="Twenty").get_suptitle() == "Twenty\nAbove the range shown: 1 of 20"


def test_the_picture_has_a_panel_for_each_setting_that_was_varied(ranked, tmp_path):
    titles = [axes.get_title() for axes in draw_sweep(ranked, title="").axes if axes.get_visible()]
    assert titles == ["model.feature_layers", "training.learning_rate"]
    write_sweep_plot(tmp_path, ranked, title="3 folds of 80 images")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_candidate_that_diverged_is_shown_and_does_not_break_the_picture(ranked, tmp_path):
    lost = Candidate(ranked[0].values, dict.fromkeys(ranked[0].figures, np.full(3, np.nan)), [0, 0, 0], 7, 9)
    assert write_table(tmp_path, [*ranked, lost])[-1]["auc"] == ""
    draw_sweep([*ranked, lost], title="")
    draw_sweep([lost], title="")
    assert "nan" in format_sweep([*ranked, lost], heading="")
