import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from pneumo_keras.audit.audit import audit_images
from pneumo_keras.data import images as images_module
from pneumo_keras.data.images import ImageArray, count_classes
from pneumo_keras.reporting.audit_plots import draw_audit
from pneumo_keras.reporting.plots import save_plot
from tests.audit.noise import CountingImages, Splits
from tests.images import build_phantom_images


@pytest.fixture
def splits() -> Splits:
    return {
        split: build_phantom_images(n, size=28, seed=n)
        for split, n in {"train": 60, "val": 20, "test": 30}.items()
    }


def draw(splits):
    return draw_audit(splits, audit_images(splits), title="Sixty phantoms")


def list_panels(figure):
    return [axes.get_title() for axes in figure.findobj(Axes)]


def list_titles(figure):
    parts = [figure, *figure.subfigs, *(part for top in figure.subfigs for part in top.subfigs)]
    return [part.get_suptitle() for part in parts if part.get_suptitle()]


def list_images(figure):
    return [image.get_array() for axes in figure.findobj(Axes) for image in axes.images]


def test_the_page_shows_counts_exposure_and_mean_images(splits):
    figure = draw(splits)
    normal, pneumonia = count_classes(splits["val"].labels)
    panels = list_panels(figure)
    assert panels[:3] == ["ImageSet by class", "Mean grey, normal images", "Mean grey, pneumonia images"]
    assert f"val, normal\n{normal} images" in panels
    bars = [text.get_text() for text in figure.axes[0].texts]
    assert f"{pneumonia}\n{100 * pneumonia / 20:.1f} %" in bars
    mean = splits["train"].images[splits["train"].labels == 0].mean(axis=0)
    np.testing.assert_allclose(list_images(figure)[0], mean)


def test_images_that_stand_twice_are_shown(splits):
    splits["val"].images[3] = splits["train"].images[5]
    figure = draw(splits)
    labels = [("normal", "pneumonia")[splits[s].labels[i]] for s, i in (("train", 5), ("val", 3))]
    assert f"train[5] {labels[0]}\nval[3] {labels[1]}" in list_panels(figure)
    assert "Images that stand more than once" in list_titles(figure)
    assert any(np.array_equal(image, splits["train"].images[5]) for image in list_images(figure))


def test_every_image_is_read_once_and_few_at_a_time(splits):
    whole = draw(splits)
    counting = {split: CountingImages(images) for split, images in splits.items()}
    streamed = draw_audit(counting, audit_images(splits), title="Sixty phantoms")
    assert sum(counting["train"].reads) <= 60 + 12
    for one, other in zip(list_images(streamed), list_images(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_mean_images_are_those_of_all_parts(splits, monkeypatch):
    monkeypatch.setattr(images_module.iterate_images, "__defaults__", (7,))
    val = splits["val"]
    np.testing.assert_allclose(list_images(draw(splits))[3], val.images[val.labels == 1].mean(axis=0))


def test_only_samples_of_many_repeats_are_shown(splits):
    splits["val"].images[:9] = splits["train"].images[:9]
    assert "Images that stand more than once, 6 of 9" in list_titles(draw(splits))


def test_close_images_stand_side_by_side_as_they_were_compared(splits):
    splits["test"].images[3] = splits["train"].images[5][:, ::-1] // 2 + 60
    figure = draw(splits)
    caption = next(panel for panel in list_panels(figure) if "mirrored" in panel)
    assert caption.startswith("train[5] ")
    assert "similarity 0.99" in caption or "similarity 1.00" in caption
    pair = next(image for image in list_images(figure) if image.shape == (28, 57))
    np.testing.assert_array_equal(pair[:, :28], splits["train"].images[5])
    np.testing.assert_array_equal(pair[:, 29:], splits["test"].images[3][:, ::-1])
    assert list_titles(figure)[-1].endswith("(almost equal from 0.96 on: 1 found)")


def test_one_split_of_one_class_without_repeats_can_be_drawn(splits, tmp_path):
    sick = splits["train"].labels == 1
    figure = draw({"train": ImageArray(splits["train"].images[sick], splits["train"].labels[sick])})
    assert "Images that stand more than once: none" in list_titles(figure)
    save_plot(figure, tmp_path / "audit.png")
    with Image.open(tmp_path / "audit.png") as page:
        assert page.size == (1600, 1245)


def test_splits_of_different_size_can_be_drawn(splits, tmp_path):
    splits["test"] = build_phantom_images(10, size=40, seed=1)
    save_plot(draw(splits), tmp_path / "audit.png")


def test_the_same_images_give_the_same_bytes(splits, tmp_path):
    for name in ("one.png", "two.png"):
        save_plot(draw(splits), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
