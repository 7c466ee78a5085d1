import numpy as np
import pytest

from pneumo_keras.config import load_config
from pneumo_keras.recipes.train import train_run
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.run import load_run
from tests.bench import measure_maps as module
from tests.bench.measure_maps import choose_highest, measure_deletion, measure_maps, play_pointing_game
from tests.conftest import SHARED

RANDOM = np.random.default_rng(0)


def build_patches(n):
    patches = np.zeros((n, 20, 20), np.float32)
    patches[:, 4:8, 4:8] = 0.8
    patches[:, 12:14, 4:8] = 0.1  # too thin to count
    return patches


@pytest.mark.parametrize(
    ("place", "hits"), [((5, 5), 1), ((3, 5), 1), ((2, 5), 0), ((13, 5), 0), ((19, 19), 0)]
)
def test_a_point_counts_on_an_opacity_and_a_pixel_around_it(place, hits):
    evidence = np.zeros((2, 20, 20))
    evidence[:, *place] = 1
    game = play_pointing_game(evidence, build_patches(2))
    assert (game.images, game.hits) == (2, hits)
    assert game.chance == pytest.approx((16 + 16) / 400)


def test_the_highest_pixels_of_each_image_are_chosen():
    planes = np.array([np.arange(100.0), -np.arange(100.0)]).reshape(2, 10, 10)
    chosen = choose_highest(planes, 0.2)
    assert chosen.sum(axis=(1, 2)).tolist() == [20, 20]
    assert chosen[0, 8:].all() and chosen[1, :2].all()


def test_deletion_takes_away_what_the_map_shows_and_as_much_elsewhere():
    images, evidence = np.full((6, 20, 20), 50, np.uint8), np.zeros((6, 20, 20))
    for index in range(6):  # what makes it pneumonia lies elsewhere on each image
        images[index, 3 * index : 3 * index + 2] = evidence[index, 3 * index : 3 * index + 2] = 200
    own, other, blobs = measure_deletion(
        images, evidence, np.full((20, 20), 50.4), lambda arrays: arrays.astype(float).mean(axis=(1, 2))
    ).values()
    assert own == pytest.approx((-15, 0))
    assert other[0] == 0
    assert -6 < blobs[0] < 0 < blobs[1]


@pytest.mark.system
@pytest.mark.real_data
def test_maps_point_to_the_opacities_of_phantoms(tmp_path, monkeypatch):
    """The sanity check of explain: the hot spot of most images lies on what was planted there."""
    weights = SHARED / "weights" / "inception_v3_notop.weights.h5"
    settings = [f"model.weights={weights}", "data.source=phantom", "data.phantom_images=[400, 100, 2]"]
    folder = RunFolder(tmp_path / "run")
    train_run(load_config("default", settings), folder)
    monkeypatch.setattr(module, "PHANTOMS", 100)
    monkeypatch.setattr(module, "DELETED", 25)
    deletion, (game, _) = measure_maps(load_run(folder.path))
    assert game.hits >= 0.8
    assert game.chance < 0.3
    own, other, blobs = (change for change, _ in deletion.values())
    assert own < min(other, blobs) - 0.5
