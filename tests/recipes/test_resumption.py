import pytest

from pneumo_keras.errors import RunError
from pneumo_keras.recipes.predict import score_rest
from pneumo_keras.runs.run import ScoredImage


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
