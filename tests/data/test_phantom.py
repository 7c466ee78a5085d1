import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pneumo_keras.data import phantom
from pneumo_keras.data.images import count_classes
from pneumo_keras.data.phantom import PhantomImages, build_phantom_splits
from pneumo_keras.errors import DataError
from tests.images import ImageArray, build_phantom_images, load_phantom_splits

# Fractions of the image between apex and diaphragm: in the lungs and between them, in most poses.
ROWS = (0.35, 0.60)
LUNGS = ((0.20, 0.32), (0.72, 0.80))
MEDIASTINUM = ((0.47, 0.53),)


@pytest.fixture(scope="module")
def images() -> ImageArray:
    return build_phantom_images(2000, size=28, seed=3)


def to_region_means(images: ImageArray, regions: tuple[tuple[float, float], ...]) -> np.ndarray:
    size = images.images.shape[1]
    top, bottom = (round(row * size) for row in ROWS)
    columns = [np.arange(round(left * size), round(right * size)) for left, right in regions]
    return images.images[:, top:bottom, np.concatenate(columns)].mean(axis=(1, 2))


def to_test_score(images: ImageArray) -> float:
    x, y = images.images.reshape(len(images), -1) / 255, images.labels
    half = len(images) // 2
    evaluate = LogisticRegression(C=0.1, max_iter=1000).fit(x[:half], y[:half])
    return float(roc_auc_score(y[half:], evaluate.decision_function(x[half:])))


@pytest.mark.parametrize("size", [16, 28, 61, 224])
def test_images_have_the_schema_of_the_real_ones(size: int):
    images = build_phantom_images(5, size=size, seed=0)
    assert images.images.shape == (5, size, size)
    assert images.images.dtype == np.uint8
    assert images.labels.shape == (5,)
    assert images.labels.dtype == np.int64


@pytest.mark.parametrize("size", [28, 100])
def test_the_same_arguments_draw_the_same_bytes(size: int):
    first = build_phantom_images(60, size=size, seed=7)
    np.random.seed(1)
    second = build_phantom_images(60, size=size, seed=7)
    assert first.images.tobytes() == second.images.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()


@pytest.mark.parametrize("n", [2, 340, 701])
def test_a_longer_set_starts_with_the_shorter_one(images: ImageArray, n: int):
    shorter = build_phantom_images(n, size=28, seed=3)
    assert np.array_equal(images.images[:n], shorter.images)
    assert np.array_equal(images.labels[:n], shorter.labels)


def test_any_rows_are_read_in_any_order(images: ImageArray):
    lazy = PhantomImages(2000, 28, 3)
    rows = np.array([1999, 0, 51, 49, 50, 0, 1200])
    assert np.array_equal(lazy.read(rows), images.images[rows])
    assert np.array_equal(lazy.read(slice(40, 260, 7)), images.images[40:260:7])
    assert lazy.read(slice(2000, 2100)).shape == (0, 28, 28)
    assert (len(lazy), lazy.shape) == (2000, (28, 28))
    with pytest.raises(IndexError):
        lazy.read(np.array([2000]))


def test_the_fingerprint_names_all_that_images_are_made_from():
    base = {"n": 20, "size": 28, "seed": 0, "prevalence": 0.74}
    others = [base, *({**base, key: value} for key, value in {"n": 21, "size": 29, "seed": 1}.items())]
    others.append({**base, "prevalence": 0.5})
    assert len({PhantomImages(**one).fingerprint() for one in others}) == 5
    assert PhantomImages(**base).fingerprint() == PhantomImages(20, 28, 0).fingerprint()


def test_images_of_another_generator_have_other_fingerprints(monkeypatch):
    before = PhantomImages(20, 28, 0).fingerprint()
    monkeypatch.setattr(phantom, "GENERATOR_VERSION", phantom.GENERATOR_VERSION + 1)
    assert PhantomImages(20, 28, 0).fingerprint() != before


def test_no_image_of_a_split_stands_in_another_split_or_seed():
    sets = [
        images.images for seed in range(3) for images in load_phantom_splits((60, 30, 40), seed=seed).values()
    ]
    assert len(np.unique(np.concatenate(sets), axis=0)) == 3 * 130
    seeds = {
        part.seed
        for seed in range(100)
        for part in build_phantom_splits((2, 2, 2), size=28, seed=seed).values()
    }
    assert len(seeds) == 300


def test_other_seeds_draw_other_images():
    first, second = (build_phantom_images(50, size=28, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.labels, second.labels)
    assert len(np.unique(np.concatenate([first.images, second.images]), axis=0)) == 100


@pytest.mark.parametrize(
    ("n", "share", "counts"),
    [(600, 0.74, (156, 444)), (1000, 0.5, (500, 500)), (200, 0.333, (133, 67))],
)
def test_the_share_of_pneumonia_is_as_asked(n: int, share: float, counts: tuple[int, int]):
    images = build_phantom_images(n, size=16, seed=0, prevalence=share)
    assert count_classes(images.labels) == counts


@pytest.mark.parametrize("share", [0.001, 0.74, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_two_images_are_of_two_classes(seed: int, share: float):
    images = build_phantom_images(2, size=16, seed=seed, prevalence=share)
    assert count_classes(images.labels) == (1, 1)


def test_labels_are_in_no_order(images: ImageArray):
    assert len({images.labels[start : start + 50].tobytes() for start in range(0, 2000, 50)}) == 40
    changes = np.abs(np.diff(images.labels)).mean()
    assert changes == pytest.approx(2 * 0.74 * 0.26, abs=0.05)
    first = [build_phantom_images(2, size=16, seed=seed).labels[0] for seed in range(20)]
    assert set(first) == {0, 1}


def test_lungs_are_darker_than_the_mediastinum(images: ImageArray):
    darker = to_region_means(images, LUNGS) < to_region_means(images, MEDIASTINUM)
    assert darker.mean() > 0.95


def test_sick_lungs_are_brighter_but_images_as_a_whole_hardly(images: ImageArray):
    sick = images.labels == 1
    lungs = to_region_means(images, LUNGS)
    assert lungs[sick].mean() > lungs[~sick].mean() + 10
    whole = images.images.mean(axis=(1, 2))
    assert roc_auc_score(images.labels, whole) < 0.75


def test_the_classes_overlap_but_can_be_told_apart(images: ImageArray):
    assert 0.80 < to_test_score(images) < 0.96


def test_an_image_is_the_same_chest_at_any_size():
    small, large = (build_phantom_images(20, size=size, seed=0) for size in (28, 112))
    shrunk = large.images.reshape(20, 28, 4, 28, 4).mean(axis=(2, 4))
    assert np.abs(shrunk - small.images).mean() < 8
    assert np.array_equal(small.labels, large.labels)


def test_exposure_differs_between_images(images: ImageArray):
    assert images.images.mean(axis=(1, 2)).std() > 10
    assert images.images.std(axis=(1, 2)).min() > 15


@pytest.mark.parametrize(("n", "size"), [(1, 28), (2, 15)])
def test_too_few_or_too_small_images_are_refused(n: int, size: int):
    with pytest.raises(DataError) as error:
        PhantomImages(n, size, seed=0)
    assert str(error.value) == (
        f"Phantom images must be at least 2, of at least 16 px. Received: {n} of {size} px."
    )


def test_patches_lie_where_opacities_brighten_an_image(monkeypatch):
    images, rows = PhantomImages(60, 28, 5), np.arange(60)
    patches = images.read_patches(rows)
    assert patches.min() >= 0 and patches.max() <= 1
    drawn = images.read(rows).astype(float)
    monkeypatch.setattr(phantom, "SEVERITY", ((0.0, 0.0), (0.0, 0.0)))
    without = images.read(rows)
    brighter = drawn - without
    sick = images.labels == 1
    inside, outside = (brighter[sick][where[sick]].mean() for where in (patches > 0.3, patches == 0))
    assert inside > 4 * outside  # haze brightens all of the lungs, a little
    own, next_ones = (
        [
            np.corrcoef(image.ravel(), patch.ravel())[0, 1]
            for image, patch in zip(brighter[sick], planes, strict=True)
        ]
        for planes in (patches[sick], np.roll(patches[sick], 1, axis=0))
    )
    assert min(own) > 0.6 and np.mean(own) > 0.85 > 0.6 > np.mean(next_ones)
    assert patches[sick].max(axis=(1, 2)).mean() > 3 * patches[~sick].max(axis=(1, 2)).mean()


def test_patches_are_those_of_the_images_in_any_order():
    images = PhantomImages(120, 28, 5)
    rows = np.array([101, 3, 55])
    assert np.array_equal(images.read_patches(rows), images.read_patches(slice(None))[rows])
