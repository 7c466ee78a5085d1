import numpy as np
import pytest

from pneumo_keras.features.augmentation import Augmentation, expose_images, warp_images
from pneumo_keras.features.views import PERTURBATIONS, build_severities_view
from tests.images import build_phantom_images

IMAGES = build_phantom_images(4, size=28, seed=1)
N = len(IMAGES)


def see(kind, severity, image, *, seed=0):
    augmentation = build_severities_view(kind, n=N, seed=seed).draw(N * (severity - 1) + image)
    exposed = expose_images(IMAGES.images[image : image + 1], [augmentation])
    return warp_images(exposed, [augmentation], 56)[0]


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_a_higher_severity_changes_more(kind):
    for image in range(N):
        plain = warp_images(IMAGES.images[image : image + 1].astype(np.float32), [Augmentation()], 56)[0]
        distances = [np.abs(see(kind, severity, image) - plain).mean() for severity in range(1, 6)]
        assert distances == sorted(distances) and distances[0] > 0


def test_the_strongest_of_each_kind():
    strongest = {kind: parameters[-1] for kind, (_, parameters) in PERTURBATIONS.items()}
    assert strongest == {
        "rotation": 15,
        "zoom_in": 1.35,
        "zoom_out": 1 / 1.35,
        "shift": 0.09,
        "sharpness_up": 0.5,
        "sharpness_down": -0.5,
    }
    draws = {kind: build_severities_view(kind, n=N, seed=0).draw(4 * N) for kind in PERTURBATIONS}
    turn = draws["rotation"].affine[:, :2]
    assert np.degrees(np.arccos(turn[0, 0])) == pytest.approx(15)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert np.linalg.norm(draws["shift"].affine[:, 2]) == pytest.approx(0.09)
    assert draws["zoom_in"].affine[0, 0] == pytest.approx(1 / 1.35)
    assert draws["zoom_out"].affine[0, 0] == pytest.approx(1.35)
    assert (draws["sharpness_up"].sharpness, draws["sharpness_down"].sharpness) == (0.5, -0.5)
    assert all(one.fill == "mirror" for kind, one in draws.items() if "sharp" not in kind)


@pytest.mark.parametrize("kind", ["rotation", "shift"])
def test_an_image_goes_one_way_at_all_severities_and_images_go_several(kind):
    view = build_severities_view(kind, n=40, seed=0)
    first, last = view.draw(3).affine, view.draw(4 * 40 + 3).affine
    part = (0, 1) if kind == "rotation" else (0, 2)
    assert np.sign(first[part]) == np.sign(last[part])
    signs = {float(np.sign(view.draw(row).affine[part])) for row in range(40)}
    assert signs == {-1.0, 1.0}
    assert build_severities_view(kind, n=40, seed=1).draw(3).affine[part] != first[part] or kind == "rotation"


def test_views_are_told_apart_by_kind_seed_and_number_of_images():
    views = [
        build_severities_view(kind, n=n, seed=seed).about
        for kind, n, seed in (("shift", 4, 0), ("zoom_in", 4, 0), ("shift", 5, 0), ("shift", 4, 1))
    ]
    assert all(one != other for place, one in enumerate(views) for other in views[:place])
    # What an entry of the cache says of itself beside these.
    assert not {"title", "n", "d"} & set(views[0])
