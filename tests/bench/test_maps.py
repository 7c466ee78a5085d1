import numpy as np
import pytest

from pneumo_keras.bench.maps import choose_highest, measure_deletion, play_pointing_game

RANDOM = np.random.default_rng(0)


def build_patches(n):
    patches = np.zeros((n, 20, 20), np.float32)
    patches[:, 4:8, 4:8] = 0.8
    patches[:, 12:14, 4:8] = 0.1  # too thin to count
    return patches


@pytest.mark.parametrize(
    ("place", "hits"), [((5, 5), 1), ((3, 5), 1), ((2, 5), 0), ((13, 5), 0), ((19, 19), 0)]
)
def test_a_point_counts_on_an_opacity_and_a_pixel_beside_it(place, hits):
    evidence = np.zeros((2, 20, 20))
    evidence[:, *place] = 1
    game = play_pointing_game(evidence, build_patches(2))
    assert (game.images, game.hits) == (2, hits)
    assert game.chance == pytest.approx((16 + 16) / 400)


def test_points_at_random_hit_as_often_as_chance_says():
    game = play_pointing_game(RANDOM.normal(size=(4000, 20, 20)), build_patches(4000))
    assert game.hits == pytest.approx(game.chance, abs=0.015)


def test_the_highest_pixels_of_each_image_are_chosen():
    planes = np.array([np.arange(100.0), -np.arange(100.0)]).reshape(2, 10, 10)
    chosen = choose_highest(planes, 0.2)
    assert chosen.sum(axis=(1, 2)).tolist() == [20, 20]
    assert chosen[0, 8:].all() and chosen[1, :2].all()


def test_deletion_takes_away_what_the_map_shows_and_as_much_elsewhere():
    images, evidence = np.full((6, 20, 20), 50, np.uint8), np.zeros((6, 20, 20))
    for index in range(6):  # what makes it pneumonia lies elsewhere on each image
        images[index, 3 * index : 3 * index + 2] = evidence[index, 3 * index : 3 * index + 2] = 200
    measured = measure_deletion(
        images, evidence, np.full((20, 20), 50.4), lambda arrays: arrays.astype(float).mean(axis=(1, 2))
    )
    assert (measured.images, measured.share) == (6, 0.1)
    assert measured.highest == pytest.approx(-15)
    assert measured.others == 0
    assert -6 < measured.random < 0
    assert measured.errors[0] == pytest.approx(0) and measured.errors[2] > 0
