"""Links within a run, through which files of others would be replaced."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from pneumo_keras.recipes import train as train_recipe
from pneumo_keras.runtime.signals import Stopped
from tests.images import build_phantom_images

COMMANDS = {
    "eval": ["eval", "run"],
    "eval of others": ["eval", "run", "--data", "clinic", "--name", "here"],
    "explain": ["explain", "run", "clinic/NORMAL/0.png"],
    "export": ["export", "run", "--format", "onnx"],
    "resume": ["train", "--run", "run", "--resume"],
}
READ_FIRST = {Path(folder, "manifest.sha256") for folder in ("", "data/here")}
"""Files that are read before anything is written, and would be found to be of others."""


def interrupt(*_):
    raise Stopped(15)


def write_images(folder):
    for index, image in enumerate(build_phantom_images(8, size=28, seed=8).images):
        path = folder / ("NORMAL", "PNEUMONIA")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def read_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=COMMANDS)
def command(request, invoke, small, monkeypatch, tmp_path):
    """A command, beside the run `start` that it is for and the run `whole` that it has been done on."""
    if request.param == "export":
        pytest.importorskip("onnxruntime")
    write_images(tmp_path / "clinic")
    with monkeypatch.context() as patched:
        if request.param == "resume":
            patched.setattr(train_recipe, "calibrate", interrupt)
        assert invoke("-q", "train", *small, "--run", "start").exit_code in (0, 143)
    shutil.copytree("start", "run")
    done = invoke("-q", *COMMANDS[request.param])
    assert done.exit_code == 0, done.output
    Path("run").rename("whole")
    return COMMANDS[request.param]


def test_no_command_writes_through_a_link_to_elsewhere(invoke, command, tmp_path):
    """Neither where a file that it writes is one, nor where a folder on the way is."""
    before, whole = read_files(tmp_path / "start"), read_files(tmp_path / "whole")
    files = {path for path, content in whole.items() if before.get(path) != content}
    folders = {parent for path in files for parent in path.parents} - {Path()}
    assert len(files) > 1
    run, foreign = tmp_path / "run", tmp_path / "foreign"
    for path in [*sorted(folders), *sorted(files - READ_FIRST)[::3]]:
        shutil.copytree("start", run)
        (run / path).unlink(missing_ok=True)
        (run / path).parent.mkdir(parents=True, exist_ok=True)
        if path in folders:
            shutil.copytree(tmp_path / "whole" / path, foreign)
        else:
            foreign.write_bytes(before.get(path, b"foreign"))
        (run / path).symlink_to(foreign)
        content = read_files(foreign) if foreign.is_dir() else foreign.read_bytes()
        done = invoke("-q", *command)
        assert done.exit_code == 1, (path, done.output)
        (line,) = done.stderr.splitlines()
        rule = "files are replaced there. Received: a link. Remove it."
        assert line == f"Error: run/{path} must lie within run: {rule}"
        assert (read_files(foreign) if foreign.is_dir() else foreign.read_bytes()) == content
        shutil.rmtree(run)
        shutil.rmtree(foreign) if foreign.is_dir() else foreign.unlink()
