import pytest

from pneumo_keras.evaluation.prediction import ScoredImage, to_warning


def test_an_image_is_called_pneumonia_above_the_threshold():
    assert ScoredImage("a", 0.75, 0.5, "").prediction == "pneumonia"
    assert ScoredImage("a", 0.5, 0.5, "").prediction == "normal"
    assert ScoredImage("a", 0.3, 0.5, "").margin == pytest.approx(-0.2)
    unread = ScoredImage("a", None, 0.5, "not scored: the file is empty")
    assert unread.prediction is None is unread.margin


def test_warnings_say_what_is_wrong():
    assert to_warning(0.99, (100, 28), 28) == ""
    assert to_warning(1.0, (100, 28), 28) == ""
    assert to_warning(1.24, (100, 28), 28) == "outside the range of the training images (1.2 x the limit)"
    assert to_warning(1.24, (100, 20), 28) == (
        "outside the range of the training images (1.2 x the limit); "
        "smaller than the training images (20 x 100 px)"
    )


@pytest.mark.parametrize(("distance", "far"), [(1.01, False), (1.5, False), (1.51, True), (30.0, True)])
def test_only_what_is_far_outside_is_not_to_be_used(distance, far):
    warning = to_warning(distance, (28, 28), 28)
    assert warning.startswith("far outside" if far else "outside")
    assert warning.endswith(": do not use the prediction") == far
