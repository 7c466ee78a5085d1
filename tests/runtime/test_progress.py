import io
import logging
import re

import pytest

from pneumo_keras.runtime import progress
from pneumo_keras.runtime.progress import clear_bars, show_progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so, and no terminal."""
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(progress.sys, "stderr", io.StringIO())
    return now


def say(caplog, clock, total, *steps, **options):
    with (
        caplog.at_level("INFO", "pneumo_keras"),
        show_progress("Reading", total, "images", **options) as shown,
    ):
        for seconds, count in steps:
            clock[0] += seconds
            shown.advance(count)
    return caplog.messages


def test_without_a_terminal_a_line_now_and_then_says_the_time_left(caplog, clock):
    lines = say(caplog, clock, 4000, (10, 500), (10, 500), (1, 100), (20, 900))
    assert lines == [
        "Reading: 1,000 of 4,000 images, 50.00/s, about 01:00 left",
        "Reading: 2,000 of 4,000 images, 48.57/s, about 00:41 left",
    ]


def test_what_an_earlier_attempt_did_does_not_count_as_speed(caplog, clock):
    assert say(caplog, clock, 4000, (20, 1000), done=2000) == [
        "Reading: 3,000 of 4,000 images, 50.00/s, about 00:20 left"
    ]


def test_where_the_total_is_unknown_no_time_is_promised(caplog, clock):
    assert say(caplog, clock, 0, (20, 40_000_000), scale=True) == ["Reading: 40.0M images, 2.00M/s"]


def test_short_work_logs_nothing(caplog, clock):
    assert say(caplog, clock, 40, (5, 20), (5, 20)) == []


def test_on_a_terminal_there_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    with show_progress("Reading", 10, "images", done=4) as shown:
        shown.advance(6)
    assert re.search(r"Reading: .*4/10", capsys.readouterr().err)


@pytest.mark.parametrize("quiet", [True, False])
def test_whoever_asks_for_warnings_alone_sees_no_bar(monkeypatch, capsys, quiet, tmp_path):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    handler = logging.StreamHandler(progress.sys.stderr)
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    written = logging.FileHandler(tmp_path / "train.log")
    monkeypatch.setattr(progress.log, "handlers", [handler, written])
    monkeypatch.setattr(progress.log, "level", logging.INFO)
    with show_progress("Reading", 10, "images") as shown:
        shown.advance(6)
    written.close()
    assert ("Reading" in capsys.readouterr().err) == (not quiet)


def test_a_line_that_is_printed_meanwhile_is_not_behind_the_bar(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    with show_progress("Reading", 10, "images"), clear_bars():
        progress.sys.stderr.write("a line\n")
    shown = capsys.readouterr().err
    assert re.search(r"Reading: .*0/10", shown)
    assert shown[: shown.index("a line")].endswith("\r")


def test_the_work_leaves_space_for_its_bar(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    with show_progress("Features of training images of synthetic phantoms, 28 px", 10, "images"):
        pass
    assert "\rFeatures of training images ...: " in capsys.readouterr().err
