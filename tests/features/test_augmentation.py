import io

import keras
import numpy as np
import pytest
from PIL import Image

from pneumo_keras.features.augmentation import (
    Augmentation,
    AugmentationRanges,
    draw_augmentation,
    expose_images,
    warp_images,
)
from pneumo_keras.model.classifier import build_resizing

PERTURBATION = AugmentationRanges(
    15, True, zoom=1.35, aspect=1.12, shift=0.09, gamma=1.42, brightness=0.12, contrast=0.3
)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 28, 28), dtype=np.uint8)
RAMP = np.tile(np.linspace(60, 180, 16, dtype=np.float32), (40, 16, 1))


def augment(images, augmentations, size):
    return warp_images(expose_images(images, augmentations), augmentations, size)


def vary(images=RAMP, size=16, **ranges):
    draws = [draw_augmentation(AugmentationRanges(**ranges), (1, row)) for row in range(len(images))]
    return augment(images, draws, size)


def to_smooth_image(size):
    y, x = np.mgrid[:size, :size] / (size - 1)
    return (255 * np.sin(3 * x + 1) ** 2 * np.cos(2 * y) ** 2).astype(np.float32)


@pytest.mark.parametrize("size", [28, 75, 149, 299])
def test_an_image_that_is_left_alone_is_enlarged_as_the_model_enlarges_it(size):
    expected = np.asarray(build_resizing(28, size)(IMAGES[..., None].astype(np.float32)))[..., 0]
    np.testing.assert_allclose(augment(IMAGES, [Augmentation()] * 3, size), expected, atol=1e-3)
    mirrored = augment(IMAGES, [Augmentation().mirror()] * 3, size)
    np.testing.assert_allclose(mirrored, expected[..., ::-1], atol=1e-3)


@pytest.mark.parametrize("angle", [-15, 10])
def test_one_warp_turns_an_image_as_keras_turns_its_enlargement(angle):
    image = to_smooth_image(28)
    enlarged = np.asarray(build_resizing(28, 149)(image[None, ..., None]))
    layer = keras.layers.RandomRotation((angle / 360, angle / 360), fill_mode="constant", seed=1)
    expected = np.asarray(layer(enlarged, training=True))[0, ..., 0]
    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]])
    (mine,) = augment(image[None], [Augmentation(matrix)], 149)
    inside = slice(20, -20)  # not the edges, which Keras blends into the black
    np.testing.assert_allclose(mine[inside, inside], expected[inside, inside], atol=1)
    assert np.abs(mine - expected).mean() < 1
    assert np.abs(mine - np.asarray(enlarged)[0, ..., 0])[inside, inside].max() > 20


def test_what_lies_in_the_upper_right_is_found_there_after_zoom_and_shift():
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 7, 21] = 255  # its centre a quarter of the edge above and right of the image's

    def find(augmentation):
        (pixels,) = augment(image, [augmentation], 280)
        return np.argwhere(pixels > 0.9 * pixels.max()).mean(axis=0)

    np.testing.assert_allclose(find(Augmentation()), [74.5, 214.5], atol=0.6)
    zoomed = Augmentation(np.array([[0.5, 0, 0.05], [0, 0.5, -0.05]]))  # twice as large, moved
    # In the image (x, y) = (0.268, -0.232) of its edge; in the image twice that, less what it was moved.
    expected = [280 * (0.5 + 2 * (-0.232 + 0.05)), 280 * (0.5 + 2 * (0.268 - 0.05))]
    np.testing.assert_allclose(find(zoomed), expected, atol=2)


def test_images_need_not_be_square():
    tall = np.repeat(np.arange(8, dtype=np.uint8)[:, None] * 30, 4, axis=1)[None]
    bilinear = keras.ops.image.resize(tall[..., None].astype(np.float32), (32, 32), interpolation="bilinear")
    expected = np.asarray(bilinear)[..., 0]
    np.testing.assert_allclose(augment(tall, [Augmentation()], 32), expected, atol=1e-3)


def test_images_are_mirrored_half_of_the_time():
    mirrored = [
        np.allclose(pixels, image[:, ::-1])
        for pixels, image in zip(vary(horizontal_flip=True), RAMP, strict=True)
    ]
    assert 8 <= sum(mirrored) <= 32


def test_brightness_shifts_an_image_by_up_to_its_share_of_the_range():
    shifts = (vary(brightness=0.1) - RAMP)[:, 0, 0]
    assert 15 < np.abs(shifts).max() <= 25.5 + 1e-3
    assert shifts.min() < 0 < shifts.max()


def test_contrast_stretches_an_image_about_its_mean():
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
    matrices = [draw_augmentation(AugmentationRanges(**ranges), (1, row)).affine for row in range(200)]
    x, y = np.array([matrix[[0, 1], [0, 1]] for matrix in matrices]).T
    largest = 1.3 if axes == "both" else 1.3**0.5
    assert 1 / largest <= x.min() < 0.9 and 1.1 < x.max() <= largest
    np.testing.assert_allclose(y, x if axes == "both" else 1 / x)
    assert not any(matrix[:, 2].any() for matrix in matrices)


def test_a_shift_moves_an_image_by_up_to_its_share_of_the_edge():
    moves = np.array(
        [draw_augmentation(AugmentationRanges(shift=0.1), (1, row)).affine[:, 2] for row in range(200)]
    )
    assert (np.abs(moves).max(axis=0) <= 0.1).all() and (np.abs(moves).max(axis=0) > 0.08).all()
    assert (moves.min(axis=0) < 0).all() and (moves.max(axis=0) > 0).all()


def test_rotation_stays_within_its_angle_and_uncovers_black_corners_or_mirrored_image():
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


def test_no_warp_reaches_beyond_the_mirrored_image():
    white = np.full((20, 12, 18), 255, np.uint8)
    far = {"rotation_degrees": 180.0, "zoom": 4.0, "aspect": 4.0, "shift": 1.0}
    np.testing.assert_allclose(vary(white, size=32, **far, fill="mirror"), 255)
    assert vary(white, size=32, **far).min() == 0


def test_an_image_goes_on_mirrored_at_its_edges():
    halved = Augmentation(np.array([[2.0, 0, 0], [0, 2.0, 0]]), fill="mirror")
    (image,) = augment(np.tile(np.arange(8, dtype=np.uint8), (1, 8, 1)), [halved], 16)
    np.testing.assert_allclose(image[8], [3, 2, 1, 0, *range(8), 7, 6, 5, 4])


def test_the_same_key_gives_the_same_draws():
    first, again, other = (draw_augmentation(PERTURBATION, key) for key in ((1, 2, 3), (1, 2, 3), (1, 2, 4)))
    np.testing.assert_array_equal(first.affine, again.affine)
    assert (first.gamma, first.brightness, first.contrast) == (again.gamma, again.brightness, again.contrast)
    assert not np.array_equal(first.affine, other.affine)


def test_grey_levels_stay_in_their_range():
    images = vary(np.repeat(IMAGES, 20, axis=0), size=64, **vars(PERTURBATION))
    assert images.min() >= 0 and images.max() <= 255


def test_the_brightness_factor_multiplies_grey_levels():
    factors = (vary(brightness_factor=1.2) / RAMP)[:, 0, 0]
    assert 1 / 1.2 - 1e-3 <= factors.min() < 0.9
    assert 1.1 < factors.max() <= 1.2 + 1e-3


def test_sharpness_changes_edges_and_leaves_flat_places_and_the_mean_alone():
    edge = np.repeat(np.array([80, 160], np.uint8), 8)[None, None].repeat(40, 0).repeat(16, 1)
    varied = vary(edge, sharpness=0.5)
    steps = (varied[:, 8, 8] - varied[:, 8, 7]) / 80
    # A share s of a third of the step is added on either side.
    assert 1 - 0.5 * 2 / 3 - 1e-3 <= steps.min() < 0.8 and 1.2 < steps.max() <= 1 + 0.5 * 2 / 3 + 1e-3
    np.testing.assert_allclose(varied[..., 0], 80, atol=1e-3)
    np.testing.assert_allclose(varied.mean(axis=(1, 2)), 120, rtol=1e-5)


def test_noise_has_up_to_its_standard_deviation_and_is_drawn_anew_for_each_image():
    grey = np.full((40, 64, 64), 128, np.uint8)
    noise = vary(grey, size=64, noise=0.05) - 128
    deviations = noise.std(axis=(1, 2)) / 255
    assert deviations.min() < 0.01 and 0.04 < deviations.max() < 0.053
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1
    np.testing.assert_array_equal(vary(grey, size=64, noise=0.05), noise + 128)


def test_half_of_the_images_are_saved_as_jpeg_of_a_quality_within_the_range():
    qualities = [
        draw_augmentation(AugmentationRanges(jpeg_quality=40), (1, row)).jpeg_quality for row in range(400)
    ]
    used = [quality for quality in qualities if quality is not None]
    assert 170 < len(used) < 230 and 40 <= min(used) < 43 and 92 < max(used) <= 95
    assert draw_augmentation(AugmentationRanges(jpeg_quality=100), (1, 0)).jpeg_quality is None


def test_what_is_saved_as_jpeg_is_what_pillow_reads_of_it():
    saved = expose_images(IMAGES, [Augmentation(jpeg_quality=50)] * 3)
    for pixels, image in zip(saved, IMAGES, strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=50)
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(file)))
    assert np.abs(saved - IMAGES).max() > 5


def test_either_fill_is_drawn_for_each_image():
    drawn = [draw_augmentation(AugmentationRanges(fill="either"), (1, row)).fill for row in range(100)]
    assert 35 < drawn.count("black") < 65 and set(drawn) == {"black", "mirror"}
