import keras
import numpy as np
import pytest

from pneumo_keras.features.augmentation import AugmentationRanges
from pneumo_keras.features.views import PLAIN as AS_THEY_ARE
from pneumo_keras.features.views import SeenImages, build_augmented_views
from pneumo_keras.training.batches import Batches
from tests.images import ImageArray
from tests.toy import SIZE

LABELS = np.array([0, 1, 1, 0, 1, 1, 0], dtype=np.int64)
PLAIN = np.arange(7, dtype=np.float32)[:, None]


def collect(batches):
    inputs, labels = zip(*(batches[index] for index in range(len(batches))), strict=True)
    return np.concatenate(inputs)[:, 0], np.concatenate(labels)


def test_every_image_comes_once_an_epoch_with_its_label_in_a_new_order():
    batches = Batches([PLAIN], LABELS, batch_size=3, seed=1)
    assert len(batches) == 3
    orders = []
    for epoch in (1, 2, 3):
        batches.start_epoch(epoch)
        images, labels = collect(batches)
        assert sorted(images) == list(range(7))
        np.testing.assert_array_equal(labels, LABELS[images.astype(int)])
        orders.append(images.tolist())
    assert orders[0] != orders[1] != orders[2]


def test_the_same_seed_gives_the_same_order():
    first, second = (collect(Batches([PLAIN], LABELS, batch_size=3, seed=5)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])


def test_the_views_of_an_image_take_turns():
    views = [PLAIN + 100 * index for index in range(3)]
    batches = Batches(views, LABELS, batch_size=4, seed=1)
    seen = {image: set() for image in range(7)}
    for epoch in (1, 2, 3):
        batches.start_epoch(epoch)
        inputs, labels = collect(batches)
        for value, label in zip(inputs, labels, strict=True):
            seen[value % 100].add(value // 100)
            assert label == LABELS[int(value % 100)]
    assert all(turns == {0, 1, 2} for turns in seen.values())


def test_without_a_seed_images_come_in_their_order_in_every_epoch():
    batches = Batches([PLAIN], LABELS, batch_size=3, seed=None)
    for epoch in (1, 2):
        batches.start_epoch(epoch)
        images, labels = collect(batches)
        np.testing.assert_array_equal(images, np.arange(7))
        np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("workers", [1, 3])
def test_keras_sees_every_image_once_an_epoch(workers):
    seen = []

    class Noted(Batches):
        def __getitem__(self, index):
            inputs, labels = super().__getitem__(index)
            seen.extend(inputs[:, 0])
            return inputs, labels

    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile(loss="mse")
    batches = Noted([PLAIN], LABELS, batch_size=2, seed=1, workers=workers)
    orders = []

    def turn(epoch, logs):
        seen.clear()
        batches.start_epoch(epoch + 1)

    after = keras.callbacks.LambdaCallback(
        on_epoch_begin=turn, on_epoch_end=lambda *_: orders.append([*seen])
    )
    model.fit(batches, epochs=3, shuffle=False, verbose=0, callbacks=[after])
    assert [sorted(order) for order in orders] == [list(range(7))] * 3
    assert orders[0] != orders[1] != orders[2]


def test_an_epoch_has_the_same_batches_whatever_came_before():
    views = [PLAIN + 100 * index for index in range(3)]
    whole, resumed = (Batches(views, LABELS, batch_size=2, seed=1) for _ in range(2))
    for epoch in (1, 2, 3):
        whole.start_epoch(epoch)
    resumed.start_epoch(3, skip=2)
    assert (len(whole), len(resumed)) == (4, 2)
    for index in range(2):
        np.testing.assert_array_equal(resumed[index][0], whole[index + 2][0])
    resumed.start_epoch(4)
    assert len(resumed) == 4


def test_images_are_read_row_by_row_and_enlarged():
    arrays = np.arange(7, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    images = SeenImages(ImageArray(arrays, LABELS), AS_THEY_ARE, SIZE)
    inputs, _ = Batches([images], LABELS, batch_size=4, seed=None)[1]
    assert inputs.shape == (3, SIZE, SIZE, 1)
    np.testing.assert_array_equal(inputs[:, 0, 0, 0], [4, 5, 6])


def test_images_are_varied_anew_in_every_epoch_and_alike_in_every_batch():
    images = ImageArray(np.arange(7 * 64, dtype=np.uint8).reshape(7, 8, 8), LABELS)
    views = build_augmented_views(2, AugmentationRanges(rotation_degrees=15, brightness=0.1), seed=1)
    tables = [SeenImages(images, view, SIZE) for view in views]
    batches = Batches(tables, LABELS, batch_size=7, seed=None)
    first, _ = batches[0]
    batches.start_epoch(1)
    second, _ = batches[0]
    assert first.shape == (7, SIZE, SIZE, 1)
    assert np.abs(first - second).max() > 1
    np.testing.assert_array_equal(tables[0][np.array([5, 2])], tables[0][slice(None)][[5, 2]])
