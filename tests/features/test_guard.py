import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from pneumo_keras.errors import RunError
from pneumo_keras.features.guard import QUANTILE, fit_guard, load_guard
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
def guard(build_table):
    return fit_guard(build_table(draw_features(300)), build_table(draw_features(500)))


def test_films_like_those_of_the_training_pass_and_strange_ones_do_not(guard):
    assert np.mean(guard.measure(draw_features(2000)) > 1) == pytest.approx(1 - QUANTILE, abs=0.015)
    strange = draw_features(200, stray=1.0)
    assert (guard.measure(strange) > 1).all()
    assert guard.measure(strange).mean() > 4


def test_the_distance_is_what_the_components_do_not_explain(guard):
    films = draw_features(20)
    standardised = (films - guard.mean) / guard.deviation
    rest = standardised - standardised @ guard.components.T @ guard.components
    np.testing.assert_allclose(guard.measure(films) * guard.limit, np.linalg.norm(rest, axis=1), rtol=1e-3)


def test_a_film_is_judged_alone(guard):
    films = draw_features(8)
    np.testing.assert_allclose(guard.measure(films)[3:4], guard.measure(films[3:4]), rtol=1e-5)


def test_few_films_or_few_features_do(build_table):
    few = build_table(draw_features(3))
    assert np.isfinite(fit_guard(few, few).measure(draw_features(2))).all()
    narrow = build_table(draw_features(9)[:, :3])
    assert np.isfinite(fit_guard(narrow, narrow).measure(draw_features(2)[:, :3])).all()


def test_the_number_of_cores_changes_nothing(build_table):
    wide = build_table(RANDOM.normal(size=(640, 1056)).astype(np.float32))
    guards = []
    for cores in (1, 2):
        with threadpool_limits(cores):
            guards.append(fit_guard(wide, wide))
    np.testing.assert_array_equal(guards[0].components, guards[1].components)
    assert guards[0].limit == guards[1].limit


def test_a_guard_comes_back_as_it_was_saved(guard, tmp_path):
    guard.save(tmp_path / "guard.npz")
    films = draw_features(5)
    np.testing.assert_array_equal(
        load_guard(tmp_path / "guard.npz", width=40).measure(films), guard.measure(films)
    )


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "other shapes", "without limit"])
def test_a_guard_that_cannot_be_read_is_named(guard, tmp_path, damage):
    path = tmp_path / "guard.npz"
    guard.save(path)
    match damage:
        case "missing":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[:-40])
        case "text":
            path.write_text("no guard")
        case "other shapes":
            np.savez(
                path, mean=guard.mean[:-1], deviation=guard.deviation, components=guard.components, limit=1.0
            )
        case "without limit":
            np.savez(path, mean=guard.mean, deviation=guard.deviation, components=guard.components)
    with pytest.raises(RunError, match=r"guard\.npz is (missing|damaged).* Train again\."):
        load_guard(path, width=40)


def test_a_guard_of_another_run_is_named(guard, tmp_path):
    guard.save(tmp_path / "guard.npz")
    with pytest.raises(RunError) as caught:
        load_guard(tmp_path / "guard.npz", width=1056)
    assert str(caught.value) == (
        f"{tmp_path}/guard.npz is not of this run: it must measure the 1,056 features of its network. "
        "Received: 40 features. Train again."
    )
