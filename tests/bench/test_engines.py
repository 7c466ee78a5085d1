import itertools
import json
import logging
import math
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from pneumo_keras.bench import engines as engines_module
from pneumo_keras.bench.engines import (
    STOCK,
    Bench,
    EngineSpeed,
    build_images,
    measure_engines,
    measure_product_rate,
    measure_rates,
)
from pneumo_keras.engines import openvino
from pneumo_keras.model.classifier import build_frozen_part
from pneumo_keras.runtime.backend import import_openvino
from tests.images import build_phantom_images
from tests.toy import SIZE, build_toy_backbone

PROGRAM = ("jax", "float32")


class FakeClock:
    """Stands still but for the work that moves it."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def build_runner(self, seconds_a_batch, calls):
        durations = itertools.cycle(seconds_a_batch)

        def network(batches):
            for batch in batches:
                calls.append(self.now)
                self.now += next(durations)
                yield np.ones((len(batch), 2), np.float32)

        return network


@pytest.fixture(scope="module")
def images():
    return build_images(
        build_phantom_images(5, size=28, seed=0), build_frozen_part(build_toy_backbone(), data_size=28)
    )


@pytest.fixture(autouse=True)
def short(monkeypatch):
    set_windows(monkeypatch, 1, 0.0)


def set_windows(monkeypatch, windows, seconds):
    monkeypatch.setattr(engines_module, "WINDOWS", windows)
    monkeypatch.setattr(engines_module, "SECONDS", seconds)


@pytest.fixture(scope="module")
def engines(images):
    with pytest.MonkeyPatch.context() as patched:
        set_windows(patched, 2, 0.01)
        return measure_engines(build_toy_backbone(), images)


def test_images_are_repeated_to_a_whole_batch(images):
    assert images.shape == (32, SIZE, SIZE, 3) and images.dtype == np.float32
    np.testing.assert_array_equal(images[:5], images[5:10])
    assert -1 <= images.min() < images.max() <= 1


def test_all_engines_of_this_machine_are_measured_stock_keras_first(engines):
    names = [(speed.engine, speed.precision) for speed in engines]
    assert names[0] == STOCK
    assert (PROGRAM in names) == (keras.config.backend() == "jax")
    assert ("openvino", "float32") in names
    assert ("jax", "bfloat16") not in names or engines[0].device != "cpu"
    assert all(len(speed.rates) == len(speed.ratios) == 2 for speed in engines)


def test_stock_keras_does_not_deviate_from_itself_and_others_hardly(engines):
    assert engines[0].deviation == 0 and engines[0].ratios == (1.0, 1.0)
    assert all(speed.deviation < 1e-5 for speed in engines if speed.precision == "float32")


def test_engines_left_out_are_named_with_the_reason(images, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(openvino, "_start_core", import_openvino)
    with caplog.at_level(logging.INFO, "pneumo_keras"):
        engines = measure_engines(build_toy_backbone(), images)
    assert "openvino" not in [speed.engine for speed in engines]
    assert "Left out openvino, float32: OpenVINO is installed and cannot be imported: " in caplog.text


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(engines_module, "perf_counter", clock)
    return clock


def test_engines_alternate_and_rates_are_images_over_seconds(clock, monkeypatch):
    keras_calls, program_calls = [], []
    set_windows(monkeypatch, 2, 0.1)
    runners = {
        STOCK: clock.build_runner([2.0, 4.0], keras_calls),
        PROGRAM: clock.build_runner([1.0, 0.5], program_calls),
    }
    rates = measure_rates(runners, np.zeros((8, 4, 4, 3), np.float32))
    assert rates == {STOCK: [4.0, 2.0], PROGRAM: [8.0, 16.0]}
    assert keras_calls == [100.0, 103.0] and program_calls == [102.0, 107.0]


def test_a_window_lasts_its_seconds_and_passes_the_images_at_least_once(clock, monkeypatch):
    calls = []
    runners = {STOCK: clock.build_runner([1.0], calls)}
    images = np.zeros((8, 4, 4, 3), np.float32)
    assert measure_rates(runners, images) == {STOCK: [8.0]}
    assert len(calls) == 1
    set_windows(monkeypatch, 1, 4.5)
    assert measure_rates(runners, images) == {STOCK: [8.0]}
    assert len(calls) == 1 + 5


def test_the_ratio_is_the_median_of_paired_ratios(clock, monkeypatch, images):
    set_windows(monkeypatch, 3, 0.1)
    # A machine that slows down to a third: the ratios of the rounds stay 2, 2 and 4.
    runners = {
        STOCK: clock.build_runner([1.0, 1.0, 2.0, 3.0], []),
        PROGRAM: clock.build_runner([0.5, 0.5, 1.0, 0.75], []),
    }
    monkeypatch.setattr(engines_module, "_build_runners", lambda backbone, device: runners)
    stock, program = measure_engines(build_toy_backbone(), images)
    assert stock.rates == (32.0, 16.0, 32 / 3) and stock.rate == 16.0 and stock.ratio == 1.0
    assert program.ratios == (2.0, 2.0, 4.0) and program.ratio == 2.0
    assert program.rate == 32 / 0.75


def test_the_product_rate_is_the_best_of_several(monkeypatch):
    ticks = itertools.accumulate(itertools.cycle([0.0, 2.0, 0.0, 0.5, 0.0, 1.0]))
    monkeypatch.setattr(engines_module, "describe_device", lambda: "cpu")
    monkeypatch.setattr(engines_module, "PRODUCT_EDGE", 8)
    monkeypatch.setattr(engines_module, "PRODUCT_REPEATS", 3)
    monkeypatch.setattr(engines_module, "perf_counter", lambda: next(ticks))
    assert measure_product_rate() == 2 * 8**3 / 0.5


def test_what_was_measured_is_one_json_document():
    rates, ratios = (11.0, 10.0, 13.0), (2.2, 2.5, 2.6)
    speed = EngineSpeed("jax", "float32", "cpu", rates, ratios, 3.2e-7)
    bench = Bench("InceptionV3", "phantoms", 11_400_000_000, 120e9, [speed], {"device": "cpu"})
    document = json.loads(json.dumps(bench.to_dict(), allow_nan=False))
    assert list(document) == ["network", "images", "operations", "product_rate", "engines", "environment"]
    (engine,) = document["engines"]
    assert (engine["rate"], engine["ratio"]) == (11.0, 2.5)
    assert engine["share_of_product"] == pytest.approx(11 * 11.4 / 120)
    assert engine["operations_per_second"] == 11 * 11.4e9
    on_gpu = replace(bench, environment={"device": "H200"})
    assert math.isnan(on_gpu.to_matmul_fraction(speed))
    assert on_gpu.to_dict()["engines"][0]["share_of_product"] is None
