"""The real network on 104 test images, by each form's own runtime and by Keras."""

import numpy as np
import pytest

from pneumo_keras.exports.forms import FORMS
from pneumo_keras.model.backbone import build_backbone
from pneumo_keras.model.classifier import Classifier, build_frozen_part
from pneumo_keras.model.head import build_decision
from tests.conftest import SHARED
from tests.exports.classifiers import build_random_head
from tests.images import load_archive

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.real_data]  # each form compiles InceptionV3


@pytest.fixture(scope="module")
def images():
    images = load_archive(SHARED / "data" / "pneumoniamnist.npz", "test", size=28)
    return images.images[::6, ..., None].astype(np.float32)


@pytest.fixture(scope="module")
def classifier(images):
    weights = str(SHARED / "weights" / "inception_v3_notop.weights.h5")
    backbone = build_backbone(weights, image_size=75, feature_layers=["mixed2", "mixed5"])
    frozen = build_frozen_part(backbone, data_size=28)
    arrays = frozen.scale.predict_on_batch(frozen.resize.predict_on_batch(images))
    features = frozen.backbone.predict_on_batch(arrays)
    # A random head would give weight to features that hardly vary, and so to their rounding.
    moments = features.mean(axis=0), features.var(axis=0) + 1e-3
    head = build_random_head(features.shape[1], moments=moments, members=2, outputs=2, hidden_units=8)
    return Classifier(frozen, head, build_decision(slope=0.7, intercept=0.3), flip_average=True)


@pytest.fixture(scope="module")
def stock(classifier, images):
    return classifier.join().predict_on_batch(images)


@pytest.mark.parametrize("name", FORMS)
def test_test_images_score_within_a_tenth_of_what_is_allowed(classifier, images, stock, tmp_path, name):
    form = FORMS[name]
    path = tmp_path / f"model{form.ending}"
    form.load_module().write_classifier(classifier, path)
    scoring = form.load_module().load_scoring(path)
    scores = scoring(images)
    assert len(scores) == 104
    assert np.ptp(stock) > 0.5
    assert np.abs(scores - stock).max() < 1e-5
