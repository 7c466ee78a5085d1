import os
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from pneumo_keras.config import (
    Config,
    describe_config,
    explain_config,
    find_named,
    format_config,
    list_paths,
    load_config,
    name_files,
    resolve_paths,
)
from pneumo_keras.config.settings import (
    PATTERN_RULE,
    ComputeSettings,
    DataSettings,
    EvaluationSettings,
    FeatureLayer,
)
from pneumo_keras.data.sources import SOURCES
from pneumo_keras.engines.table import ENGINES
from pneumo_keras.errors import SettingsError
from pneumo_keras.evaluation.threshold import RULES


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
    assert config.model.feature_layers == ("mixed10",)
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
    config = load_config(
        empty, ['model.feature_layers=["mixed4"]', "model.weights=none", "augmentation.plain=true"]
    )
    assert (config.model.feature_layers, config.model.weights) == (("mixed4",), "none")


def test_a_written_configuration_reads_back_the_same(empty, tmp_path):
    config = load_config(
        empty, ["data.path=images.npz", "seed=7", "model.feature_layers=['mixed1','mixed2']"]
    )
    path = tmp_path / "again.toml"
    path.write_text(format_config(config))
    assert load_config(str(path)) == config


def test_paths_stay_as_they_were_written_and_are_resolved_for_the_work(empty, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(empty, ["data.path=images.npz", "model.weights=w.weights.h5"])
    assert (config.data.path, config.model.weights) == (Path("images.npz"), "w.weights.h5")
    resolved = resolve_paths(config)
    assert resolved.data.path == tmp_path / "images.npz"
    assert resolved.model.weights == str(tmp_path / "w.weights.h5")
    assert resolve_paths(load_config(empty)) == load_config(empty)


def test_noted_paths_are_found_from_any_working_folder(empty, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(empty, ["data.path=images.npz"])
    noted = list_paths(config)
    assert noted == {"data.path": str(tmp_path / "images.npz")}
    monkeypatch.chdir("/")
    assert resolve_paths(config, noted).data.path == tmp_path / "images.npz"


def test_a_home_folder_is_found_and_one_of_nobody_gets_one_line(empty, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    config = load_config(empty, ["data.path=~/images.npz"])
    assert str(config.data.path) == "~/images.npz"
    assert resolve_paths(config).data.path == Path("/home/ann/images.npz")
    nobody = load_config(empty, ["model.weights=~nosuchuser/w.h5"])
    with pytest.raises(SettingsError) as caught:
        resolve_paths(nobody)
    assert str(caught.value) == (
        "Setting 'model.weights' must be a path. Received: '~nosuchuser/w.h5': Could not determine home "
        "directory."
    )


def test_a_report_gets_file_names_alone(empty):
    config = name_files(load_config(empty, ["data.path=/mine/images.npz", "model.weights=/mine/w.h5"]))
    assert (config.data.path, config.model.weights) == (Path("images.npz"), "w.h5")


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
            "Setting 'model.image_size' must be greater than or equal to 75. Received: 74",
        ),
        ("training.epochs=many", "Setting 'training.epochs' must be a valid integer. Received: 'many'"),
        ("training.epochs=2.5", "Setting 'training.epochs' must be a valid integer. Received: 2.5"),
        ("training.epochs=true", "Setting 'training.epochs' must be a valid integer. Received: True"),
        ("data.size=30", "Setting 'data.size' must be 28, 64, 128 or 224. Received: 30"),
        ("training.mode=cashed", "Setting 'training.mode' must be 'cached' or 'online'. Received: 'cashed'"),
        (
            "model.feature_layers=mixed44",
            "Setting 'model.feature_layers' must be 'mixed0', 'mixed1', 'mixed2', 'mixed3', 'mixed4', "
            "'mixed5', 'mixed6', 'mixed7', 'mixed8', 'mixed9' or 'mixed10'. Received: 'mixed44'",
        ),
        (
            "data.phantom_images=[1, 2, 3]",
            "Setting 'data.phantom_images' must be greater than or equal to 2. Received: 1",
        ),
        (
            "training.learning_rate=nan",
            "Setting 'training.learning_rate' must be a finite number. Received: nan",
        ),
        ("augmentation.plain=si", "Setting 'augmentation.plain' must be a valid boolean. Received: 'si'"),
        ("data.path=", "Setting 'data.path' must not be empty. Received: ''"),
        ('data.path=""', "Setting 'data.path' must not be empty. Received: ''"),
        ("model.weights=", "Setting 'model.weights' must not be empty. Received: ''"),
        ("training=3", "Unknown setting 'training'. Did you mean 'training.mode'?"),
        ("epochs", "--set must look like training.epochs=3. Received: epochs"),
        (
            "model.feature_layers=[]",
            "Setting 'model.feature_layers' must have at least 1 item after validation, not 0. Received: []",
        ),
        ('model.feature_layers=["mixed1", "mixed1"]', "model.feature_layers must name each block once"),
        (
            "augmentation.plain=false",
            "augmentation.plain=false needs augmentation.views of at least 1",
        ),
        ("data.source=folder", 'data.source="folder" needs data.path: a folder of images, or a CSV'),
        ("data.patient_pattern=person", f"{PATTERN_RULE}. Received: 'person', with 0 groups"),
        ("data.patient_pattern=(a)(b)", f"{PATTERN_RULE}. Received: '(a)(b)', with 2 groups"),
        (
            "data.patient_pattern=(a",
            f"{PATTERN_RULE}. Received: '(a': missing ), unterminated subpattern at position 0",
        ),
        (
            "data.patient_pattern=(a{99999999999})",
            f"{PATTERN_RULE}. Received: '(a{{99999999999}})': the repetition number is too large",
        ),
        (
            "compute.store=s3://me:hush@host/bucket",
            "compute.store must hold no password: drivers take theirs from the environment",
        ),
    ],
)
def test_a_wrong_setting_gets_one_line(empty, override, expected):
    assert message(empty, override) == expected


def test_views_belong_to_the_cached_mode(empty):
    expected = 'augmentation.views needs training.mode="cached"'
    assert message(empty, "training.mode=online", "augmentation.views=2") == expected
    expected = (
        'training.optimizer="sgd" needs linear heads on standardised features: model.hidden_units=0 and '
        "model.standardise=true"
    )
    assert message(empty, "training.optimizer=sgd", "model.hidden_units=8") == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["training.mode=online"],
            'training.unfreeze_from needs training.mode="cached" and training.members=1. '
            "Received: online, 1. Leave it unset, or change them",
        ),
        (
            ["training.members=3"],
            'training.unfreeze_from needs training.mode="cached" and training.members=1. '
            "Received: cached, 3. Leave it unset, or change them",
        ),
        (
            ["model.feature_layers=['mixed7', 'mixed2']"],
            "training.unfreeze_from must not be above the highest of model.feature_layers, which is mixed7. "
            "Received: mixed8",
        ),
        (
            ["training.unfrozen_batch_size=1000"],
            "training.unfreeze_from takes at most 33,554,432 pixels in a step: training.unfrozen_batch_size "
            "times the square of model.image_size. Received: 89,401,000. Lower one of them",
        ),
    ],
)
def test_blocks_that_cannot_learn_get_one_line(empty, overrides, expected):
    assert load_config(empty, ["training.unfreeze_from=mixed8"]).training.unfreeze_from == "mixed8"
    assert message(empty, "training.unfreeze_from=mixed8", *overrides) == expected


def test_an_unknown_configuration_names_the_known_ones():
    assert message("demmo") == (
        f"--config must be one of {', '.join(find_named('configs'))}, or a TOML file. Received: demmo"
    )


def test_a_damaged_file_gets_one_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("seed = = 3")
    assert message(str(path)).startswith(f"{path} is not a TOML file: Invalid value")


def test_a_table_that_is_a_number_gets_one_line_with_an_override_too(tmp_path):
    path = tmp_path / "flat.toml"
    path.write_text("training = 3\n")
    for overrides in ([], ["training.epochs=3"]):
        assert message(str(path), *overrides).startswith("Setting 'training' must be a valid dictionary or ")


def test_a_file_that_cannot_be_read_gets_one_line(tmp_path, monkeypatch):
    path = tmp_path / "mine.toml"
    path.touch()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pneumo_keras.storage.bounded_reading.os.open", refuse)
    assert message(str(path)) == f"{path} cannot be read: Permission denied"


def test_a_class_may_be_called_by_a_number(empty):
    assert load_config(empty, ["data.positive=1"]).data.positive == "1"
    assert load_config(empty).data.positive == "PNEUMONIA"


@pytest.mark.parametrize(
    "text", ["2024", "007", "1e3", "true", "inf", "2024-02-30", "2024-02-01", "[1]", "{a = 1}", "C:\\new"]
)
def test_text_is_taken_as_it_is_written(empty, text):
    """A folder may be called anything; what is TOML of another kind is no other value there."""
    assert load_config(empty, [f"data.path={text}"]).data.path == Path(text)
    assert load_config(empty, [f"model.weights={text}"]).model.weights == text
    assert load_config(empty, [f"data.positive={text}"]).data.positive == text
    assert load_config(empty, [f"compute.store='{text}'"]).compute.store == text


def test_one_feature_layer_needs_no_brackets(empty):
    assert load_config(empty, ["model.feature_layers=mixed4"]).model.feature_layers == ("mixed4",)


def test_settings_name_the_rows_of_their_tables():
    def list_names(settings, name):
        return get_args(settings.model_fields[name].annotation)

    assert set(list_names(DataSettings, "source")) == set(SOURCES)
    assert set(list_names(EvaluationSettings, "rule")) == set(RULES)
    assert set(list_names(ComputeSettings, "engine")) == {"auto", *ENGINES}


@pytest.mark.parametrize("name", find_named("configs"))
def test_an_explained_configuration_reads_back_the_same(tmp_path, name):
    config = load_config(name)
    path = tmp_path / "mine.toml"
    path.write_text(explain_config(config))
    assert load_config(str(path)) == config


def test_every_setting_is_explained_and_unset_ones_are_commented_out(empty):
    text = explain_config(load_config(empty))
    keys = [
        f"{table}.{name}" if isinstance(settings, dict) else table
        for table, settings in tomllib.loads(text).items()
        for name in (settings if isinstance(settings, dict) else [""])
    ]
    described = describe_config(load_config(empty))
    unset = {"data.path", "training.unfreeze_from", "compute.store", "compute.coordinator", "compute.rank"}
    assert {*keys, *unset} == set(described)
    assert "the folder or CSV of the source folder; path\n# path = ...\n" in text
    assert "; one of cached, online\nmode = " in text
    assert all(setting["description"] for setting in described.values())


NO_NOUNS = "a an the which what how whether where when if to by in is are use set fit take only do not"


def test_the_comment_of_every_setting_begins_with_a_noun(empty):
    described = describe_config(load_config(empty))
    first = {key: re.split(r"[\s:,;]", setting["description"])[0] for key, setting in described.items()}
    others = {word for word in first.values() if word.lower() in NO_NOUNS.split() or word.endswith("ed")}
    assert others == {"augmented", "seed"}  # augmented views


def test_settings_are_described_for_programs(empty):
    described = describe_config(load_config(empty, ["training.epochs=3"]))
    assert described["training.epochs"] == {
        "value": 3,
        "title": "Epochs",
        "type": "integer",
        "description": "passes over the training images",
        "default": 10,
        "minimum": 1,
        "maximum": 10_000,
    }
    assert described["training.mode"]["enum"] == ["cached", "online"]
    assert described["model.feature_layers"]["items"]["enum"] == list(get_args(FeatureLayer))
    assert described["data.path"]["value"] is None
    assert described["model.dropout"]["exclusiveMaximum"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "training = 3",
        "training = [1]",
        "[[data]]\npath = 'x'",
        "seed = " + "1" * 5000,
        "seed = 0x" + "f" * 5000,
        "seed = " + "[" * 3000,
        "seed = {" + "a = {" * 300,
        ".".join("a" * 4000) + " = 1",
        "training.epochs = true",
        "data.phantom_images = [true, 4, 5]",
        'data.path = "a\\u0000b"',
        '"a\\nb" = 1',
        "data.positive = " + repr("x" * 5000),
        "\n" * 70_000,
    ],
)
def test_odd_settings_get_one_line(tmp_path, text):
    path = tmp_path / "odd.toml"
    path.write_text(text)
    line = message(str(path))
    assert line.isprintable() and len(line) < 1000


@pytest.mark.parametrize("kind", ["pipe", "device", "sparse"])
def test_what_is_no_file_of_settings_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "x.toml"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/zero")
        case "sparse":
            with path.open("wb") as file:
                file.truncate(2**40)
    assert message(str(path)).startswith(f"{path} cannot be read: it ")


@pytest.mark.parametrize("name", ["x" * 300, "abc\0", "/dev/null/x"])
def test_a_name_that_no_file_can_have_gets_one_line(name):
    assert message(name).startswith(
        "--config must be one of accurate, default, demo, fine, reference, or a TOML file."
    )


@pytest.mark.parametrize("override", ["seed=1\nfoo=2", "seed=1\r", "seed=1\u2028"])
def test_an_override_is_one_line(override):
    assert message("demo", override).startswith("--set must look like training.epochs=3. Received: seed=1")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.hidden_units=1000000"], "equal to 16384"),
        (["model.hidden_units=16384", "training.members=2"], "training.members times model.hidden_units"),
        (["model.image_size=20000"], "equal to 1024"),
        (["training.mode=online", "model.image_size=1024", "training.batch_size=64"], "pixels in a step"),
        (["data.phantom_images=[100000000, 2, 2]"], "equal to 100000"),
        (["augmentation.views=1000"], "equal to 100"),
        (["training.epochs=1000000000"], "equal to 10000"),
        (["training.batch_size=1000000"], "equal to 8192"),
        (["compute.cache_gigabytes=1e300"], "equal to 1000000"),
    ],
)
def test_nothing_can_be_asked_for_that_takes_memory_without_bound(empty, overrides, words):
    assert words in message(empty, *overrides)
