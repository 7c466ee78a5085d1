"""The Python interface: the same scores as the command line, and bad input in one sentence."""

import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from PIL import Image

import pneumo_keras
from pneumo_keras.data.decoding import decode_file
from pneumo_keras.errors import DataError, RunError, SettingsError
from pneumo_keras.features.store import CHUNK
from pneumo_keras.recipes import network
from pneumo_keras.recipes.predict import build_scorer
from tests.images import build_phantom_images
from tests.small import SMALL
from tests.toy import build_toy_backbone

pytestmark = pytest.mark.usefixtures("warm_cache")


@pytest.fixture
def run(toy_run):
    return pneumo_keras.load_run(toy_run)


@pytest.fixture
def files(tmp_path):
    """Two images that are not square, as files of two formats."""
    (tmp_path / "images").mkdir()
    paths = [tmp_path / "images" / "a.png", tmp_path / "images" / "b.bmp"]
    for path, image in zip(paths, build_phantom_images(2, size=60, seed=8).images, strict=True):
        Image.fromarray(np.pad(image, ((0, 0), (10, 10)))).save(path)
    return paths


def test_the_package_offers_its_interface_and_imports_it_on_use():
    code = (
        "import sys, pneumo_keras; before = {'numpy', 'keras', 'PIL'} & set(sys.modules); "
        "print(sorted(before), *dir(pneumo_keras)); pneumo_keras.load_run; print('keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = "PneumoError Predictions TrainedRun __version__ evaluate load_run train"
    assert done.stdout == f"[] {names}\nFalse\n"
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        _ = pneumo_keras.load


def test_files_folders_pil_images_and_arrays_get_the_scores_of_predict(run, files):
    expected = [
        one.probability
        for one in build_scorer(run._run).score(decode_file(str(path), run.preparation) for path in files)
    ]
    pictures = [Image.open(path) for path in files]
    prepared = np.stack([decode_file(str(path), run.preparation).image for path in files])
    for images in (files, files[0].parent, pictures, prepared, prepared[..., None], prepared.astype(float)):
        np.testing.assert_allclose(run.predict(images).probabilities, expected, atol=1e-6)
    assert run.predict(str(files[1])).probabilities == pytest.approx(expected[1:], abs=1e-6)
    assert run.predict(prepared[0]).probabilities == pytest.approx(expected[:1], abs=1e-6)
    many = run.predict(np.repeat(prepared, CHUNK, axis=0))
    np.testing.assert_allclose(many.probabilities, np.repeat(expected, CHUNK), atol=1e-6)


def test_predictions_have_labels_by_the_threshold_and_flags_by_the_detector(run, files):
    (files[0].parent / "c.png").write_text("no image")
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    predictions = run.predict([*files, files[0].parent / "c.png", noise])
    above = predictions.probabilities > run.threshold
    assert predictions.labels[:2] == [("normal", "pneumonia")[int(one)] for one in above[:2]]
    assert (predictions.labels[2], np.isnan(predictions.probabilities[2])) == (None, True)
    assert predictions.warnings[2].startswith("not scored: it is not a PNG")
    assert predictions.out_of_distribution[2:].tolist() == [False, True]
    assert "the range of the training images" in predictions.warnings[3]
    assert (len(predictions), predictions[3].path, len(predictions[1:])) == (4, "", 3)


def test_another_prevalence_moves_probabilities_and_no_label(run, files):
    plain, rare = run.predict(files), run.predict(files, prevalence=0.01)
    assert (rare.probabilities < plain.probabilities).all()
    assert rare.labels == plain.labels
    with pytest.raises(SettingsError, match=r"share in \(0, 1\)"):
        run.predict(files, prevalence=1.0)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.full((2, 28, 28), 0.5),
            "Received: 0.5 to 0.5. Multiply images from 0 to 1 by 255",
        ),
        (np.full((2, 28, 28), -1.0), r"to 255 \(white\). Received: -1 to -1"),
        (np.full((2, 28, 28), np.nan), "Received: nan to nan"),
        (np.zeros((2, 28, 30), np.uint8), r"grey and square.* Received: \(2, 28, 30\). PIL images"),
        (np.zeros((2, 28, 28, 3), np.uint8), r"Received: \(2, 28, 28, 3\)"),
        (np.zeros((0, 0), np.uint8), r"Received: \(0, 0\)"),
        (np.zeros((2, 28, 28), np.int64), "must be uint8, or floats from 0 to 255. Received: int64"),
        (7, "must be a file, a PIL image or an array. Received: int"),
    ],
)
def test_other_arrays_are_refused_in_a_sentence(run, array, message):
    with pytest.raises(DataError, match=message):
        run.predict(array)


def test_features_are_those_that_the_head_gets(run, files):
    features = run.features(files)
    assert (features.dtype, features.shape) == (np.float32, (2, 6))
    with pytest.raises(DataError, match=re.escape(f"{files[0].parent / 'no.png'} cannot be scored: No such")):
        run.features(files[0].parent / "no.png")
    with pytest.raises(DataError, match="no images"):
        run.features([])


def test_an_image_is_explained_by_a_map_that_adds_up_to_its_score(run, files):
    one = run.explain(files[0])
    log_odds = one.explanation.base + one.explanation.evidence.mean(dtype=float)
    assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(run.predict(files[0]).probabilities[0], abs=1e-5)
    with pytest.raises(DataError, match=r"^Images are explained one at a time\. Received: 2 images$"):
        run.explain(files)


def test_a_run_is_trained_evaluated_and_used_without_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "build_backbone", build_toy_backbone)
    monkeypatch.chdir(tmp_path)
    pairs = (one.split("=", 1) for one in SMALL)
    settings = {key: tomllib.loads(f"value={value}")["value"] for key, value in pairs}
    run = pneumo_keras.train("demo", tmp_path / "run", settings=settings)
    assert (run.folder, run.config.training.epochs) == (tmp_path / "run", 2)
    assert run.metrics("val")["n"] == 30
    with pytest.raises(RunError, match=r"metrics_test.json"):
        run.metrics()
    document = pneumo_keras.evaluate(run.folder)
    assert (
        document["figures"] == run.metrics()["figures"] == pneumo_keras.load_run("run").metrics()["figures"]
    )
    with pytest.raises(RunError, match="is taken"):
        pneumo_keras.train("demo", run.folder)
    with pytest.raises(SettingsError, match=r"compute\.processes"):
        pneumo_keras.train("demo", settings={"compute.processes": 2, "training.mode": "online"})
    assert (tmp_path / "run" / "report.html").exists()
