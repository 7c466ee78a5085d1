"""What README and docs show is what there is: commands, Python, links."""

import re
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from PIL import Image
from pydicom.data import get_testdata_file

from pneumo_keras.cli import main
from pneumo_keras.recipes import network
from pneumo_keras.runtime import backend
from tests.images import build_phantom_images, load_phantom_splits, write_splits
from tests.small import COUNTS, SMALL
from tests.texts import check_arguments, find_arguments
from tests.toy import build_toy_backbone

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FEWER = [part for setting in SMALL[1:] for part in ("--set", setting)]
"""For a training of the README, that it takes a second."""


def list_blocks(page, language=""):
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def list_commands(page):
    """The arguments of each `pneumo-keras ...` in a block of commands, without what the shell makes of it."""
    for block in list_blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.partition("  #")[0].split()
            if "pneumo-keras" in words and words[0] not in ("cd", "git", "@software{pneumo_keras,"):
                yield find_arguments(line)


def to_anchors(page):
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_options_that_exist(page):
    for arguments in list_commands(page):
        check_arguments(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_and_headings_that_exist(page):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in to_anchors(target), link


def test_the_readme_is_read_in_one_sitting():
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 180
    assert len(text.split()) <= 1300


@pytest.fixture
def folder(tmp_path, monkeypatch, toy_run, warm_cache):
    """A working folder with what README and docs name: a run, images and a folder of labelled ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(network, "build_backbone", build_toy_backbone)
    Path("runs").mkdir()
    for name in ("one", "demo"):
        shutil.copytree(toy_run, Path("runs") / name)
    Path("images").mkdir()
    for index, image in enumerate(build_phantom_images(2, size=60, seed=8).images):
        Image.fromarray(image).save(f"images/{index}.png")
    shutil.copy("images/0.png", "image.png")
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.save_as("study.dcm")
    write_splits(Path("chest_xray"), load_phantom_splits(COUNTS))
    return tmp_path


def build_toy_of_any_layers(weights, *, image_size, feature_layers):
    return build_toy_backbone(weights, image_size=image_size)


@pytest.fixture
def invoke_here(folder, monkeypatch):
    """Runs a command in that folder."""
    monkeypatch.setattr(backend, "start_backend", lambda cache: None)  # it has been started
    return lambda *arguments: CliRunner().invoke(main, arguments, prog_name="pneumo-keras")


def test_the_commands_of_the_readme_run(invoke_here):
    shutil.rmtree("runs")
    for arguments in list_commands(PAGES[0]):
        if arguments[0] == "app":  # it serves until it is stopped: tests/app
            continue
        if "data.path=pneumoniamnist.npz" in arguments:  # files that a user has
            continue
        if arguments[0] == "train":
            arguments += FEWER
        if arguments == ["train", "--run", "runs/one", *FEWER]:  # downloads
            arguments += ["--config", "demo"]
        result = invoke_here(*arguments)
        assert result.exit_code == 0, (arguments, result.output)
    assert {path.name for path in Path("runs").iterdir()} == {"demo", "one", "own"}
    assert len(Path("scores.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_of_readme_and_docs_runs(page, invoke_here, capsys, monkeypatch):
    assert invoke_here("eval", "runs/one").exit_code == 0
    monkeypatch.setattr(network, "build_backbone", build_toy_of_any_layers)
    for block in list_blocks(ROOT / page, "python"):
        if "pneumo_keras.train(" in block:
            shutil.rmtree("runs/demo")
        exec(compile(block, page, "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"\[[\d. ]+\]", printed)
    assert "normal" in printed or "pneumonia" in printed
    assert np.isfinite(float(re.search(r"'value': ([\d.]+)", printed)[1]))
