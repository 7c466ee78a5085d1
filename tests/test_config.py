import pytest

from pneumo_keras.config import Config, find_named, format_config, list_keys, load_config
from pneumo_keras.errors import SettingsError


@pytest.fixture
def empty(tmp_path):
    path = tmp_path / "empty.toml"
    path.write_text("")
    return str(path)


def message(name, *overrides):
    with pytest.raises(SettingsError) as caught:
        load_config(name, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", find_named("configs"))
def test_named_configurations_are_valid(name):
    assert isinstance(load_config(name), Config)


def test_the_named_configurations_are_those_of_the_design():
    assert {"default", "reference", "demo", "accurate"} <= set(find_named("configs"))


def test_the_reference_configuration_is_the_reference_protocol():
    config = load_config("reference")
    assert (config.model.hidden_units, config.model.dropout, config.model.outputs) == (512, 0.5, 2)
    assert config.model.taps == ("mixed10",)
    assert not config.model.standardise
    assert (config.training.epochs, config.training.batch_size) == (10, 16)
    assert (config.training.learning_rate, config.training.weight_decay) == (1e-4, 1e-5)
    assert (config.training.plateau_factor, config.training.plateau_patience) == (0.2, 2)
    assert (config.augmentation.rotation_degrees, config.augmentation.brightness) == (15, 0.1)
    assert config.seed == 42


def test_an_override_wins_over_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 7\nbatch_size = 8\n")
    config = load_config(str(path), ["training.epochs=3"])
    assert (config.training.epochs, config.training.batch_size) == (3, 8)


def test_overrides_are_toml_or_bare_words(empty):
    config = load_config(empty, ['model.taps=["mixed4"]', "model.weights=none", "augmentation.plain=true"])
    assert (config.model.taps, config.model.weights) == (("mixed4",), "none")


def test_a_written_configuration_reads_back_the_same(empty, tmp_path):
    config = load_config(empty, ["data.path=films.npz", "seed=7", "model.taps=['mixed1','mixed2']"])
    path = tmp_path / "again.toml"
    path.write_text(format_config(config))
    assert load_config(str(path)) == config


def test_paths_become_absolute_so_that_a_run_can_be_read_from_anywhere(empty, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(empty, ["data.path=films.npz", "model.weights=w.weights.h5"])
    assert config.data.path == tmp_path / "films.npz"
    assert config.model.weights == str(tmp_path / "w.weights.h5")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "training.learning_rat=3",
            "Unknown setting 'training.learning_rat'. Did you mean 'training.learning_rate'?",
        ),
        ("traning.epochs=3", "Unknown setting 'traning.epochs'. Did you mean 'training.epochs'?"),
        ("seed.x=3", "Unknown setting 'seed.x'. Did you mean 'seed'?"),
        ("zzz=3", "Unknown setting 'zzz'. See: pneumo-keras config show default"),
        (
            "model.image_size=74",
            "Setting 'model.image_size' should be greater than or equal to 75. Received: 74",
        ),
        (
            "training.epochs=many",
            "Setting 'training.epochs' should be a valid integer, unable to parse string as an integer. "
            "Received: 'many'",
        ),
        ("data.size=30", "Setting 'data.size' should be 28, 64, 128 or 224. Received: 30"),
        ("epochs", "--set must look like training.epochs=3. Received: epochs"),
        ("model.taps=[]", "model.taps must name each block once, and at least one"),
        (
            "augmentation.plain=false",
            "augmentation.plain=false needs augmentation.views of at least 1",
        ),
    ],
)
def test_a_wrong_setting_gets_one_line(empty, override, expected):
    assert message(empty, override) == expected


def test_views_belong_to_the_cached_mode(empty):
    expected = 'augmentation.views needs training.mode="cached"'
    assert message(empty, "training.mode=online", "augmentation.views=2") == expected


def test_an_unknown_configuration_names_the_known_ones():
    assert message("demmo") == (
        f"--config must be one of {', '.join(find_named('configs'))}, or a TOML file. Received: demmo"
    )


def test_a_damaged_file_gets_one_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("seed = = 3")
    assert message(str(path)).startswith(f"{path} is no TOML file: Invalid value")


def test_every_setting_is_described():
    undescribed = []

    def walk(settings, prefix):
        for name, field in settings.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                walk(field.annotation, f"{prefix}{name}.")
            elif not field.description:
                undescribed.append(prefix + name)

    walk(Config, "")
    assert undescribed == []
    assert "training.epochs" in list_keys(Config)
