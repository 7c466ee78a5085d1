import sys

import pytest

from tests.bench.startup import list_commands, list_rows, time_command


def test_each_training_has_a_folder_of_its_own(tmp_path):
    commands = list_commands(tmp_path / "run", tmp_path / "image.png", ["--config", "demo"], tmp_path)
    first, second = commands["train"](), commands["train"]()
    assert first[-4:] == ["--run", str(tmp_path / "0"), "--config", "demo"]
    assert second[-3] == str(tmp_path / "1")
    assert commands["eval"]() == commands["eval"]()


def test_ratios_are_to_the_import_of_the_same_round():
    seconds = {"import keras": [1.0, 2.0, 4.0], "eval": [2.0, 2.0, 2.0]}
    assert list_rows(seconds)[1] == ("`eval`", "2.00 (2.00 to 2.00)", "1.00 (0.50 to 2.00)")


def test_a_command_that_fails_is_not_timed():
    assert time_command(lambda: [sys.executable, "-c", ""], {}) > 0
    with pytest.raises(RuntimeError, match="No module named 'absent'"):
        time_command(lambda: [sys.executable, "-c", "import absent"], {})
