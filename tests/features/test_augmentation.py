import numpy as np
import pytest

from pneumo_keras.features.augmentation import build_augmentation, build_variation
from pneumo_keras.seeds import derive_seeds

NOTHING = {"rotation_degrees": 0.0, "horizontal_flip": False, "brightness": 0.0, "contrast": 0.0, "seed": 1}
ALL = {"rotation_degrees": 15.0, "horizontal_flip": True, "brightness": 0.1, "contrast": 0.1, "seed": 1}
IMAGES = np.tile(np.linspace(60, 180, 16, dtype=np.float32)[None, None, :, None], (40, 16, 1, 1))


def vary(images=IMAGES, **settings):
    augmentation = build_augmentation(**{**NOTHING, **settings})
    return np.asarray(augmentation(images, training=True))


def test_films_are_mirrored_half_of_the_time():
    mirrored = [
        np.array_equal(image, film[:, ::-1])
        for image, film in zip(vary(horizontal_flip=True), IMAGES, strict=True)
    ]
    assert 8 <= sum(mirrored) <= 32


def test_brightness_shifts_a_film_by_up_to_its_share_of_the_range():
    shifts = (vary(brightness=0.1) - IMAGES)[:, 0, 0, 0]
    assert np.abs(shifts).max() <= 25.5 + 1e-3
    assert np.abs(shifts).max() > 15
    assert shifts.min() < 0 < shifts.max()


def test_contrast_stretches_a_film_about_its_mean():
    factors = np.ptp(vary(contrast=0.1), axis=(1, 2, 3)) / np.ptp(IMAGES[0])
    assert 0.9 - 1e-3 <= factors.min() < 0.97
    assert 1.03 < factors.max() <= 1.1 + 1e-3


def test_rotation_stays_within_its_angle_and_uncovers_black_corners():
    point = np.zeros((40, 65, 65, 1), np.float32)
    point[:, 30:35, 50:55] = 255
    rows, columns = np.mgrid[:65, :65] - 32
    turned = vary(point, rotation_degrees=15.0)[..., 0]
    weights = turned / turned.sum(axis=(1, 2), keepdims=True)
    angles = np.degrees(np.arctan2((weights * rows).sum((1, 2)), (weights * columns).sum((1, 2))))
    assert 8 < np.abs(angles).max() <= 15.5
    white = vary(np.full((40, 32, 32, 1), 255, np.float32), rotation_degrees=15.0)
    assert white[:, 0, 0].min() == 0


def test_the_same_key_gives_the_same_draws():
    vary_by_key, again = (build_variation(build_augmentation(**ALL)) for _ in range(2))
    first = np.asarray(vary_by_key(IMAGES, 1, 2, 3))
    assert not np.array_equal(first, np.asarray(vary_by_key(IMAGES, 1, 2, 4)))
    np.testing.assert_array_equal(first, np.asarray(vary_by_key(IMAGES, 1, 2, 3)))
    np.testing.assert_array_equal(first, np.asarray(again(IMAGES, 1, 2, 3)))


def test_by_key_films_vary_as_the_layers_vary_them():
    augmentation = build_augmentation(**ALL)
    varied = build_variation(augmentation)(IMAGES, 1, 2, 3)
    for layer, seed in zip(augmentation.layers, derive_seeds(1, 2, 3, count=4), strict=True):
        layer.generator.state.assign([seed, 0])
    np.testing.assert_allclose(augmentation(IMAGES, training=True), varied, atol=1e-3)


def test_nothing_to_vary_leaves_films_alone():
    np.testing.assert_array_equal(build_variation(build_augmentation(**NOTHING))(IMAGES, 1), IMAGES)


@pytest.mark.parametrize("settings", [NOTHING, {**NOTHING, "rotation_degrees": 15.0, "contrast": 0.1}])
def test_films_pass_unchanged_outside_training(settings):
    np.testing.assert_array_equal(build_augmentation(**settings)(IMAGES, training=False), IMAGES)
