import json
import math
from dataclasses import replace

import pytest

from pneumo_keras.bench.speeds import Bench, EngineSpeed


@pytest.fixture
def bench():
    engines = [
        EngineSpeed("keras", "float32", "cpu", (5.0, 4.0, 6.0), (1.0, 1.0, 1.0), 0.0),
        EngineSpeed("openvino", "float32", "cpu", (11.0, 10.0, 13.0), (2.2, 2.5, 2.6), 3.2e-7),
    ]
    environment = {"device": "cpu", "processor": "Toy CPU"}
    return Bench("InceptionV3", "phantoms", 11_400_000_000, 120e9, engines, environment)


def test_rate_is_the_median_of_the_windows_and_ratio_that_of_the_rounds(bench):
    assert (bench.engines[1].rate, bench.engines[1].ratio) == (11.0, 2.5)


def test_no_share_of_a_product_on_another_device(bench):
    on_gpu = replace(bench, environment={"device": "H200"})
    assert math.isnan(on_gpu.to_share(on_gpu.engines[1]))
    assert on_gpu.to_dict()["engines"][1]["share_of_product"] is None


def test_what_was_measured_is_one_json_document(bench):
    document = json.loads(json.dumps(bench.to_dict(), allow_nan=False))
    assert list(document) == ["network", "images", "operations", "product_rate", "engines", "environment"]
    assert document["engines"][1]["rate"] == 11.0 and document["engines"][1]["ratio"] == 2.5
    assert document["engines"][0]["share_of_product"] == pytest.approx(5 * 11.4 / 120)
    assert document["engines"][0]["operations_per_second"] == 57e9
    assert document["environment"]["processor"] == "Toy CPU"
