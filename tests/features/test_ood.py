import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from pneumo_keras.features.ood import QUANTILE, fit_ood_detector, load_ood_detector
from pneumo_keras.features.store import FeatureTable

RANDOM = np.random.default_rng(0)
DIRECTIONS = RANDOM.normal(size=(5, 40))


def draw_features(n, *, stray=0.1):
    """Five directions with a little noise around them, far from zero."""
    inside = RANDOM.normal(size=(n, 5)) @ DIRECTIONS
    return (7 + inside + stray * RANDOM.normal(size=(n, 40))).astype(np.float32)


@pytest.fixture(scope="module")
def build_table(tmp_path_factory):
    def build(features):
        file = tmp_path_factory.mktemp("features") / "features.npy"
        np.save(file, features)
        return FeatureTable({"mixed10": file}, len(features))

    return build


@pytest.fixture(scope="module")
def ood_detector(build_table):
    return fit_ood_detector(build_table(draw_features(300)), build_table(draw_features(500)))


def test_images_like_those_of_the_training_pass_and_strange_ones_do_not(ood_detector):
    assert np.mean(ood_detector.measure(draw_features(2000)) > 1) == pytest.approx(1 - QUANTILE, abs=0.015)
    strange = draw_features(200, stray=1.0)
    assert (ood_detector.measure(strange) > 1).all()
    assert ood_detector.measure(strange).mean() > 4


def test_the_distance_is_what_the_components_do_not_explain(ood_detector):
    images = draw_features(20)
    standardised = (images - ood_detector.mean) / ood_detector.deviation
    rest = standardised - standardised @ ood_detector.components.T @ ood_detector.components
    np.testing.assert_allclose(
        ood_detector.measure(images) * ood_detector.limit, np.linalg.norm(rest, axis=1), rtol=1e-3
    )


def test_an_image_is_evaluated_alone(ood_detector):
    images = draw_features(8)
    np.testing.assert_allclose(
        ood_detector.measure(images)[3:4], ood_detector.measure(images[3:4]), rtol=1e-5
    )


def test_few_images_or_few_features_do(build_table):
    few = build_table(draw_features(3))
    assert np.isfinite(fit_ood_detector(few, few).measure(draw_features(2))).all()
    narrow = build_table(draw_features(9)[:, :3])
    assert np.isfinite(fit_ood_detector(narrow, narrow).measure(draw_features(2)[:, :3])).all()


def test_the_number_of_cores_changes_nothing(build_table):
    wide = build_table(RANDOM.normal(size=(640, 1056)).astype(np.float32))
    ood_detectors = []
    for cores in (1, 2):
        with threadpool_limits(cores):
            ood_detectors.append(fit_ood_detector(wide, wide))
    np.testing.assert_array_equal(ood_detectors[0].components, ood_detectors[1].components)
    assert ood_detectors[0].limit == ood_detectors[1].limit


def test_a_detector_comes_back_as_it_was_saved(ood_detector, tmp_path):
    ood_detector.save(tmp_path / "ood_detector.npz")
    images, loaded = draw_features(5), load_ood_detector(tmp_path / "ood_detector.npz")
    np.testing.assert_array_equal(loaded.measure(images), ood_detector.measure(images))
