import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pneumo_keras.cli import main
from pneumo_keras.data import decoding
from pneumo_keras.data.phantom import PhantomImages
from pneumo_keras.storage.files import claim_file

COLUMNS = ["path", "probability", "prediction", "warning"]


def child_environment():
    """Of a process that finds this package from any working folder."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture
def images(invoke, run, tmp_path):
    """A run, and a folder of images."""
    (tmp_path / "images").mkdir()
    for index, image in enumerate(PhantomImages(6, 28, 5).read(slice(None))):
        Image.fromarray(image).save(tmp_path / "images" / f"{index}.png")
    return tmp_path / "images"


def test_a_folder_in_and_csv_out(invoke, images):
    done = invoke("predict", "run", "images")
    assert done.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == COLUMNS
    assert [row["path"] for row in rows] == [f"images/{index}.png" for index in range(6)]
    for row in rows:
        above = float(row["probability"]) > 0.5
        assert row["prediction"] == ("pneumonia" if above else "normal")
    positive = sum(row["prediction"] == "pneumonia" for row in rows)
    assert f"6 images scored: {positive} pneumonia, {6 - positive} normal;" in done.stderr
    assert "not a medical device" in done.stderr


def test_a_broken_image_is_a_row_and_the_exit_status_tells(invoke, images):
    (images / "2.png").write_text("no image")
    done = invoke("-q", "predict", "run", "images", "--format", "json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1
    assert [row["probability"] is None for row in rows] == [False, False, True, False, False, False]
    assert rows[2]["warning"].startswith("not scored: it is not a PNG,")
    assert done.stderr == "Error: 1 of 6 files could not be scored. Its row has the reason.\n"


def test_a_table_when_asked_for(invoke, images):
    done = invoke("-q", "predict", "run", "images/0.png", "--format", "table")
    threshold, header, row = done.stdout.splitlines()
    assert threshold == "threshold 0.5000"
    assert header == "probability  prediction  image"
    assert "  images/0.png" in row


def test_rows_are_sorted_where_that_is_asked_for(invoke, images):
    done = invoke("-q", "predict", "run", "images", "--sort", "probability")
    scores = [float(row["probability"]) for row in csv.DictReader(io.StringIO(done.stdout))]
    assert len(scores) == 6 and scores == sorted(scores, reverse=True)
    assert (
        invoke("predict", "run", "images", "--sort", "uncertainty", "--out", "a", "--resume").exit_code == 2
    )


def test_a_file_that_was_cut_off_is_gone_on_with(invoke, images, tmp_path):
    scores = tmp_path / "scores.csv"
    assert invoke("-q", "predict", "run", "images", "--out", "scores.csv").stdout == ""
    whole = scores.read_bytes()
    for cut in (30, 150, len(whole) - 3):
        scores.write_bytes(whole[:-cut])
        done = invoke("predict", "run", "images", "--out", "scores.csv", "--resume")
        assert done.exit_code == 0
        assert scores.read_bytes() == whole
    refused = invoke("-q", "predict", "run", "images", "--out", "scores.csv")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: --out must name a new file, since nothing is ever overwritten. Received: scores.csv\n",
    )


def test_names_come_on_stdin(images, monkeypatch):
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: False, raising=False)
    done = CliRunner().invoke(main, ["-q", "predict", "run", "-"], input="images/3.png\nimages/1.png\n")
    assert [row["path"] for row in csv.DictReader(io.StringIO(done.stdout))] == [
        "images/3.png",
        "images/1.png",
    ]


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_files_of_other_kinds_are_ignored_and_counted(invoke, images, command):
    for path in list(images.iterdir())[1:]:
        path.unlink()
    (one,) = images.iterdir()
    (images / "notes.txt").write_text("Ask Anna")
    (images / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    done = invoke("-q", command, "run", "images")
    assert (done.exit_code, done.stdout.count(f"images/{one.name}"), done.stdout.count("notes")) == (0, 1, 0)
    assert (
        done.stderr.endswith("2 files of other kinds ignored: images/Thumbs.db, images/notes.txt\n")
        and done.stderr.count("\n") == 1
    )
    named = invoke("-q", command, "run", f"images/{one.name}", "images/notes.txt")
    assert named.exit_code == 1
    assert "images/notes.txt" in named.stdout + named.stderr and "other kinds" not in named.stderr
    one.unlink()
    none = invoke("-q", command, "run", "images")
    assert (none.exit_code, none.stderr.splitlines()[-1]) == (
        1,
        "Error: PATH must name images. Received: no image in images",
    )


def test_a_list_of_windows_notepad_is_read(images):
    for encoding in ("utf-8-sig", "utf-16"):
        names = "images/3.png\r\nimages/1.png\r\n".encode(encoding)
        done = CliRunner().invoke(main, ["-q", "predict", "run", "-"], input=names)
        rows = csv.DictReader(io.StringIO(done.stdout))
        assert [row["path"] for row in rows] == ["images/3.png", "images/1.png"]


def test_a_name_of_any_length_in_a_list_is_gone_on_with(images):
    names = "\n".join(["images/3.png", "x" * 200_000, "images/1.png"])
    command = ["-q", "predict", "run", "-", "--out", "scores.csv"]
    for way in ([], ["--resume"]):
        done = CliRunner().invoke(main, [*command, *way], input=names)
        assert (done.exit_code, done.stderr) == (
            1,
            "Error: 1 of 3 files could not be scored. Its row has the reason.\n",
        )


def test_where_there_is_nothing_to_score_it_says_so(invoke, images, tmp_path):
    (tmp_path / "empty").mkdir()
    done = invoke("-q", "predict", "run", "empty")
    assert (done.exit_code, done.stderr) == (1, "Error: PATH must name images. Received: no file in empty\n")


@pytest.mark.parametrize("text", ["Ask Anna about image 7", "path,note\nimages/0.png,ask Anna\n", "\n"])
@pytest.mark.parametrize("way", [["--resume"], []])
def test_a_file_of_somebody_else_is_left_alone(invoke, images, tmp_path, text, way):
    notes = tmp_path / "notes.txt"
    notes.write_text(text)
    done = invoke("-q", "predict", "run", "images", "--out", "notes.txt", *way)
    assert (done.exit_code, notes.read_text(), done.stderr.count("\n")) == (1, text, 1)
    assert "notes.txt must open with the line" in done.stderr or "must name a new file" in done.stderr


@pytest.mark.parametrize("way", [["--resume"], []])
def test_a_file_that_another_process_writes_is_refused_under_each_of_its_names(invoke, images, tmp_path, way):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.csv").symlink_to("scores.csv")
    with claim_file(tmp_path / "scores.csv", option="--out"):
        for name in ("scores.csv", "link.csv", "sub/../scores.csv"):
            done = invoke("-q", "predict", "run", "images", "--out", name, *way)
            assert (done.exit_code, done.stderr) == (
                1,
                f"Error: {name} is being written by another process: name another one.\n",
            )
    assert not (tmp_path / "scores.csv").exists()
    assert invoke("-q", "predict", "run", "images", "--out", "scores.csv", *way).exit_code == 0
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.system
def test_of_two_that_begin_at_once_one_is_refused_and_the_other_s_file_is_whole(images, tmp_path):
    command = [sys.executable, "-m", "pneumo_keras", "-q", "predict", "run", "images", "--out", "scores.csv"]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=child_environment())
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert "is being written by another process" in "".join(said) or "must name a new file" in "".join(said)
    rows = csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text()))
    assert [row["path"] for row in rows] == [f"images/{index}.png" for index in range(6)]


def test_resume_needs_a_csv_file(invoke, images):
    assert invoke("predict", "run", "images", "--resume").exit_code == 2
    assert invoke("predict", "run", "images", "--out", "x", "--resume", "--format", "json").exit_code == 2


def test_a_run_without_its_ood_detector_is_named(invoke, images, tmp_path):
    (tmp_path / "run" / "ood_detector.npz").unlink()
    done = invoke("-q", "predict", "run", "images")
    assert (done.exit_code, done.stderr) == (
        1,
        "Error: run/ood_detector.npz cannot be read: No such file or directory. Train or evaluate again.\n",
    )


def test_an_image_of_another_size_is_cut_and_shrunk_first(invoke, images):
    big = np.asarray(Image.open(images / "0.png").resize((280, 280), Image.Resampling.NEAREST))
    wide = np.zeros((280, 400), np.uint8)
    wide[:, 60:340] = big
    Image.fromarray(big).save(images / "big.png")
    Image.fromarray(wide).save(images / "wide.png")
    done = invoke("-q", "predict", "run", "images/big.png", "images/wide.png")
    first, second = csv.DictReader(io.StringIO(done.stdout))
    assert first["probability"] == second["probability"]


def test_the_file_that_is_written_is_no_image(invoke, images):
    assert invoke("-q", "predict", "run", "images", "--out", "images/scores.csv").exit_code == 0


def test_another_run_does_not_go_on_with_a_file(invoke, images, tmp_path):
    invoke("-q", "predict", "run", "images", "--out", "scores.csv")
    scores = tmp_path / "scores.csv"
    header, *rows = scores.read_text().splitlines()
    last = rows[2].split(",")
    before = "\n".join([header, *rows[:2], ",".join([last[0], "0.987", "pneumonia", *last[3:]]), ""]).encode()
    scores.write_bytes(before)
    done = invoke("-q", "predict", "run", "images", "--out", "scores.csv", "--resume")
    assert done.exit_code == 1
    assert "run and images must be the same as before. Received: 'images/2.png' had the score" in done.stderr
    assert scores.read_bytes() == before


def end_always(source, preparation, limits, shown):
    os._exit(1)


def end_at_one(source, preparation, limits, shown):
    if source == "images/1.png":
        os._exit(1)
    return decoding.decode_file(source, preparation, limits, shown)


@pytest.mark.parametrize(("decode", "ended", "cut"), [(end_at_one, 1, 0), (end_always, 5, 100)])
def test_images_whose_decoders_ended_are_tried_again(
    invoke, images, tmp_path, monkeypatch, cut, decode, ended
):
    scores = tmp_path / "scores.csv"
    (images / "3.png").write_text("no image")
    invoke("-q", "predict", "run", "images", "--out", "whole.csv")
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode_file", decode)
        assert invoke("-q", "predict", "run", "images", "--out", "scores.csv").exit_code == 1
    assert scores.read_text().count(decoding.ENDED) >= ended
    scores.write_bytes(scores.read_bytes()[: -cut or None])
    done = invoke("predict", "run", "images", "--out", "scores.csv", "--resume")
    assert "Retrying what was not scored: " in done.stderr
    assert done.stderr.endswith("Error: 1 of 6 files could not be scored. Its row has the reason.\n")
    assert scores.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_what_failed_before_still_counts(invoke, images, tmp_path):
    (images / "1.png").write_text("no image")
    assert invoke("-q", "predict", "run", "images", "--out", "scores.csv").exit_code == 1
    done = invoke("-q", "predict", "run", "images", "--out", "scores.csv", "--resume")
    assert (done.exit_code, done.stderr) == (
        1,
        "Error: 1 of 6 files could not be scored. Its row has the reason.\n",
    )


def test_a_disk_that_is_full_is_one_line(invoke, images, monkeypatch):
    class FullDisk(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", **rest: FullDisk() if mode == "a" else real(path, mode, **rest)
    )
    done = invoke("-q", "predict", "run", "images", "--out", "scores.csv")
    assert (done.exit_code, done.stderr) == (
        1,
        "Error: --out cannot be written: scores.csv (No space left on device)\n",
    )


def test_only_a_file_is_gone_on_with(invoke, images):
    done = invoke("-q", "predict", "run", "images", "--out", "/dev/null", "--resume")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: To continue with --resume, /dev/null must be a file. Received:")
