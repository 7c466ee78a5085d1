import pytest

from pneumo_keras.config import load_config
from pneumo_keras.config.grid import group_combinations, load_grid
from pneumo_keras.errors import SettingsError


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "grid.toml"
        path.write_text(text)
        return str(path)

    return write


def test_a_grid_names_settings_with_lists_of_values(write):
    path = write("[model]\nfeature_layers = [['mixed4'], ['mixed2', 'mixed5']]\n[training]\nepochs = [3]\n")
    assert load_grid(path) == {
        "model.feature_layers": [["mixed4"], ["mixed2", "mixed5"]],
        "training.epochs": [3],
    }


def test_the_grids_that_come_with_the_package_are_whole():
    for name, config in (
        ("demo", "demo"),
        ("features", "default"),
        ("heads", "default"),
        ("larger", "default"),
    ):
        groups = group_combinations(load_config(config), load_grid(name), at_once=20)
        assert sum(len(group) for _, group in groups) > 10


def test_combinations_that_differ_in_rate_and_decay_are_fitted_at_once():
    grid = {
        "model.hidden_units": [0, 8],
        "training.learning_rate": [1e-4, 1e-3, 1e-2],
        "training.weight_decay": [0.0, 0.1],
    }
    groups = group_combinations(load_config("demo"), grid, at_once=4)
    assert [(shared.model.hidden_units, len(group)) for shared, group in groups] == [
        (0, 4),
        (0, 2),
        (8, 4),
        (8, 2),
    ]
    assert groups[0][1][1] == {
        "model.hidden_units": 0,
        "training.learning_rate": 1e-4,
        "training.weight_decay": 0.1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path} must have 1 to 10,000 combinations. Received: 0"),
        ("[model]\ndropout = 0.5\n", "{path} must have a list of values for model.dropout. Received: 0.5"),
        (
            "seed = [1, 2]\n",
            "A sweep is over settings of model, training and augmentation, without training.mode, "
            "training.members, training.unfreeze_from, model.weights. Received: seed in {path}",
        ),
        (
            "[training]\nmembers = [1, 2]\n",
            "A sweep is over settings of model, training and augmentation, without training.mode, "
            "training.members, training.unfreeze_from, model.weights. Received: training.members in {path}",
        ),
    ],
)
def test_a_grid_that_is_none_gets_one_line(write, text, message):
    path = write(text)
    with pytest.raises(SettingsError) as caught:
        load_grid(path)
    assert str(caught.value) == message.format(path=path)


def test_a_value_that_breaks_a_rule_gets_one_line():
    with pytest.raises(SettingsError) as caught:
        group_combinations(load_config("demo"), {"model.dropout": [0.5, 1.5]}, at_once=9)
    assert str(caught.value) == ("Setting 'model.dropout' must be less than 1. Received: 1.5")


def test_an_unknown_setting_gets_one_line():
    with pytest.raises(SettingsError) as caught:
        group_combinations(load_config("demo"), {"model.droput": [0.5]}, at_once=9)
    assert str(caught.value) == "Unknown setting 'model.droput'. Did you mean 'model.dropout'?"


def test_a_grid_that_is_not_there_gets_one_line():
    with pytest.raises(SettingsError) as caught:
        load_grid("nowhere.toml")
    assert (
        str(caught.value)
        == "--grid must be one of demo, features, heads, larger, or a TOML file. Received: nowhere.toml"
    )


def test_a_grid_has_a_bounded_number_of_combinations(tmp_path):
    path = tmp_path / "grid.toml"
    values = list(range(75, 575))
    path.write_text(f"[model]\nimage_size = {values}\n[training]\nepochs = {list(range(1, 22))}\n")
    with pytest.raises(SettingsError, match=r"1 to 10,000 combinations\. Received: 10,500"):
        load_grid(str(path))
