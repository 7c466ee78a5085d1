import pytest

from tests.bench.measuring import Usage
from tests.scale.growth import list_commands, list_rows, to_slope


def test_the_slope_is_the_exponent():
    assert to_slope((10, 3.0), (1000, 3.0)) == 0
    assert to_slope((10, 2.0), (1000, 200.0)) == pytest.approx(1)
    assert to_slope((10, 1.0), (100, 100.0)) == pytest.approx(2)


def test_slopes_stand_at_the_larger_number():
    usages = {
        100: {"train": Usage(1.0, 500.0, 0.0), "eval": Usage(2.0, 400.0, 10.0)},
        1000: {"train": Usage(10.0, 500.0, 0.0), "eval": Usage(2.0, 4000.0, 10.0)},
    }
    assert list_rows(usages) == [
        ("`train`", "100", "1.0", "-", "500", "-", "0"),
        ("`train`", "1,000", "10.0", "1.00", "500", "0.00", "0"),
        ("`eval`", "100", "2.0", "-", "400", "-", "10"),
        ("`eval`", "1,000", "2.0", "0.00", "4,000", "1.00", "10"),
    ]


def test_options_come_behind_the_settings_of_the_network(tmp_path):
    commands = list_commands(100, tmp_path, tmp_path / "images", ["--set", "training.epochs=1"])
    assert list(commands) == ["train", "eval", "predict"]
    assert "data.phantom_images=[100, 50, 100]" in commands["train"]
    assert commands["train"].index("training.epochs=1") > commands["train"].index("model.weights=none")
