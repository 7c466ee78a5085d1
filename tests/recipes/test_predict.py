import csv
import threading
import time

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data import phantom
from pneumo_keras.data.decoding import DecodedImage, Decoders
from pneumo_keras.data.phantom import build_phantom_splits
from pneumo_keras.errors import RunError
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.predict import AT_ONCE, Scorer, build_scorer, predict_files, score_rest
from pneumo_keras.runs.run import ScoredImage, load_run
from tests.small import COUNTS

pytestmark = pytest.mark.usefixtures("warm_cache")

RANDOM = np.random.default_rng(0)


def read_test_images():
    images = build_phantom_splits(COUNTS, size=28, seed=phantom.SOURCE_SEED)["test"]
    return images.read(slice(None))


def load_scores(folder):
    with (folder.path / "scores_test.csv").open() as file:
        return [float(row["score"]) for row in csv.DictReader(file)]


def to_decoded(images):
    return [DecodedImage(f"{index}.png", image, shape=(28, 28)) for index, image in enumerate(images)]


@pytest.mark.parametrize("flip", [False, True])
def test_images_in_files_get_the_scores_that_eval_gives_them(run, train, tmp_path, flip):
    if flip:
        run = load_run(train("flipped", "model.flip_average=true", "training.members=2").path)
    evaluate_run(run, "test")
    paths = []
    for index, pixels in enumerate(read_test_images()):
        paths.append(str(tmp_path / f"{index:03}.png"))
        Image.fromarray(pixels).save(paths[-1])
    with Decoders(run.preparation, workers=1) as decoders:
        found = list(predict_files(build_scorer(run), decoders, paths))
    assert [image.path for image in found] == paths
    np.testing.assert_allclose([image.probability for image in found], load_scores(run.folder), atol=1e-6)
    assert {image.prediction for image in found} == {"normal", "pneumonia"}


def test_broken_images_have_rows_in_their_order(run):
    scorer = build_scorer(run, chunk=4)
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
    assert {(image.prediction, image.warning) for image in broken} == {
        (None, "not scored: the file is empty")
    }


def test_doubts_about_a_score_are_in_its_warning(run):
    pixels = read_test_images()[0]
    images = [
        DecodedImage("a", pixels, shape=shape, note=note)
        for shape in ((28, 28), (9, 9))
        for note in ("", "odd")
    ]
    plain, noted, small, both = [image.warning for image in build_scorer(run).score(images)]
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
        scored = build_scorer(run).score(draw(image))
        next(scored)
        assert len(drawn) < 20 * AT_ONCE
        scored.close()


def test_no_images_give_no_rows(run):
    assert list(build_scorer(run).score([])) == []


def test_a_stated_prevalence_moves_scores_and_threshold_and_no_prediction(run):
    images = to_decoded(read_test_images())
    plain = list(build_scorer(run).score(images))
    rare = list(build_scorer(run, prevalence=0.01).score(images))
    assert [image.prediction for image in rare] == [image.prediction for image in plain]
    assert all(low.probability < high.probability for low, high in zip(rare, plain, strict=True))
    assert rare[0].threshold < plain[0].threshold


def test_a_picture_that_is_no_image_is_warned_about(run):
    noise = RANDOM.integers(0, 256, (1, 28, 28), dtype=np.uint8)
    (image,) = build_scorer(run).score(to_decoded(noise))
    assert "outside the range of the training images (" in image.warning


def test_an_error_behind_the_network_comes_out_as_it_is_and_ends_the_stream(run, monkeypatch):
    scorer = build_scorer(run, chunk=4)
    monkeypatch.setattr(Scorer, "_evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(scorer.score(to_decoded(read_test_images())))
    assert "prefetch" not in [thread.name for thread in threading.enumerate()]


def test_nobody_waits_for_a_name_that_does_not_come(run):
    """As on a terminal: Ctrl-C while the next name is awaited."""
    typed = threading.Event()

    def wait():
        yield from to_decoded(read_test_images()[:20])
        typed.wait(60)

    scored = build_scorer(run, chunk=4).score(wait())
    next(scored)
    started = time.monotonic()
    scored.close()
    assert time.monotonic() - started < 10
    typed.set()


@pytest.fixture
def ended():
    """How often the scoring ended."""
    return []


@pytest.fixture
def score(ended):
    def score(paths):
        try:
            for path in paths:
                yield ScoredImage(path, 0.5, 0.5, "")
        finally:
            ended.append(1)

    return score


def test_the_last_image_is_scored_again_and_not_told_of(score, ended):
    assert [image.path for image in score_rest(score, ["a", "b"], ("last", 0.5001))] == ["a", "b"]
    assert ended == [1]


def test_where_it_has_another_score_the_scoring_ends_before_the_refusal_is_seen(score, ended):
    """A cluster is left behind by then, and whoever still scored there would look for it in vain."""
    images = score_rest(score, ["a"], ("last", 0.6))
    with pytest.raises(RunError, match=r"had the score 0\.600000, and now 0\.500000") as refusal:
        next(images)
    assert refusal.traceback and ended == [1]  # while somebody still holds all that the error holds


def test_whoever_stops_asking_ends_the_scoring(score, ended):
    images = score_rest(score, ["a", "b"], None)
    next(images)
    images.close()
    assert ended == [1]
