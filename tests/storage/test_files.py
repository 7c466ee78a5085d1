import logging
import os
import stat
import threading
from pathlib import Path

import pytest

from pneumo_keras.errors import RunError
from pneumo_keras.storage.files import (
    claim_folder,
    explain_unwritable,
    format_csv,
    make_dated_folder,
    remove,
    replace_atomically,
    wait_for_lock,
    write_atomically,
)

TAKEN = (
    "--out must name a new or empty folder, since nothing is ever overwritten. {} is taken: name another "
    "one, or delete it first."
)


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_a_file_has_the_mode_that_the_umask_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_a_file_that_was_not_finished_replaces_nothing(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def write_half():
        with replace_atomically(path) as new:
            assert new.suffix == ".txt"
            new.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_line_ends_stay_as_they_are(tmp_path):
    write_atomically(tmp_path / "a.csv", "a\nb\n")
    assert (tmp_path / "a.csv").read_bytes() == b"a\nb\n"
    assert format_csv([{"a": 1, "b": "x, y"}]) == 'a,b\n1,"x, y"\n'


def test_a_claimed_folder_belongs_to_one_writer(tmp_path):
    path = tmp_path / "deep" / "one"
    with claim_folder(path, option="--out"):
        with pytest.raises(RunError) as caught, claim_folder(path, option="--out"):
            pytest.fail("two writers")
        assert str(caught.value) == f"{path} is being written by another process: name another one."
        (path / "result.txt").write_text("mine")
    assert [file.name for file in path.iterdir()] == ["result.txt"]
    with pytest.raises(RunError) as caught, claim_folder(path, option="--out"):
        pytest.fail("overwritten")
    assert str(caught.value) == TAKEN.format(path)


def test_a_folder_without_anything_written_goes_again_if_it_was_made_for_the_claim(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        with claim_folder(tmp_path / name, option="--out"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize("exists", [True, False])
def test_of_many_writers_that_come_at_once_one_gets_the_folder(tmp_path, exists):
    """The losers never take the winner's files away."""
    for attempt in range(20):
        path = tmp_path / str(attempt)
        if exists:
            path.mkdir()
        barrier, lost, won = threading.Barrier(2), [], []

        def claim(name, path=path, barrier=barrier, lost=lost, won=won):
            barrier.wait()
            try:
                with claim_folder(path, option="--out"):
                    (path / name).touch()
                    won.append(name)
            except RunError as error:
                lost.append(str(error))

        threads = [threading.Thread(target=claim, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writing = f"{path} is being written by another process: name another one."
        assert len(won) == len(lost) == 1
        assert lost[0] in (TAKEN.format(path), writing)
        assert [file.name for file in path.iterdir()] == won


def test_dated_folders_of_the_same_second_get_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("pneumo_keras.storage.files.time.strftime", lambda _: "20260101-120000")
    parent = tmp_path / "runs"
    with (
        make_dated_folder(parent, "demo", option="--run") as first,
        make_dated_folder(parent, "demo", option="--run") as second,
        make_dated_folder(parent, "demo", option="--run") as third,
    ):
        names = [path.name for path in (first, second, third)]
        (second / "kept.txt").touch()
    assert names == ["demo-20260101-120000", "demo-20260101-120000-2", "demo-20260101-120000-3"]
    assert list(parent.iterdir()) == [second]


def test_a_place_that_cannot_be_written_gets_one_line(tmp_path):
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "folder"
    line = f"--out cannot be written: {below} (Not a directory)"
    with pytest.raises(RunError) as caught, claim_folder(below, option="--out"):
        pytest.fail("made")
    assert str(caught.value) == line
    with pytest.raises(RunError), make_dated_folder(below, "x", option="--out"):
        pytest.fail("made")
    with pytest.raises(RunError) as caught, explain_unwritable(Path("roc.png"), option="--out"):
        raise OSError("no reason")
    assert str(caught.value) == "--out cannot be written: roc.png (no reason)"


def test_a_lock_is_waited_for_and_the_user_is_told_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("pneumo_keras.storage.files.SECONDS_UNTIL_TOLD", 0.05)
    caplog.set_level(logging.INFO, "pneumo_keras")
    held, may_end, order = threading.Event(), threading.Event(), []

    def hold():
        with wait_for_lock(tmp_path / "lock", "it works"):
            held.set()
            may_end.wait(20)
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    threading.Timer(0.3, may_end.set).start()
    with wait_for_lock(tmp_path / "lock", "it works"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert caplog.messages == ["Waiting for another process: it works"]


def test_anything_can_be_removed(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    assert all(remove(tmp_path / name) for name in ("folder", "file", "link", "nothing"))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
