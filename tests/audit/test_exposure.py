import json
import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from pneumo_keras.audit.audit import audit_films
from pneumo_keras.audit.exposure import to_guessing_error
from pneumo_keras.audit.traces import measure_exposure
from pneumo_keras.data.films import FilmArray
from pneumo_keras.documents import to_document
from tests.audit.noise import draw_films


def test_exposure_is_that_of_each_film():
    films = FilmArray(np.array([[[0, 0], [200, 200]], [[50, 50], [50, 50]]], np.uint8), np.array([0, 1]))
    greys, contrasts = measure_exposure(films.images)
    assert (greys.tolist(), contrasts.tolist()) == ([100, 50], [100, 0])


def test_exposure_shift_agrees_with_its_definition():
    a, b = draw_films(60, seed=1), draw_films(30, seed=2, level=104)
    audit = audit_films({"train": a, "test": b})
    shift = next(s for s in audit.exposure_shifts if (s.measure, s.films) == ("mean grey", "all"))
    x, y = (films.images.mean(axis=(1, 2)) for films in (a, b))
    pooled = math.sqrt((59 * x.var(ddof=1) + 29 * y.var(ddof=1)) / 88)
    assert shift.d == pytest.approx((y.mean() - x.mean()) / pooled)
    assert shift.ks == pytest.approx(stats.ks_2samp(x, y).statistic)
    assert shift.is_notable


def test_a_single_film_has_no_deviation():
    audit = audit_films({"train": draw_films(4, seed=1), "test": draw_films(1, seed=2, pneumonia=0)})
    assert math.isnan(audit.splits["test"].exposure["mean grey"]["all"].deviation)
    assert math.isnan(audit.splits["test"].exposure["mean grey"]["pneumonia"].mean)
    assert math.isnan(audit.splits["test"].separation["contrast"])
    assert all(math.isnan(shift.d) and not shift.is_notable for shift in audit.exposure_shifts)
    json.dumps(to_document(audit), allow_nan=False)


def test_exposure_that_tells_the_classes_apart_is_named():
    films = draw_films(40, seed=1)
    films.images[20:] += np.arange(10, dtype=np.uint8).repeat(2)[:, None, None]
    audit = audit_films({"train": films})
    auc = roc_auc_score(films.labels, films.images.mean(axis=(1, 2)))
    assert audit.splits["train"].separation["mean grey"] == pytest.approx(auc)
    assert audit.splits["train"].telling == ["mean grey"]
    turned = audit_films({"train": FilmArray(films.images, 1 - films.labels)})
    assert turned.splits["train"].separation["mean grey"] == pytest.approx(auc)


def test_chance_is_not_called_telling():
    splits = {"train": draw_films(8, seed=3)}
    splits["train"].images[4:] += 1
    facts = audit_films(splits).splits["train"]
    assert facts.separation["mean grey"] >= 0.7 and facts.telling == []


def test_the_error_of_guessing_is_that_over_all_ways_to_label_the_films():
    values = np.arange(7.0)
    ways = [np.isin(values, sick) for sick in combinations(values, 3)]
    assert to_guessing_error(4, 3) == pytest.approx(
        np.std([roc_auc_score(labels, values) for labels in ways])
    )
