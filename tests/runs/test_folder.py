import json
import multiprocessing
import stat
import subprocess
import sys
from dataclasses import dataclass

import pytest

from pneumo_keras.config import load_config
from pneumo_keras.errors import DataError, RunError
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runtime.signals import Stopped
from pneumo_keras.storage.documents import FloatOrNan

CONFIG = load_config("demo")
WHOLE = ["a.json", "config.toml", "figures/b.png", "manifest.sha256", "train.log"]


def list_files(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def write(folder, error=None, meanwhile=lambda: None, *, resume=False):
    with folder.writing(CONFIG, {}, resume=resume):
        folder.write_json("a.json", {"x": 1})
        folder.write_with("figures/b.png", lambda path: path.write_bytes(b"png"))
        meanwhile()
        if error:
            raise error


def test_a_run_is_written_whole(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "one")
    write(folder)
    assert list_files(folder.path) == [
        "a.json",
        "config.toml",
        "figures/b.png",
        "manifest.sha256",
        "train.log",
    ]
    assert load_config(str(folder.path / "config.toml")) == CONFIG


def test_settings_are_kept_as_the_user_wrote_them(tmp_path):
    folder = RunFolder(tmp_path / "one")
    with folder.writing(load_config("default", ["data.path=images.npz"]), {}):
        pass
    assert 'path = "images.npz"' in (folder.path / "config.toml").read_text()


def test_a_run_that_fails_leaves_nothing_behind(tmp_path):
    folder = RunFolder(tmp_path / "one")
    with pytest.raises(DataError):
        write(folder, DataError("images"))
    assert not folder.path.exists()


def test_a_run_that_is_stopped_can_be_resumed(tmp_path):
    folder = RunFolder(tmp_path / "one")
    with pytest.raises(Stopped):
        write(folder, Stopped(2))
    assert folder.is_begun()
    with pytest.raises(RunError, match="was not finished"):
        folder.check_free()
    folder.checkpoint_file.touch()
    again = RunFolder(folder.path)
    with again.writing(CONFIG, {}, resume=True):
        again.write_text("model.keras", "whole")
    assert (folder.is_begun(), folder.checkpoint_file.exists()) == (False, False)


def test_a_run_that_fails_after_a_checkpoint_stays(tmp_path):
    folder = RunFolder(tmp_path / "one")
    with pytest.raises(DataError):
        write(folder, DataError("a disk is gone"), meanwhile=folder.checkpoint_file.touch)
    assert folder.is_begun()


def test_a_run_that_fails_while_it_is_resumed_stays(tmp_path):
    folder = RunFolder(tmp_path / "one")
    with pytest.raises(Stopped):
        write(folder, Stopped(2))
    with pytest.raises(DataError), folder.writing(CONFIG, {}, resume=True):
        raise DataError("a disk is gone")
    assert folder.is_begun()


def test_what_a_killed_writer_leaves_is_no_run_and_goes(tmp_path):
    folder = RunFolder(tmp_path)
    for name in (".claim.lock", ".0123456789ab.config.toml"):
        (tmp_path / name).touch()
    write(folder)
    assert list_files(tmp_path) == WHOLE


def test_a_folder_that_was_there_stays_and_so_does_what_others_put_in(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(DataError):
        write(folder, DataError("images"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError):
        write(folder, DataError("images"), meanwhile=lambda: (tmp_path / "notes.txt").write_text("mine"))
    assert list_files(tmp_path) == ["notes.txt"]


def test_a_clean_up_that_fails_does_not_hide_the_reason(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "one")

    def refuse(*_, **__):
        raise PermissionError

    with pytest.raises(DataError) as caught:
        write(
            folder,
            DataError("the reason"),
            meanwhile=lambda: monkeypatch.setattr("pathlib.Path.unlink", refuse),
        )
    assert str(caught.value) == "the reason"


def test_the_run_that_loses_never_touches_the_other_s_folder(tmp_path):
    first, second = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "one")
    with first.writing(CONFIG, {}):
        first.write_text("a.txt", "mine")
        with pytest.raises(RunError) as caught, second.writing(CONFIG, {}):
            pytest.fail("two runs in one folder")
        assert list_files(first.path) == [
            ".claim.lock",
            "a.txt",
            "config.toml",
            "train.log",
            "unfinished.json",
        ]
    assert str(caught.value) == (
        f"{first.path} holds a run that is being trained: wait until it is finished."
    )
    assert list_files(first.path) == ["a.txt", "config.toml", "manifest.sha256", "train.log"]


def enter(parent, name, barrier, results):
    won = []
    for attempt in range(10):
        folder = RunFolder(parent / str(attempt))
        barrier.wait()
        try:
            with folder.writing(CONFIG, {}):
                folder.write_text("winner.txt", name)
                won.append(attempt)
        except RunError:
            pass
    results.put((name, won))


def test_of_two_processes_that_start_at_once_one_gets_the_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=enter, args=(tmp_path, name, barrier, results)) for name in ("a", "b")
    ]
    for process in processes:
        process.start()
    won = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    assert sorted(won["a"] + won["b"]) == list(range(10))
    for name, attempts in won.items():
        for attempt in attempts:
            folder = tmp_path / str(attempt)
            assert list_files(folder) == ["config.toml", "manifest.sha256", "train.log", "winner.txt"]
            assert (folder / "winner.txt").read_text() == name


def test_what_cannot_be_written_gets_one_line_and_leaves_nothing(tmp_path):
    folder = RunFolder(tmp_path / "one")

    def fill_disk(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError) as caught, folder.writing(CONFIG, {}):
        folder.write_with("model.keras", fill_disk)
    assert str(caught.value) == f"{folder.path}/model.keras cannot be written: No space left on device"
    assert not folder.path.exists()


def test_dataclasses_become_json_and_come_back(tmp_path):
    @dataclass(frozen=True)
    class Found:
        n: int
        share: FloatOrNan

    folder = RunFolder(tmp_path)
    folder.write_json("found.json", Found(3, float("nan")))
    folder.update_manifest()
    assert json.loads((tmp_path / "found.json").read_text()) == {"n": 3, "share": None}
    found = folder.load_document(Found, "found.json")
    assert found.n == 3
    assert found.share != found.share


def test_files_of_a_run_have_the_mode_that_the_umask_gives(tmp_path):
    write(RunFolder(tmp_path / "one"))
    (tmp_path / "plain").touch()
    mode = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    for name in ("config.toml", "train.log", "figures/b.png"):
        assert stat.S_IMODE((tmp_path / "one" / name).stat().st_mode) == mode


def test_runs_need_neither_keras_nor_matplotlib():
    code = (
        "import sys, pneumo_keras.runs.folder, pneumo_keras.runs.environment, pneumo_keras.runs.run\n"
        "print(sorted({'keras', 'jax', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_environment_names_backend_and_versions():
    about = describe_environment()
    assert (about["backend"], about["device"]) == ("jax", "cpu")
    assert {"keras", "jax", "numpy"} <= set(about["packages"])
