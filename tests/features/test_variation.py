import keras
import numpy as np
import pytest

from pneumo_keras.features.variation import Ranges, Variation, draw_variation, vary_films
from pneumo_keras.model.preprocessing import build_resizing

STRESS = Ranges(15, True, zoom=1.35, aspect=1.12, shift=0.09, gamma=1.42, brightness=0.12, contrast=0.3)
RANDOM = np.random.default_rng(0)
FILMS = RANDOM.integers(0, 256, (3, 28, 28), dtype=np.uint8)
RAMP = np.tile(np.linspace(60, 180, 16, dtype=np.float32), (40, 16, 1))


def vary(films=RAMP, size=16, **ranges):
    draws = [draw_variation(Ranges(**ranges), (1, row)) for row in range(len(films))]
    return vary_films(films, draws, size)


def to_smooth_film(size):
    y, x = np.mgrid[:size, :size] / (size - 1)
    return (255 * np.sin(3 * x + 1) ** 2 * np.cos(2 * y) ** 2).astype(np.float32)


@pytest.mark.parametrize("size", [28, 75, 149, 299])
def test_a_film_that_is_left_alone_is_enlarged_as_the_model_enlarges_it(size):
    expected = np.asarray(build_resizing(28, size)(FILMS[..., None].astype(np.float32)))[..., 0]
    np.testing.assert_allclose(vary_films(FILMS, [Variation()] * 3, size), expected, atol=1e-3)
    mirrored = vary_films(FILMS, [Variation().mirror()] * 3, size)
    np.testing.assert_allclose(mirrored, expected[..., ::-1], atol=1e-3)


@pytest.mark.parametrize("angle", [-15, 10])
def test_one_warp_turns_a_film_as_keras_turns_its_enlargement(angle):
    film = to_smooth_film(28)
    enlarged = np.asarray(build_resizing(28, 149)(film[None, ..., None]))
    layer = keras.layers.RandomRotation((angle / 360, angle / 360), fill_mode="constant", seed=1)
    expected = np.asarray(layer(enlarged, training=True))[0, ..., 0]
    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]])
    (mine,) = vary_films(film[None], [Variation(matrix)], 149)
    inside = slice(20, -20)  # not the edges, which Keras blends into the black
    np.testing.assert_allclose(mine[inside, inside], expected[inside, inside], atol=1)
    assert np.abs(mine - expected).mean() < 1
    assert np.abs(mine - np.asarray(enlarged)[0, ..., 0])[inside, inside].max() > 20


def test_what_lies_in_the_upper_right_is_found_there_after_zoom_and_shift():
    film = np.zeros((1, 28, 28), np.uint8)
    film[0, 7, 21] = 255  # its centre a quarter of the edge above and right of the film's

    def find(variation):
        (image,) = vary_films(film, [variation], 280)
        return np.argwhere(image > 0.9 * image.max()).mean(axis=0)

    np.testing.assert_allclose(find(Variation()), [74.5, 214.5], atol=0.6)
    zoomed = Variation(np.array([[0.5, 0, 0.05], [0, 0.5, -0.05]]))  # twice as large, moved
    # In the film (x, y) = (0.268, -0.232) of its edge; in the image twice that, less what it was moved.
    expected = [280 * (0.5 + 2 * (-0.232 + 0.05)), 280 * (0.5 + 2 * (0.268 - 0.05))]
    np.testing.assert_allclose(find(zoomed), expected, atol=2)


def test_films_need_not_be_square():
    tall = np.repeat(np.arange(8, dtype=np.uint8)[:, None] * 30, 4, axis=1)[None]
    bilinear = keras.ops.image.resize(tall[..., None].astype(np.float32), (32, 32), interpolation="bilinear")
    expected = np.asarray(bilinear)[..., 0]
    np.testing.assert_allclose(vary_films(tall, [Variation()], 32), expected, atol=1e-3)


def test_films_are_mirrored_half_of_the_time():
    mirrored = [
        np.allclose(image, film[:, ::-1])
        for image, film in zip(vary(horizontal_flip=True), RAMP, strict=True)
    ]
    assert 8 <= sum(mirrored) <= 32


def test_brightness_shifts_a_film_by_up_to_its_share_of_the_range():
    shifts = (vary(brightness=0.1) - RAMP)[:, 0, 0]
    assert 15 < np.abs(shifts).max() <= 25.5 + 1e-3
    assert shifts.min() < 0 < shifts.max()


def test_contrast_stretches_a_film_about_its_mean():
    varied = vary(contrast=0.1)
    factors = np.ptp(varied, axis=(1, 2)) / np.ptp(RAMP[0])
    assert 0.9 - 1e-3 <= factors.min() < 0.97
    assert 1.03 < factors.max() <= 1.1 + 1e-3
    np.testing.assert_allclose(varied.mean(axis=(1, 2)), RAMP[0].mean(), rtol=1e-4)


def test_gamma_is_a_power_of_the_grey_levels():
    powers = np.log(vary(gamma=1.5) / 255)[:, 0, 0] / np.log(RAMP / 255)[:, 0, 0]
    assert 1 / 1.5 - 1e-3 <= powers.min() < 0.8
    assert 1.25 < powers.max() <= 1.5 + 1e-3


@pytest.mark.parametrize(("ranges", "axes"), [({"zoom": 1.3}, "both"), ({"aspect": 1.3}, "against")])
def test_zoom_and_aspect_are_factors_about_the_centre(ranges, axes):
    matrices = [draw_variation(Ranges(**ranges), (1, row)).affine for row in range(200)]
    x, y = np.array([matrix[[0, 1], [0, 1]] for matrix in matrices]).T
    largest = 1.3 if axes == "both" else 1.3**0.5
    assert 1 / largest <= x.min() < 0.9 and 1.1 < x.max() <= largest
    np.testing.assert_allclose(y, x if axes == "both" else 1 / x)
    assert not any(matrix[:, 2].any() for matrix in matrices)


def test_a_shift_moves_a_film_by_up_to_its_share_of_the_edge():
    moves = np.array([draw_variation(Ranges(shift=0.1), (1, row)).affine[:, 2] for row in range(200)])
    assert (np.abs(moves).max(axis=0) <= 0.1).all() and (np.abs(moves).max(axis=0) > 0.08).all()
    assert (moves.min(axis=0) < 0).all() and (moves.max(axis=0) > 0).all()


def test_rotation_stays_within_its_angle_and_uncovers_black_corners_or_mirrored_film():
    point = np.zeros((40, 65, 65), np.float32)
    point[:, 30:35, 50:55] = 255
    rows, columns = np.mgrid[:65, :65] - 32
    turned = vary(point, size=65, rotation_degrees=15.0)
    weights = turned / turned.sum(axis=(1, 2), keepdims=True)
    angles = np.degrees(np.arctan2((weights * rows).sum((1, 2)), (weights * columns).sum((1, 2))))
    assert 8 < np.abs(angles).max() <= 15.5
    white = np.full((40, 32, 32), 255, np.float32)
    assert vary(white, size=32, rotation_degrees=15.0)[:, 0, 0].min() == 0
    filled = vary(white, size=32, rotation_degrees=15.0, zoom=1.3, shift=0.1, fill="mirror")
    np.testing.assert_allclose(filled, 255)


def test_no_warp_reaches_beyond_the_mirrored_film():
    white = np.full((20, 12, 18), 255, np.uint8)
    far = {"rotation_degrees": 180.0, "zoom": 4.0, "aspect": 4.0, "shift": 1.0}
    np.testing.assert_allclose(vary(white, size=32, **far, fill="mirror"), 255)
    assert vary(white, size=32, **far).min() == 0


def test_a_film_goes_on_mirrored_at_its_edges():
    halved = Variation(np.array([[2.0, 0, 0], [0, 2.0, 0]]), fill="mirror")
    (image,) = vary_films(np.tile(np.arange(8, dtype=np.uint8), (1, 8, 1)), [halved], 16)
    np.testing.assert_allclose(image[8], [3, 2, 1, 0, *range(8), 7, 6, 5, 4])


def test_the_same_key_gives_the_same_draws():
    first, again, other = (draw_variation(STRESS, key) for key in ((1, 2, 3), (1, 2, 3), (1, 2, 4)))
    np.testing.assert_array_equal(first.affine, again.affine)
    assert (first.gamma, first.brightness, first.contrast) == (again.gamma, again.brightness, again.contrast)
    assert not np.array_equal(first.affine, other.affine)


def test_grey_levels_stay_in_their_range():
    images = vary(np.repeat(FILMS, 20, axis=0), size=64, **vars(STRESS))
    assert images.min() >= 0 and images.max() <= 255
