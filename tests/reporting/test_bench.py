from dataclasses import replace

import pytest

from pneumo_keras.bench.engines import Bench, EngineSpeed
from pneumo_keras.reporting.bench import format_bench


@pytest.fixture
def bench():
    return Bench(
        network="InceptionV3, mixed10, 299 px",
        images="synthetic phantoms, 28 px",
        operations=11_400_000_000,
        product_rate=120e9,
        engines=[
            EngineSpeed("keras", "float32", "cpu", (5.0, 4.0, 6.0), (1.0, 1.0, 1.0), 0.0),
            EngineSpeed("openvino", "float32", "cpu", (11.0, 10.0, 15.0), (2.2, 2.5, 2.5), 3.2e-7),
        ],
        environment={
            "packages": {"keras": "3.15.0", "jax": "0.10.0"},
            "backend": "jax",
            "device": "cpu",
            "processor": "Toy CPU",
            "cores": 2,
        },
    )


def test_the_table_in_full(bench):
    assert format_bench(bench).splitlines() == [
        "InceptionV3, mixed10, 299 px: 11.40 GFLOP an image",
        "synthetic phantoms, 28 px; keras 3.15.0, jax 0.10.0 on cpu; Toy CPU, 2 cores",
        "A plain float32 matrix product runs at 120 GFLOP/s.",
        "",
        "engine    precision  images/s  min to max    x keras  min to max    GFLOP/s  of product  deviation",
        "keras     float32         5.0  4.0 to 6.0       1.00  1.00 to 1.00       57        48 %    0.0e+00",
        "openvino  float32        11.0  10.0 to 15.0     2.50  2.20 to 2.50      125       104 %    3.2e-07",
        "",
        "Medians of 3 rounds in which the engines alternate, images already prepared. x keras: the rate",
        "over that of stock Keras in the same round; the machine's drift drops out of it, so it need not be",
        "the ratio of the medians. Operations are those of stock Keras, deviation is the largest of any",
        "feature over the largest feature.",
    ]


def test_a_ratio_that_is_not_that_of_the_medians_stands_with_its_own_range_and_is_named(bench):
    """11.0 over 5.0 images/s is 2.20, the median of the rounds 2.50."""
    text = format_bench(bench)
    assert "2.50  2.20 to 2.50" in text
    note = " ".join(text.split())
    assert "x keras: the rate over that of stock Keras in the same round" in note
    assert "it need not be the ratio of the medians" in note


def test_an_engine_on_another_device_has_no_share_of_the_product(bench):
    text = format_bench(replace(bench, environment={**bench.environment, "device": "H200"}))
    assert text.splitlines()[5].split()[-2:] == ["-", "0.0e+00"]
