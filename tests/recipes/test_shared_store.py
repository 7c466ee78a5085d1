import fsspec
import pytest

from pneumo_keras.errors import DataError
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.runs.run import load_run

pytestmark = pytest.mark.usefixtures("without_plots")


@pytest.fixture
def address():
    yield "memory://features"
    fsspec.filesystem("memory").store.clear()


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_a_run_is_the_same_with_a_shared_store_and_is_evaluated_without_it(
    train, address, monkeypatch, caplog
):
    shared = train("shared", f"compute.store={address}")
    files = fsspec.filesystem("memory")
    assert files.glob("/features/*/features.npy")
    monkeypatch.setattr(type(files), "info", refuse)
    with pytest.raises(DataError, match=r"^compute\.store must name a store that can be read\."):
        train("refused", f"compute.store={address}")
    evaluate_run(load_run(shared.path), "test")
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line == f"{address} cannot be read (Permission denied): continuing without it"
    alone = train("alone")
    scores = [(folder.path / "scores_val.csv").read_bytes() for folder in (shared, alone)]
    assert scores[0] == scores[1]


def test_a_folder_is_found_again_from_another_working_folder(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train("run", "compute.store=shared")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = set((tmp_path / "shared").iterdir())
    evaluate_run(load_run(run.path), "test")
    assert set((tmp_path / "shared").iterdir()) > before
    assert list((tmp_path / "elsewhere").iterdir()) == []
