"""The real network on all 624 test films, and each form's own runtime beside Keras."""

import importlib.util

import numpy as np
import pytest

from pneumo_keras.exports.table import FORMS
from pneumo_keras.model.backbone import build_backbone
from tests.conftest import SHARED
from tests.exports.classifiers import build_around
from tests.films import load_archive

pytestmark = [pytest.mark.slow, pytest.mark.real_data]


@pytest.fixture(scope="module")
def classifier():
    weights = str(SHARED / "weights" / "inception_v3_notop.weights.h5")
    backbone = build_backbone(weights, image_size=75, taps=["mixed2", "mixed5"])
    return build_around(
        backbone,
        members=2,
        outputs=2,
        hidden_units=8,
        standardise=True,
        flip_average=True,
        film_size=28,
    )


@pytest.fixture(scope="module")
def scored(classifier):
    films = load_archive(SHARED / "data" / "pneumoniamnist.npz", "test", size=28).images
    films = films[..., None].astype(np.float32)
    return films, classifier.join().predict(films, batch_size=104, verbose=0)


@pytest.mark.parametrize("name", FORMS)
def test_all_test_films_score_within_a_tenth_of_what_is_allowed(classifier, scored, tmp_path, name):
    form = FORMS[name]
    if not all(map(importlib.util.find_spec, form.packages)):
        pytest.skip(f"needs {', '.join(form.packages)}")
    films, stock = scored
    path = tmp_path / f"model{form.endings[0]}"
    form.load_module().write_classifier(classifier, path)
    scoring = form.load_module().load_scoring(path)
    scores = np.concatenate([scoring(part) for part in np.split(films, 6)])
    assert len(scores) == 624
    assert np.ptp(stock) > 0.1
    assert np.abs(scores - stock).max() < 1e-5
