import importlib.util
import itertools
import json
import logging
import math
import sys

import keras
import numpy as np
import pytest

from pneumo_keras.bench import bench as bench_module
from pneumo_keras.bench.bench import (
    STOCK,
    Bench,
    EngineFigures,
    JobFigures,
    build_images,
    count_operations,
    format_bench,
    measure_command,
    measure_engines,
    measure_job,
    measure_product_rate,
    measure_rates,
    to_deviation,
)
from pneumo_keras.data.phantom import build_phantom_films
from pneumo_keras.errors import RunError
from tests.toy import SIZE, build_toy_backbone

PROGRAM = ("jax", "float32")


class FakeClock:
    """Stands still but for the work that moves it."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def build_network(self, seconds_a_batch, calls):
        durations = itertools.cycle(seconds_a_batch)

        def network(batches):
            for batch in batches:
                calls.append(self.now)
                self.now += next(durations)
                yield np.zeros((len(batch), 2), np.float32)

        return network


@pytest.fixture(scope="module")
def images():
    return build_images(build_phantom_films(5, size=28, seed=0), SIZE)


@pytest.fixture(scope="module")
def engines(images):
    return measure_engines(build_toy_backbone(), images, windows=2, seconds=0.01)


def build_bench(**changes):
    figures = {
        "network": "InceptionV3, mixed10, 299 px",
        "films": "synthetic phantoms, 28 px",
        "operations": 11_400_000_000,
        "product_rate": 120e9,
        "engines": [
            EngineFigures("keras", "float32", "cpu", (5.0, 4.0, 6.0), (1.0, 1.0, 1.0), 0.0),
            EngineFigures("jax", "float32", "cpu", (11.0, 10.0, 12.0), (2.2, 2.5, 2.0), 3.2e-7),
        ],
        "job": [],
        "environment": {
            "packages": {"keras": "3.15.0", "jax": "0.10.0"},
            "backend": "jax",
            "device": "cpu",
            "processor": "Toy CPU",
            "cores": 2,
        },
    }
    return Bench(**(figures | changes))


def test_operations_of_the_toy_counted_by_hand():
    first = 2 * (3 * 3 * 3) * 6 * (8 * 8)
    second = 2 * (3 * 3 * 6) * 6 * (4 * 4)
    assert count_operations(build_toy_backbone()) == first + second
    assert count_operations(build_toy_backbone(taps=("mixed4",))) == first


def test_operations_of_a_grouped_valid_rectangular_convolution_counted_by_hand():
    images = keras.Input((9, 7, 4))
    model = keras.Model(images, keras.layers.Conv2D(6, (1, 3), groups=2)(images))
    assert count_operations(model) == 2 * (1 * 3 * 2) * 6 * (9 * 5)


@pytest.mark.slow
def test_inception_has_the_operations_of_the_literature():
    network = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))
    assert count_operations(network) == pytest.approx(2 * 5.7e9, rel=0.01)


def test_films_are_repeated_to_a_whole_batch(images):
    assert images.shape == (32, SIZE, SIZE, 3) and images.dtype == np.float32
    np.testing.assert_array_equal(images[:5], images[5:10])
    assert -1 <= images.min() < images.max() <= 1


def test_all_engines_of_this_machine_are_measured_stock_keras_first(engines):
    names = [(figures.engine, figures.precision) for figures in engines]
    assert names[0] == STOCK
    assert (PROGRAM in names) == (keras.config.backend() == "jax")
    assert (("openvino", "float32") in names) == (importlib.util.find_spec("openvino") is not None)
    assert ("jax", "bfloat16") not in names or engines[0].device != "cpu"
    assert all(len(figures.rates) == len(figures.ratios) == 2 for figures in engines)


def test_stock_keras_does_not_deviate_from_itself_and_others_hardly(engines):
    assert engines[0].deviation == 0 and engines[0].ratios == (1.0, 1.0)
    assert all(figures.deviation < 1e-5 for figures in engines if figures.precision == "float32")


def test_engines_left_out_are_named_with_the_reason(images, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(logging.getLogger("pneumo_keras"), "propagate", True)
    with caplog.at_level(logging.INFO, "pneumo_keras"):
        engines = measure_engines(build_toy_backbone(), images, windows=1, seconds=0.0)
    assert "openvino" not in [figures.engine for figures in engines]
    assert "Left out openvino, float32: The engine 'openvino' needs the package openvino." in caplog.text


def test_deviation_is_relative_to_the_largest_stock_feature():
    stock = np.array([[1.0, -4.0]], np.float32)
    assert to_deviation(np.array([[1.0, -3.0]], np.float32), stock) == 0.25


def test_engines_take_turns_and_rates_are_images_over_seconds():
    clock, keras_calls, program_calls = FakeClock(), [], []
    networks = {
        STOCK: clock.build_network([2.0, 4.0], keras_calls),
        PROGRAM: clock.build_network([1.0, 0.5], program_calls),
    }
    rates = measure_rates(networks, [np.zeros((8, 1))], windows=2, seconds=0.1, clock=clock)
    assert rates == {STOCK: [4.0, 2.0], PROGRAM: [8.0, 16.0]}
    assert keras_calls == [100.0, 103.0] and program_calls == [102.0, 107.0]


def test_a_window_lasts_its_seconds_and_passes_all_images_once():
    clock, calls = FakeClock(), []
    networks = {STOCK: clock.build_network([1.0], calls)}
    batches = [np.zeros((8, 1)), np.zeros((4, 1))]
    assert measure_rates(networks, batches, windows=1, seconds=0.0, clock=clock) == {STOCK: [6.0]}
    assert len(calls) == 2
    assert measure_rates(networks, batches, windows=1, seconds=5.0, clock=clock) == {STOCK: [32 / 5]}
    assert len(calls) == 2 + 5


def test_the_ratio_is_the_median_of_paired_ratios(monkeypatch, images):
    clock = FakeClock()
    # A machine that slows down to a third: the ratios of the rounds stay 2, 2 and 4.
    networks = {
        STOCK: clock.build_network([1.0, 1.0, 2.0, 3.0], []),
        PROGRAM: clock.build_network([0.5, 0.5, 1.0, 0.75], []),
    }
    monkeypatch.setattr(bench_module, "_build_networks", lambda backbone, device: networks)
    monkeypatch.setattr(bench_module, "to_deviation", lambda features, stock: 0.0)
    stock, program = measure_engines(build_toy_backbone(), images, windows=3, seconds=0.1, clock=clock)
    assert stock.rates == (32.0, 16.0, 32 / 3) and stock.rate == 16.0 and stock.ratio == 1.0
    assert program.ratios == (2.0, 2.0, 4.0) and program.ratio == 2.0
    assert program.to_dict()["rate"] == 32 / 0.75


def test_the_product_rate_is_the_best_of_several(monkeypatch):
    ticks = itertools.accumulate(itertools.cycle([0.0, 2.0, 0.0, 0.5, 0.0, 1.0]))
    monkeypatch.setattr(bench_module, "describe_device", lambda: "cpu")
    assert measure_product_rate(edge=8, repeats=3, clock=lambda: next(ticks)) == 2 * 8**3 / 0.5


def test_the_product_rate_of_this_machine_is_plausible():
    assert 1e6 < measure_product_rate(edge=64, repeats=2) < 1e15


def test_the_table_in_full():
    assert format_bench(build_bench()).splitlines() == [
        "InceptionV3, mixed10, 299 px: 11.40 GFLOP an image",
        "synthetic phantoms, 28 px; keras 3.15.0, jax 0.10.0 on cpu; Toy CPU, 2 cores",
        "A plain float32 matrix product runs at 120 GFLOP/s.",
        "",
        "engine    precision   images/s   min to max         x keras  GFLOP/s  of product  deviation",
        "keras     float32          5.0   4.0 to 6.0            1.00       57        48 %    0.0e+00",
        "jax       float32         11.0   10.0 to 12.0          2.20      125       104 %    3.2e-07",
        "",
        "Median of 3 windows in turn, films already prepared. Operations are those of stock Keras,",
        "deviation is the largest of any feature over the largest feature.",
    ]


def test_the_table_of_the_job():
    job = [
        JobFigures("train", "cold", 100.0, 1_500_000_000),
        JobFigures("eval", "cold", 30.0, 1_000_000_000),
        JobFigures("train", "warm", 12.5, None),
        JobFigures("eval", "warm", 8.0, 900_000_000),
    ]
    assert format_bench(build_bench(job=job)).splitlines()[10:] == [
        "",
        "command   cache     seconds   peak memory",
        "train     cold        100.0       1.50 GB",
        "eval      cold         30.0       1.00 GB",
        "train     warm         12.5             -",
        "eval      warm          8.0       0.90 GB",
        "",
        "Cold less warm, what the features cost with compiling: 87.5 s of train and 22.0 s of eval. "
        "Warm, the rest: start, fit, files.",
    ]


def test_no_share_of_a_product_on_another_device():
    openvino = EngineFigures("openvino", "float32", "cpu", (20.0,), (0.1,), 0.0)
    bench = build_bench(engines=[openvino], environment={**build_bench().environment, "device": "H200"})
    assert math.isnan(bench.to_share(openvino))
    assert bench.to_dict()["engines"][0]["share_of_product"] is None
    assert "           -" in format_bench(bench)


def test_the_figures_are_one_json_document():
    document = build_bench(job=[JobFigures("train", "cold", 1.0, None)]).to_dict()
    document = json.loads(json.dumps(document, allow_nan=False))
    assert document["engines"][1]["rate"] == 11.0 and document["engines"][1]["ratio"] == 2.2
    assert document["engines"][0]["share_of_product"] == pytest.approx(5 * 11.4 / 120)
    assert document["engines"][0]["operations_per_second"] == 57e9
    assert document["job"][0] == {"command": "train", "cache": "cold", "seconds": 1.0, "peak_bytes": None}
    assert document["environment"]["processor"] == "Toy CPU"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_the_memory_of_a_command_is_its_own():
    ours = bytearray(400_000_000)
    seconds, peak = measure_command([sys.executable, "-c", "held = b'x' * 100_000_000"])
    assert len(ours) > peak > 100_000_000
    assert 0 < seconds < 60


def test_the_job_trains_and_evaluates_cold_then_warm_in_a_folder_of_its_own(tmp_path):
    notes = tmp_path / "notes"
    script = (
        "import os, sys, pathlib; cache = pathlib.Path(os.environ['PNEUMO_KERAS_CACHE']);"
        f"print(cache.exists(), *sys.argv[1:], file=open({str(notes)!r}, 'a')); cache.mkdir(exist_ok=True)"
    )
    job = measure_job(["--config", "demo"], program=[sys.executable, "-c", script])
    assert [(figures.command, figures.cache) for figures in job] == [
        ("train", "cold"),
        ("eval", "cold"),
        ("train", "warm"),
        ("eval", "warm"),
    ]
    lines = [line.split() for line in notes.read_text().splitlines()]
    cold, warm = lines[0][-1], lines[2][-1]
    assert cold != warm
    assert [[word for word in line if word != "--quiet"] for line in lines] == [
        ["False", "train", "--config", "demo", "--run", cold],
        ["True", "eval", cold],
        ["True", "train", "--config", "demo", "--run", warm],
        ["True", "eval", warm],
    ]


def test_a_command_that_fails_stops_the_job():
    program = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(RunError, match=r"for the reason above: .* ended with exit status 3\. Mend that"):
        measure_job([], program=program)
