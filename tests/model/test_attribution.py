from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from pneumo_keras.model.attribution import build_explainer
from pneumo_keras.model.classifier import Classifier, build_frozen_part
from pneumo_keras.model.head import build_decision, build_head
from tests.toy import build_toy_backbone

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 20, 20), dtype=np.uint8)
FEATURE_LAYERS = ("mixed4", "mixed10")
WIDTH = 6 * len(FEATURE_LAYERS)
MOMENTS = (RANDOM.normal(size=WIDTH), RANDOM.uniform(0.5, 2, WIDTH))


def build(*, flip_average=False, draw=RANDOM, **changes):
    settings = {"moments": MOMENTS, "hidden_units": 0, "dropout": 0.0, "outputs": 1, **changes}
    head = build_head(WIDTH, seeds=(1, 2), **settings)
    for variable in head.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    frozen = build_frozen_part(build_toy_backbone(feature_layers=FEATURE_LAYERS), data_size=20)
    return Classifier(frozen, head, build_decision(slope=0.7, intercept=0.3), flip_average)


@pytest.mark.parametrize("flip_average", [False, True])
@pytest.mark.parametrize(("hidden_units", "outputs"), [(0, 1), (0, 2), (5, 2)])
def test_evidence_and_base_add_up_to_the_score_of_the_saved_model(flip_average, hidden_units, outputs):
    classifier = build(flip_average=flip_average, hidden_units=hidden_units, outputs=outputs)
    explainer = build_explainer(classifier, IMAGES[:3])
    scores = classifier.join().predict_on_batch(IMAGES[..., None].astype(np.float32))[:, 0]
    for image, score in zip(IMAGES, scores, strict=True):
        explanation = explainer.explain(image)
        assert explanation.evidence.shape == (20, 20)
        log_odds = explanation.base + explanation.evidence.mean(dtype=float)
        assert expit(log_odds) == pytest.approx(score, abs=1e-5)
        assert log_odds == pytest.approx(np.log(score / (1 - score)), abs=1e-4)


@pytest.mark.parametrize("flip_average", [False, True])
def test_a_normal_image_is_no_evidence_where_it_is_compared_with_itself(flip_average):
    explainer = build_explainer(build(flip_average=flip_average), IMAGES[:1])
    assert np.abs(explainer.explain(IMAGES[0]).evidence).max() < 1e-5
    assert np.abs(explainer.explain(IMAGES[1]).evidence).max() > 1e-2


def test_a_linear_heads_evidence_averages_to_nothing_over_the_normal_images():
    explainer = build_explainer(build(), IMAGES[:3])
    evidence = [explainer.explain(image) for image in IMAGES[:3]]
    assert np.abs(np.mean([one.evidence for one in evidence], axis=0)).max() < 1e-4
    assert len({round(one.base, 4) for one in evidence}) == 1  # what the classifier says of normal images


def test_evidence_lies_where_images_differ():
    explainer = build_explainer(build(), IMAGES[:1])
    changed = IMAGES[0].copy()
    changed[3:7, 12:16] = 255 - changed[3:7, 12:16]
    evidence = np.abs(explainer.explain(changed).evidence)
    row, column = np.unravel_index(evidence.argmax(), evidence.shape)
    assert 2 <= row <= 8 and 11 <= column <= 17
    assert evidence[14:, :6].max() < 0.05 * evidence.max()


def test_a_mirrored_image_has_mirrored_evidence_where_both_are_averaged():
    explainer = build_explainer(build(flip_average=True), IMAGES[:1])
    mirrored = np.ascontiguousarray(IMAGES[1][:, ::-1])
    own = build_explainer(build(flip_average=True), np.ascontiguousarray(IMAGES[:1, :, ::-1]))
    own = replace(own, classifier=explainer.classifier)
    np.testing.assert_allclose(
        own.explain(mirrored).evidence[:, ::-1], explainer.explain(IMAGES[1]).evidence, atol=1e-4
    )


@pytest.mark.parametrize("hidden_units", [0, 5])
def test_evidence_depends_on_what_the_head_has_learnt(hidden_units):
    """Maps that stay when the weights are drawn anew would show the image alone (Adebayo et al., 2018)."""
    maps = [
        build_explainer(
            build(hidden_units=hidden_units, draw=np.random.default_rng(seed)), IMAGES[:3]
        ).explain(IMAGES[4])
        for seed in range(6)
    ]
    between = np.corrcoef([one.evidence.ravel() for one in maps])[np.triu_indices(6, 1)]
    assert np.abs(between).mean() < 0.6
    assert between.max() < 0.95
