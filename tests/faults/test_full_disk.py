"""Runs on file systems that are really full, or mounted to be read only."""

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress

import pytest

from pneumo_keras import BACKEND
from pneumo_keras.exports.forms import FORMS
from pneumo_keras.recipes import network
from pneumo_keras.runtime import backend
from tests.faults.operations import TRAIN, UNFINISHED, check_manifest, invoke, read_files, require
from tests.toy import build_toy_backbone

pytestmark = [pytest.mark.system, pytest.mark.slow]

SIZES = (8, 24, 64, 112)  # kB, of which the run takes more


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setattr(network, "build_backbone", build_toy_backbone)
    monkeypatch.setattr(backend, "start_backend", lambda cache: None)  # it has been started


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@contextmanager
def mount(folder, kilobytes):
    """A file system of that size; yields what mounts it anew."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")

    def change(options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    try:
        yield change
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path):
    """Fills the disk with a file."""
    with path.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(path.parent).free)
    assert shutil.disk_usage(path.parent).free == 0


def train_whole(folder):
    """A run, trained and evaluated where there is space."""
    if not (folder / "run").exists():
        require(invoke(folder, *TRAIN, "--run", folder / "run"))
    return read_files(folder / "run")


def is_one_line(done):
    return done.exit_code == 1 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("size", SIZES)
def test_a_training_whose_disk_is_full_goes_on_when_there_is_space(tmp_path, whole, size):
    expected = train_whole(whole)
    with mount(tmp_path / "disk", size) as change:
        run = tmp_path / "disk" / "run"
        done = invoke(tmp_path, *TRAIN, "--run", run)
        assert is_one_line(done), done.output
        left = read_files(run)
        assert [name for name in left if name not in UNFINISHED and left[name] != expected[name]] == []
        assert check_manifest(run) == []
        change("size=10m")
        require(invoke(tmp_path, *TRAIN, "--run", run, "--resume"))
        assert read_files(run) == expected
        assert check_manifest(run) == []


@pytest.mark.parametrize("size", [4, 12])
def test_a_cache_that_is_full_ends_a_training_in_one_line(tmp_path, whole, size):
    expected = train_whole(whole)
    with mount(tmp_path / "cache", size) as change:
        done = invoke(tmp_path, *TRAIN, "--run", tmp_path / "run")
        assert is_one_line(done) and "PNEUMO_KERAS_CACHE" in done.stderr, done.output
        assert not (tmp_path / "run").exists()
        change("size=10m")
        require(invoke(tmp_path, *TRAIN, "--run", tmp_path / "run"))
        assert read_files(tmp_path / "run") == expected


def test_a_run_on_a_full_disk_is_evaluated_without_a_word_lost(tmp_path):
    with mount(tmp_path / "disk", 400) as change:
        run = tmp_path / "disk" / "run"
        require(invoke(tmp_path, *TRAIN, "--run", run))
        fill(tmp_path / "disk" / "filler")
        trained = read_files(run)
        done = invoke(tmp_path, "eval", run)
        assert is_one_line(done) and "AUC" in done.stdout
        assert read_files(run) == trained
        change("size=10m")
        require(invoke(tmp_path, "eval", run))
        assert check_manifest(run) == []


def test_a_run_that_can_only_be_read_is_evaluated_and_told_so(tmp_path):
    with mount(tmp_path / "disk", 10_000) as change:
        run = tmp_path / "disk" / "run"
        require(invoke(tmp_path, *TRAIN, "--run", run))
        change("ro")
        trained = read_files(run)
        done = invoke(tmp_path, "eval", run)
        assert is_one_line(done) and "AUC" in done.stdout
        assert "Read-only file system" in done.stderr
        assert read_files(run) == trained
        new = invoke(tmp_path, *TRAIN, "--run", run.with_name("new"))
        assert is_one_line(new) and "Read-only file system" in new.stderr
        assert invoke(tmp_path, *TRAIN, "--run", run, "--resume").exit_code == 0


def test_a_mount_point_is_a_folder_like_any_other(tmp_path, whole):
    expected = train_whole(whole)
    with mount(tmp_path / "disk", 24) as change:
        disk = tmp_path / "disk"
        assert is_one_line(invoke(tmp_path, *TRAIN, "--run", disk))
        assert disk.is_dir()
        change("size=10m")
        require(invoke(tmp_path, *TRAIN, "--run", disk, "--resume"))
        assert read_files(disk) == expected


@pytest.mark.parametrize("size", [0, 8])
@pytest.mark.parametrize("form", FORMS)
def test_an_export_whose_disk_is_full_is_one_line_and_leaves_nothing(tmp_path, whole, form, size):
    if FORMS[form].backend not in (None, BACKEND):
        pytest.skip(f"needs KERAS_BACKEND={FORMS[form].backend}")
    train_whole(whole)
    with mount(tmp_path / "disk", 10_000) as change:
        filler = tmp_path / "disk" / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(filler.parent).free - 1024 * size))
        out = tmp_path / "disk" / f"model{FORMS[form].ending}"
        command = ["export", whole / "run", "--format", form, "--out", out]
        done = invoke(whole, *command)
        assert is_one_line(done) and "--out cannot be written" in done.stderr, done.output
        assert [file.name for file in out.parent.iterdir()] == ["filler"]
        change("size=20m")
        require(invoke(whole, *command))
