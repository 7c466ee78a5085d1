"""One saved model, the same scores on every backend."""

import numpy as np
import pytest

from pneumo_keras.model.classifier import save_classifier
from pneumo_keras.runtime.backend import SCORING
from tests.backends.parity import score_everywhere, to_differences
from tests.exports.classifiers import build_classifier, draw_images

pytestmark = pytest.mark.system
IMAGES = draw_images(28, 28, 40)[..., 0].astype(np.uint8)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    save_classifier(build_classifier(members=2, hidden_units=4, flip_average=True).join(), path)
    return path


@pytest.fixture(scope="module")
def of_jax(model_file):
    return score_everywhere(model_file, IMAGES, ["jax"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", SCORING)
def test_images_of_any_size_score_as_on_jax_and_twice_the_same(need, model_file, of_jax, backend):
    need(backend)
    scores, again = (score_everywhere(model_file, IMAGES, [backend]) for _ in range(2))
    differences = to_differences({**of_jax, **scores}, backend)
    assert len(differences) == 4
    assert max(differences.values()) < 1e-4
    for size, of_one_size in scores[backend].items():
        assert np.ptp(of_one_size) > 0.1
        np.testing.assert_array_equal(of_one_size, again[backend][size])
