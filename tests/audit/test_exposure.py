import json
import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from pneumo_keras.audit.audit import audit_images
from pneumo_keras.audit.exposure import to_guessing_error
from pneumo_keras.audit.traces import measure_exposure
from pneumo_keras.data.images import ImageArray
from pneumo_keras.storage.documents import to_document
from tests.audit.noise import draw_images


def test_exposure_is_that_of_each_image():
    images = ImageArray(np.array([[[0, 0], [200, 200]], [[50, 50], [50, 50]]], np.uint8), np.array([0, 1]))
    greys, contrasts = measure_exposure(images.images)
    assert (greys.tolist(), contrasts.tolist()) == ([100, 50], [100, 0])


def test_exposure_shift_agrees_with_its_definition():
    a, b = draw_images(60, seed=1), draw_images(30, seed=2, level=104)
    audit = audit_images({"train": a, "test": b})
    shift = next(s for s in audit.exposure_shifts if (s.measure, s.images) == ("mean grey", "all"))
    x, y = (images.images.mean(axis=(1, 2)) for images in (a, b))
    pooled = math.sqrt((59 * x.var(ddof=1) + 29 * y.var(ddof=1)) / 88)
    assert shift.d == pytest.approx((y.mean() - x.mean()) / pooled)
    assert shift.ks == pytest.approx(stats.ks_2samp(x, y).statistic)
    assert shift.is_notable


def test_a_single_image_has_no_deviation():
    audit = audit_images({"train": draw_images(4, seed=1), "test": draw_images(1, seed=2, pneumonia=0)})
    assert math.isnan(audit.splits["test"].exposure["mean grey"]["all"].deviation)
    assert math.isnan(audit.splits["test"].exposure["mean grey"]["pneumonia"].mean)
    assert math.isnan(audit.splits["test"].separation["contrast"])
    assert all(math.isnan(shift.d) and not shift.is_notable for shift in audit.exposure_shifts)
    json.dumps(to_document(audit), allow_nan=False)


def test_exposure_that_tells_the_classes_apart_is_named():
    images = draw_images(40, seed=1)
    images.images[20:] += np.arange(10, dtype=np.uint8).repeat(2)[:, None, None]
    audit = audit_images({"train": images})
    auc = roc_auc_score(images.labels, images.images.mean(axis=(1, 2)))
    assert audit.splits["train"].separation["mean grey"] == pytest.approx(auc)
    assert audit.splits["train"].telling == ["mean grey"]
    turned = audit_images({"train": ImageArray(images.images, 1 - images.labels)})
    assert turned.splits["train"].separation["mean grey"] == pytest.approx(auc)


def test_chance_is_not_called_telling():
    splits = {"train": draw_images(8, seed=3)}
    splits["train"].images[4:] += 1
    facts = audit_images(splits).splits["train"]
    assert facts.separation["mean grey"] >= 0.7 and facts.telling == []


def test_the_error_of_guessing_is_that_over_all_ways_to_label_the_images():
    values = np.arange(7.0)
    ways = [np.isin(values, sick) for sick in combinations(values, 3)]
    assert to_guessing_error(4, 3) == pytest.approx(
        np.std([roc_auc_score(labels, values) for labels in ways])
    )
