"""The command line of a training that several processes share."""

import pytest

from pneumo_keras import __main__
from pneumo_keras.cli import main, together
from pneumo_keras.distributed import launcher
from pneumo_keras.distributed import process_group as companies
from pneumo_keras.distributed.process_group import Company
from pneumo_keras.recipes import train
from pneumo_keras.runtime.signals import Stopped
from tests.distribution.acceptance import ONLINE, start_two, to_log
from tests.distribution.notes import Board
from tests.small import SMALL

NEXT = "Start all of them again, with --run run --resume, to go on after the last checkpoint."
SECONDS = 240


def test_the_worker_gets_the_command_that_was_given(monkeypatch):
    given = []

    def watch(arguments, *, next_step):
        given.append((list(arguments), next_step))
        return 3

    monkeypatch.setattr(launcher, "watch", watch)
    arguments = ["-q", "train", *ONLINE, "--set", "compute.processes=0", "--run", "run"]
    with pytest.raises(SystemExit) as ended:
        __main__.start(arguments)
    assert ended.value.code == 3
    assert given == [(arguments, NEXT)]


def test_a_stop_says_how_to_go_on_as_a_loss_does(monkeypatch, tmp_path, capsys):
    def stop(*_, **__):
        raise Stopped(2)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(companies, "Notes", Board)
    monkeypatch.setattr(launcher, "is_watched", lambda: True)
    monkeypatch.setattr(together, "join_company", lambda config: Company(0, 1))
    monkeypatch.setattr(train, "train_run", stop)
    with pytest.raises(SystemExit) as ended:
        main(["train", *ONLINE, "--set", "compute.processes=0", "--run", "run"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"Stopped. {NEXT}\n"


@pytest.mark.slow
def test_two_processes_train_and_the_first_alone_speaks(tmp_path):
    run = tmp_path / "run"
    small = [*SMALL, "model.feature_layers=['mixed0']", "training.batch_size=16"]
    processes = start_two(run, *ONLINE, *(part for one in small for part in ("--set", one)))
    try:
        assert [process.wait(SECONDS) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (to_log(run, rank).read_text() for rank in range(2))
    assert "2 processes train together; this is the first" in first
    assert "16 images a step over 2 devices: 8 each" in first
    assert (run / "metrics_val.json").is_file()
    assert second == ""
