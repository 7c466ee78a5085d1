import io

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data import corruptions
from pneumo_keras.data.corruptions import CORRUPTIONS, CorruptedImages
from tests.images import ImageArray, build_phantom_images

IMAGES = build_phantom_images(6, size=28, seed=1)
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
# medmnistc 0.1.0, corruptions/registry.py, 'pneumoniamnist'; of gaussian_blur the five that have a severity.
PARAMETERS = {
    "pixelate": [0.8, 0.7, 0.6, 0.5, 0.40],
    "jpeg_compression": [50, 30, 15, 10, 7],
    "gaussian_noise": [0.04, 0.05, 0.06, 0.07, 0.08],
    "speckle_noise": [0.05, 0.07, 0.10, 0.15, 0.20],
    "impulse_noise": [0.005, 0.01, 0.013, 0.017, 0.02],
    "shot_noise": [300, 200, 150, 100, 80],
    "gaussian_blur": [3, 5, 7, 9, 11],
    "brightness_up": [1.1, 1.2, 1.3, 1.4, 1.5],
    "brightness_down": [0.9, 0.8, 0.7, 0.6, 0.5],
    "contrast_up": [1.1, 1.2, 1.3, 1.4, 1.6],
    "contrast_down": [0.9, 0.8, 0.7, 0.6, 0.4],
    "gamma_corr_up": [1.1, 1.2, 1.3, 1.4, 1.6],
    "gamma_corr_down": [0.9, 0.8, 0.7, 0.6, 0.4],
}
NOISE = [name for name in CORRUPTIONS if "noise" in name]


def corrupt(image, kind, severity):
    corruption = CORRUPTIONS[kind]
    return corruption.apply(image, corruption.parameters[severity - 1], np.random.default_rng(3))


def test_kinds_and_parameters_are_those_of_the_benchmark():
    assert {name: list(one.parameters) for name, one in CORRUPTIONS.items()} == PARAMETERS


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_higher_severity_changes_more_and_every_image_keeps_its_form(kind):
    image = IMAGES.images[0]
    before = image.copy()
    changed = [corrupt(image, kind, severity).astype(float) for severity in range(1, 6)]
    assert all(one.shape == image.shape for one in changed)
    distances = [np.abs(one - image).mean() for one in changed]
    # Which pixels two of them share is chance for the sizes that pixelate makes of 28 px.
    assert distances == sorted(distances) or kind == "pixelate"
    assert 0 < distances[0] < distances[-1]
    assert np.array_equal(image, before)


def test_brightness_multiplies_and_cuts_off_at_white():
    assert corrupt(RAMP, "brightness_up", 5)[0, :3].tolist() == [0, 1, 3]
    assert corrupt(RAMP, "brightness_up", 5)[10, 10] == 255  # 170 * 1.5
    assert corrupt(RAMP, "brightness_down", 5)[0, :5].tolist() == [0, 0, 1, 1, 2]


def test_contrast_stretches_about_the_mean():
    image = np.array([[50, 150]], np.uint8)  # bytes are cut off, of numbers of seven digits
    assert corrupt(image, "contrast_up", 2).tolist() == [[pytest.approx(40, abs=1), 160]]
    assert corrupt(image, "contrast_down", 5).tolist() == [[80, 120]]
    assert corrupt(np.array([[0, 200]], np.uint8), "contrast_up", 5).tolist() == [[0, 255]]


def test_gamma_raises_shares_of_white_to_a_power():
    for kind, power in (("gamma_corr_up", 1.6), ("gamma_corr_down", 0.4)):
        expected = np.floor(255.999 * (np.arange(256) / 255) ** power)
        assert np.array_equal(corrupt(RAMP, kind, 5).ravel(), expected)


def test_pixelate_repeats_means():
    image = np.array([[0, 10, 100, 100], [20, 30, 100, 100], [8, 8, 0, 0], [8, 8, 0, 255]], np.uint8)
    expected = [[15, 15, 100, 100], [15, 15, 100, 100], [8, 8, 64, 64], [8, 8, 64, 64]]
    assert corrupt(image, "pixelate", 4).tolist() == expected  # half of the pixels along each edge


def test_jpeg_is_that_of_pillow():
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "JPEG", quality=7)
    assert np.array_equal(corrupt(RAMP, "jpeg_compression", 5), np.asarray(Image.open(file)))


@pytest.mark.parametrize("size", [28, 8, 4])
def test_blur_keeps_a_flat_image_whatever_its_size(size):
    flat = np.full((size, size), 90, np.uint8)
    assert np.array_equal(corrupt(flat, "gaussian_blur", 5), flat)


@pytest.mark.parametrize(("severity", "width", "deviation"), [(1, 3, 0.8), (3, 7, 1.4), (5, 11, 2.0)])
def test_blur_weighs_the_image_mirrored_about_its_edges(severity, width, deviation):
    image, reach = IMAGES.images[0], width // 2
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, reach, mode="reflect"), (width, width))
    expected = np.einsum("ijkl,k,l->ij", windows, kernel, kernel) / kernel.sum() ** 2
    np.testing.assert_allclose(corrupt(image, "gaussian_blur", severity), expected, atol=0.51)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("gaussian_noise", 0.08 * 255), ("speckle_noise", 0.2 * 128), ("shot_noise", 255 * (0.5 / 80) ** 0.5)],
)
def test_noise_is_drawn_for_each_of_three_channels(kind, expected):
    """So that of its deviation the root of the sum of the squared weights of a luminance is left."""
    grey = corrupt(np.full((200, 200), 128, np.uint8), kind, 5).astype(float)
    assert grey.mean() == pytest.approx(128, abs=1)
    assert grey.std() == pytest.approx(expected * np.sqrt(0.299**2 + 0.587**2 + 0.114**2), rel=0.05)


def test_impulses_hit_their_share_of_values():
    grey = corrupt(np.full((300, 300), 100, np.uint8), "impulse_noise", 5)
    assert (grey != 100).mean() == pytest.approx(1 - 0.98**3, rel=0.1)


@pytest.mark.parametrize("kind", NOISE)
def test_an_image_is_corrupted_alike_however_it_is_read(kind):
    images = CorruptedImages(IMAGES, kind, 3, seed=5)
    whole = images.read(slice(None))
    assert np.array_equal(images.read(np.array([4, 1])), whole[[4, 1]])
    assert np.array_equal(images.read(slice(2, 5)), whole[2:5])
    twins = CorruptedImages(
        ImageArray(np.repeat(IMAGES.images[:1], 2, axis=0), IMAGES.labels[:2]), kind, 3, 5
    )
    one, other = twins.read(slice(None))
    assert not np.array_equal(one, other)
    again = CorruptedImages(IMAGES, kind, 3, seed=6).read(slice(None))
    assert not np.array_equal(again, whole)


def test_a_fingerprint_tells_all_that_pixels_depend_on(monkeypatch):
    def fingerprint(images=IMAGES, kind="pixelate", severity=1, seed=0):
        return CorruptedImages(images, kind, severity, seed).fingerprint()

    plain = fingerprint()
    others = [fingerprint(kind="gaussian_blur"), fingerprint(severity=2), fingerprint(seed=1)]
    others += [IMAGES.fingerprint(), fingerprint(images=build_phantom_images(6, size=28, seed=2))]
    assert len({plain, *others}) == 6
    assert fingerprint() == plain
    monkeypatch.setattr(corruptions, "fingerprint_code", lambda modules: "other code")
    assert fingerprint() != plain
