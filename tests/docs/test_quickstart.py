import os
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The notebook's cells after they ran, in an empty folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("PNEUMO_KERAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        folder = tmp_path_factory.mktemp("notebook")
        nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def find(cells, text):
    (cell,) = (cell for cell in cells if text in cell.source)
    return cell


def to_text(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def count_pictures(cell):
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


@pytest.mark.system
def test_the_quickstart_shows_what_it_promises(cells):
    assert "AUC " in to_text(find(cells, "train --config demo"))
    assert "runs/demo, split test" in to_text(find(cells, "eval runs/demo"))
    figures = find(cells, "metrics_test.json")
    assert to_text(figures).startswith("auc ") and count_pictures(figures) == 1
    table = to_text(find(cells, "--format table")).splitlines()
    assert sum(line.split()[1] in ("normal", "pneumonia") for line in table if "images/" in line) == 10
    assert any("images/broken.png  (not scored: " in line for line in table)
    assert "'prediction': " in find(cells, "--format json").outputs[0]["data"]["text/plain"]
    assert count_pictures(find(cells, "explain runs/demo")) == 1


def test_the_quickstart_is_kept_without_what_it_printed():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
