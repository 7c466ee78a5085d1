import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images import load_phantom_splits, write_splits


def test_phantoms_are_written_as_an_archive_to_train_on(invoke):
    written = invoke("data", "phantom", "images.npz", "--train", "20", "--val", "6", "--test", "4")
    assert (written.exit_code, written.stdout) == (0, "images.npz: 30 synthetic images, 28 px\n")
    prepared = invoke("data", "prepare", "--path", "images.npz")
    assert prepared.stdout.startswith("train     20 images: ")


def test_an_audit_prints_findings_and_writes_its_files(invoke, small, tmp_path):
    result = invoke("data", "audit", *small, "--out", "audit")
    assert result.exit_code == 0
    assert "Findings\n" in result.stdout
    assert {path.name for path in (tmp_path / "audit").iterdir()} == {"audit.json", "audit.txt", "audit.png"}
    document = json.loads(invoke("data", "audit", *small, "--json").stdout)
    assert document["findings"]


def test_an_audit_looks_at_validation_images_whatever_their_folder_is_called(invoke, tmp_path):
    write_splits(tmp_path / "clinic", load_phantom_splits((24, 8, 10)))
    (tmp_path / "clinic" / "val").rename(tmp_path / "clinic" / "valid")
    (tmp_path / "clinic" / "holdout").mkdir()
    result = invoke("data", "audit", "--set", "data.source=folder", "--set", "data.path=clinic", "--json")
    assert result.exit_code == 0, result.output
    splits = json.loads(result.stdout)["splits"]
    assert [splits[split]["images"] for split in ("train", "val", "test")] == [24, 8, 10]
    assert "ignored, since it is in no folder of a split or class: holdout/" in result.stderr
    assert "states no" not in result.stderr


def test_a_folder_of_images_is_audited_like_any_source(invoke, tmp_path):
    write_splits(tmp_path / "clinic", load_phantom_splits((24, 8, 8)))
    result = invoke("data", "audit", "--set", "data.source=folder", "--set", "data.path=clinic")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("clinic, 28 px\n")


def test_images_are_audited_without_keras(tmp_path):
    code = (
        "import sys\n"
        "from pneumo_keras.cli import main\n"
        "try: main(['data', 'audit', '--config', 'demo', '--set', 'data.phantom_images=[20,9,9]', '--out', "
        f"{str(tmp_path / 'audit')!r}])\n"
        "except SystemExit as end: print(end.code, file=sys.stderr)\n"
        "print(sorted({'keras', 'jax', 'tensorflow', 'torch'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-2:] == ["0", "[]"]


def test_an_audit_that_cannot_be_written_gets_one_line(invoke, small):
    Path("file").touch()
    result = invoke("-q", "data", "audit", *small, "--out", "file/audit")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: --out cannot be written: file/audit (Not a directory)\n",
    )


@pytest.mark.parametrize("option", ["--size", "--train", "--val", "--test"])
def test_no_more_is_drawn_than_memory_and_minutes_allow(invoke, option):
    assert invoke("data", "phantom", "images.npz", option, "1000000").exit_code == 2


def test_an_audit_is_written_to_a_new_folder(invoke, small, tmp_path):
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.txt").write_text("Ask Anna")
    done = invoke("-q", "data", "audit", *small, "--out", "audit")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: --out must name a new or empty folder")
    assert (tmp_path / "audit" / "audit.txt").read_text() == "Ask Anna"


@pytest.mark.parametrize("name", ["notes.txt", "."])
def test_phantoms_replace_no_file_of_somebody_else(invoke, tmp_path, name):
    (tmp_path / "notes.txt").write_text("Ask Anna")
    assert invoke("-q", "data", "phantom", name).exit_code in (1, 2)
    assert (tmp_path / "notes.txt").read_text() == "Ask Anna"
