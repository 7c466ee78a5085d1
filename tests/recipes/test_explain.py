import csv
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data.decoding import DecodedImage, decode_file
from pneumo_keras.data.images import Preparation
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.scores import load_scores
from pneumo_keras.model.attribution import Explainer
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.explain import build_image_explainer, explain_files, name_images
from pneumo_keras.recipes.predict import build_scorer
from pneumo_keras.reporting.explanations import CAVEAT
from tests.images import build_phantom_images

pytestmark = pytest.mark.usefixtures("warm_cache")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / "a.png", folder / "b.jpg"]
    for path, image in zip(paths, build_phantom_images(2, size=60, seed=8).images, strict=True):
        Image.fromarray(np.pad(image, ((0, 0), (10, 10)))).save(path)
    return [str(path) for path in paths]


def test_each_image_gets_its_picture_its_map_and_the_score_of_predict(run, images, tmp_path):
    out = tmp_path / "maps"
    explained = list(explain_files(build_image_explainer(run), images, out))
    names = sorted(path.name for path in out.iterdir())
    assert names == ["a.npy", "a.png", "b.npy", "b.png", "explanations.csv"]
    predicted = build_scorer(run).score(decode_file(path, Preparation(28)) for path in images)
    for one, other in zip(explained, predicted, strict=True):
        assert one.scored.probability == pytest.approx(other.probability, abs=1e-6)
        assert (one.scored.prediction, one.scored.warning) == (other.prediction, other.warning)
        evidence = np.load(out / one.map, allow_pickle=False)
        assert (evidence.dtype, evidence.shape) == (np.float32, (28, 28))
        with Image.open(out / one.picture) as picture:
            assert picture.size == (1500, 900)
    rows = list(csv.DictReader(io.StringIO((out / "explanations.csv").read_text())))
    assert [row["path"] for row in rows] == images
    assert [float(row["probability"]) for row in rows] == [one.scored.probability for one in explained]


def test_an_image_is_explained_from_python_without_files(run, images):
    explainer = build_image_explainer(run)
    one = explainer.explain(decode_file(Path(images[0]).read_bytes(), explainer.preparation))
    log_odds = one.explanation.base + one.explanation.evidence.mean(dtype=float)
    assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(one.scored.probability, abs=1e-5)
    assert one.scored.prediction in ("normal", "pneumonia")


def test_a_broken_image_stops_no_other(run, images, tmp_path):
    broken, out = tmp_path / "broken.png", tmp_path / "maps"
    broken.write_bytes(b"no picture")
    paths = [images[0], str(broken), str(tmp_path / "nowhere.png"), "bad\0name", images[1]]
    explained = list(explain_files(build_image_explainer(run), paths, out))
    assert [one.scored.probability is None for one in explained] == [False, True, True, True, False]
    assert explained[2].scored.warning == "not scored: No such file or directory"
    assert len(list(out.glob("*.png"))) == 2
    assert (out / "explanations.csv").read_text().count("\n") == 6


def test_images_of_the_same_name_do_not_replace_each_other():
    paths = ["x/image.png", "y/image.png", "IMAGE.dcm", "a b/ü?.png", "-.png", "z" * 300, "..."]
    stems = [stem for _, stem in name_images(DecodedImage(path, None) for path in paths)]
    assert stems == ["image", "image-2", "IMAGE-3", "image-4", "image-5", "z" * 80, "image-6"]


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be there")
def test_names_that_are_no_text_can_be_explained_too(run, images, tmp_path):
    odd = os.fsencode(tmp_path) + b"/odd\xff.png"
    os.link(images[0], odd)
    out = tmp_path / "maps"
    (one,) = explain_files(build_image_explainer(run), [os.fsdecode(odd)], out)
    assert one.picture == "odd.png" and (out / "odd.png").is_file()
    assert "odd\\udcff.png" in (out / "explanations.csv").read_text(encoding="utf-8")


def test_a_run_without_its_normal_images_gets_one_line(run):
    (run.folder.path / "normal_images.npz").unlink()
    with pytest.raises(RunError) as caught:
        build_image_explainer(run)
    assert str(caught.value) == (
        f"{run.folder.path / 'normal_images.npz'} cannot be read: No such file or directory. Train or "
        "evaluate "
        "again."
    )


def test_the_report_shows_the_maps_of_the_mistakes_and_of_no_other_image(run, monkeypatch):
    explained = []
    explain = Explainer.explain
    monkeypatch.setattr(
        Explainer, "explain", lambda self, images: explained.extend(images) or explain(self, images)
    )
    evaluate_run(run, "test")
    labels, scores = load_scores(run.folder.path / "scores_test.csv")
    threshold = json.loads((run.folder.path / "operating_point.json").read_text())["threshold"]
    wrong = (scores > threshold) != (labels == 1)
    shown = sum(min(8, int((wrong & (labels == label)).sum())) for label in (0, 1))
    page = (run.folder.path / "report.html").read_text()
    assert len(explained) == shown > 0
    assert page.count(": what the classifier summed up") == shown
    assert CAVEAT in page


@pytest.mark.system
@pytest.mark.parametrize("other_backend", ["tensorflow", "torch"])
def test_other_backends_draw_the_same_map(run, images, tmp_path, other_backend):
    if importlib.util.find_spec(other_backend) is None:
        pytest.skip(f"needs {other_backend}")
    own, other = tmp_path / "own", tmp_path / "other"
    list(explain_files(build_image_explainer(run), images[:1], own))
    command = [
        sys.executable,
        "-m",
        "pneumo_keras",
        "explain",
        str(run.folder.path),
        images[0],
        "--out",
        str(other),
    ]
    subprocess.run(
        command, env={**os.environ, "KERAS_BACKEND": other_backend}, check=True, capture_output=True
    )
    np.testing.assert_allclose(np.load(other / "a.npy"), np.load(own / "a.npy"), atol=1e-3)
