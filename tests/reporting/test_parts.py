import pytest

from pneumo_keras.errors import RunError
from pneumo_keras.reporting import predictions
from pneumo_keras.reporting.predictions import LAYOUTS
from pneumo_keras.runs.run import ScoredImage

parquet = pytest.importorskip("pyarrow.parquet")


def write(path, images):
    layout = LAYOUTS["csv"]
    path.write_text("".join(f"{line}\n" for line in (layout.header, *map(layout.format, images))))


def test_parts_hold_each_row_once_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "ROWS", 3)
    images = [ScoredImage(f'a "b", {index}.png', index / 10, 0.25, "") for index in range(6)]
    images.append(ScoredImage("1", None, 0.25, "not scored: it is empty"))
    write(tmp_path / "scores.csv", images)
    predictions.write_parts(tmp_path / "scores.csv", tmp_path / "parts", option="--parts")
    files = sorted((tmp_path / "parts").iterdir())
    assert [file.name for file in files] == [f"part-00000{number}.parquet" for number in range(3)]
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    expected = [image.to_row() for image in images]
    assert rows == [{**row, "prediction": row["prediction"] or ""} for row in expected]


def test_a_folder_that_is_taken_is_left_alone(tmp_path):
    write(tmp_path / "scores.csv", [])
    with pytest.raises(RunError, match="--parts must name a new or empty folder"):
        predictions.write_parts(tmp_path / "scores.csv", tmp_path, option="--parts")
