import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.storage.files import claim_folder
from tests.images import build_phantom_images


@pytest.fixture
def run(invoke, run):
    Path("images").mkdir()
    for index, image in enumerate(build_phantom_images(2, size=40, seed=8).images):
        Image.fromarray(image).save(f"images/{index}.png")


def test_images_are_explained_into_the_runs_folder(invoke, run):
    result = invoke("-q", "explain", "run", "images")
    assert (result.exit_code, result.stderr) == (0, "")
    for index, line in enumerate(result.stdout.splitlines()):
        assert line.startswith(f"images/{index}.png: score 0.")
        assert line.endswith(f": run/explanations/{index}.png")
    names = sorted(path.name for path in Path("run/explanations").iterdir())
    assert names == ["0.npy", "0.png", "1.npy", "1.png", "explanations.csv"]
    before = Path("run/explanations/1.png").read_bytes()
    assert invoke("-q", "explain", "run", "images/1.png").exit_code == 0  # again, and the same
    assert Path("run/explanations/1.png").read_bytes() == before


def test_a_broken_image_is_a_line_and_status_1(invoke, run):
    Path("images/0.png").write_bytes(b"nothing")
    result = invoke("-q", "explain", "run", "images", "--out", "maps", "--json")
    assert result.exit_code == 1
    reason = "it is not a PNG, JPEG, TIFF, BMP, WebP or DICOM file, or a damaged one"
    assert result.stderr == (
        f"images/0.png: not scored: {reason}\nError: 1 of 2 files could not be explained, see above.\n"
    )
    document = json.loads(result.stdout)
    assert (document["run"], document["out"]) == ("run", "maps")
    broken, whole = document["images"]
    assert (broken["warning"], broken["probability"], broken["picture"]) == (
        f"not scored: {reason}",
        None,
        "",
    )
    assert (whole["path"], whole["picture"], whole["map"]) == ("images/1.png", "1.png", "1.npy")
    assert np.load("maps/1.npy").shape == (28, 28)


def test_a_taken_folder_is_refused_before_any_work(invoke, run):
    """Of all names `--out .` would be the worst: pictures are named as the images are."""
    result = invoke("-q", "explain", "run", "images", "--out", "images")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: --out must name a new or empty folder")
    assert sorted(path.name for path in Path("images").iterdir()) == ["0.png", "1.png"]


@pytest.mark.parametrize("way", [["--out", "maps"], []])
def test_a_folder_that_another_process_writes_to_is_refused(invoke, run, way):
    target = Path("maps" if way else "run/explanations")
    with claim_folder(target, option="--out"):
        done = invoke("-q", "explain", "run", "images", *way)
        assert (done.exit_code, done.stderr) == (
            1,
            f"Error: {target} is being written by another process: name another one.\n",
        )
    assert not target.exists()


def test_pictures_that_are_made_meanwhile_are_not_explained(invoke, run):
    done = invoke("-q", "explain", "run", "images", "--out", "images/maps")
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 2)
    names = sorted(path.name for path in Path("images/maps").iterdir())
    assert names == ["0.npy", "0.png", "1.npy", "1.png", "explanations.csv"]


def test_a_folder_without_images_is_said(invoke, run):
    Path("empty").mkdir()
    result = invoke("-q", "explain", "run", "empty")
    assert (result.exit_code, result.stdout, result.stderr) == (
        1,
        "",
        "Error: PATH must name images. Received: no file in empty\n",
    )


def test_what_is_no_run_is_said_before_images_are_looked_for(invoke):
    result = invoke("-q", "explain", "nowhere", "images")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: RUN must be the folder of a run")


def test_names_do_nothing_to_the_terminal(invoke, run):
    odd = Path("images") / "red\x1b[31m\nline.png"
    odd.write_bytes(Path("images/1.png").read_bytes())
    result = invoke("-q", "explain", "run", str(odd))
    assert result.exit_code == 0
    assert result.stdout.startswith("images/red\\x1b[31m\\nline.png: score 0.")
    assert result.stdout.endswith(": run/explanations/red-31m-line.png\n")
    assert "red\\x1b[31m" in Path("run/explanations/explanations.csv").read_text()
