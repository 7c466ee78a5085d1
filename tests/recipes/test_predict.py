import csv
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data import phantom
from pneumo_keras.data.decoding import DecodedImage
from pneumo_keras.data.phantom import build_phantom_splits
from pneumo_keras.errors import PneumoError
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.explain import build_image_explainer, explain_files
from pneumo_keras.recipes.predict import AT_ONCE, Scorer, build_scorer, predict_files
from pneumo_keras.runs.folder import RunFolder, extend_manifest, load_manifest
from pneumo_keras.runs.run import load_run
from tests.small import COUNTS, LEARNING

RANDOM = np.random.default_rng(0)


def read_test_images():
    images = build_phantom_splits(COUNTS, size=28, seed=phantom.SOURCE_SEED)["test"]
    return images.read(slice(None))


def load_scores(folder):
    with (folder.path / "scores_test.csv").open() as file:
        return [float(row["score"]) for row in csv.DictReader(file)]


def to_decoded(images):
    return [DecodedImage(f"{index}.png", image, shape=(28, 28)) for index, image in enumerate(images)]


@pytest.fixture
def run(train):
    return train()


@pytest.mark.parametrize("flip", ["false", "true"])
def test_images_in_files_get_the_scores_that_eval_gives_them(train, tmp_path, flip):
    folder = train("run", f"model.flip_average={flip}", "training.members=2")
    evaluate_run(load_run(folder.path), "test")
    paths = []
    for index, pixels in enumerate(read_test_images()):
        paths.append(str(tmp_path / f"{index:03}.png"))
        Image.fromarray(pixels).save(paths[-1])
    found = list(predict_files(build_scorer(load_run(folder.path)), iter(paths), workers=1))
    assert [image.path for image in found] == paths
    np.testing.assert_allclose([image.probability for image in found], load_scores(folder), atol=1e-6)
    assert {image.prediction for image in found} == {"normal", "pneumonia"}


def test_broken_images_stand_among_the_others_in_their_order(run):
    scorer = build_scorer(load_run(run.path), chunk=4)
    arrays = read_test_images()[:10]
    images = to_decoded(arrays)
    alone = {image.path: image.probability for image in scorer.score(images)}
    for place in (0, 3, 3, 9, 13):
        images.insert(place, DecodedImage(f"broken {len(images)}", None, "the file is empty"))
    found = list(scorer.score(images))
    assert [image.path for image in found] == [image.path for image in images]
    assert {
        image.path: image.probability for image in found if image.probability is not None
    } == pytest.approx(alone)
    broken = [image for image in found if image.probability is None]
    assert len(broken) == 5
    assert {(image.prediction, image.margin, image.warning) for image in broken} == {
        (None, None, "not scored: the file is empty")
    }


def test_what_is_to_be_known_of_a_file_stands_in_its_warning(run):
    pixels = read_test_images()[0]
    images = [
        DecodedImage("a", pixels, shape=shape, note=note)
        for shape in ((28, 28), (9, 9))
        for note in ("", "odd")
    ]
    plain, noted, small, both = [image.warning for image in build_scorer(load_run(run.path)).score(images)]
    assert noted == "; ".join(filter(None, ["odd", plain]))
    assert both == f"odd; {small}"


def test_rows_come_before_all_images_were_drawn_even_among_broken_ones(run):
    drawn = []

    def draw(image):
        for index in range(40 * AT_ONCE):
            drawn.append(index)
            yield DecodedImage(str(index), image, "broken", (28, 28))

    for image in (None, read_test_images()[0]):
        drawn.clear()
        scored = build_scorer(load_run(run.path)).score(draw(image))
        next(scored)
        assert len(drawn) < 20 * AT_ONCE
        scored.close()


def test_no_images_give_no_rows(run):
    assert list(build_scorer(load_run(run.path)).score([])) == []


def test_a_stated_prevalence_moves_scores_and_threshold_and_no_prediction(run):
    images = to_decoded(read_test_images())
    plain = list(build_scorer(load_run(run.path)).score(images))
    rare = list(build_scorer(load_run(run.path), prevalence=0.01).score(images))
    assert [image.prediction for image in rare] == [image.prediction for image in plain]
    assert all(low.probability < high.probability for low, high in zip(rare, plain, strict=True))
    assert rare[0].threshold < plain[0].threshold


def test_a_picture_that_is_no_image_is_warned_about(run):
    noise = RANDOM.integers(0, 256, (1, 28, 28), dtype=np.uint8)
    (image,) = build_scorer(load_run(run.path)).score(to_decoded(noise))
    assert "outside the range of the training images (" in image.warning


def test_an_error_behind_the_network_comes_out_as_it_is_and_ends_the_stream(run, monkeypatch):
    scorer = build_scorer(load_run(run.path), chunk=4)
    monkeypatch.setattr(Scorer, "_to_scores", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(scorer.score(to_decoded(read_test_images())))
    assert "prefetch" not in [thread.name for thread in threading.enumerate()]


def test_nobody_waits_for_a_name_that_does_not_come(run):
    """As on a terminal: Ctrl-C while the next name is awaited."""
    typed = threading.Event()

    def wait():
        yield from to_decoded(read_test_images()[:20])
        typed.wait(60)

    scored = build_scorer(load_run(run.path), chunk=4).score(wait())
    next(scored)
    started = time.monotonic()
    scored.close()
    assert time.monotonic() - started < 10
    typed.set()


def test_no_file_of_another_run_is_taken_for_one_of_this(train, tmp_path):
    """With its line in the manifest renewed, so that the files themselves must tell."""
    image = tmp_path / "image.png"
    Image.fromarray(read_test_images()[0]).save(image)
    run = train()
    feature_layers, large = "model.feature_layers=['mixed4', 'mixed10']", "data.size=64"
    other = train(
        "other", feature_layers, large, "evaluation.rule=youden", "evaluation.calibration=platt", LEARNING
    )
    told = {}
    for name in load_manifest(run.path):
        copy = RunFolder(tmp_path / "copies" / name)
        shutil.copytree(run.path, copy.path)
        shutil.copy(other.path / name, copy.path / name)
        extend_manifest(copy.path, [name])
        try:
            explainer = build_image_explainer(load_run(copy.path))
            list(predict_files(explainer.scorer, [str(image)], workers=1))
            list(explain_files(explainer, [str(image)], tmp_path / "maps" / name))
        except PneumoError as error:
            told[name] = str(error).startswith(str(copy.path))
    # The others are read by eval and compare, if by anything, and fit one another there.
    unread = {"seen_images.npy", "scores_val.csv", "metrics_val.json", "history.csv"}
    assert told == dict.fromkeys(set(load_manifest(run.path)) - unread, True)
