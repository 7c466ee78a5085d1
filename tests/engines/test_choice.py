import importlib.util
import logging
import subprocess
import sys

import keras
import numpy as np
import pytest

from pneumo_keras.engines.choice import build_runner, check_engine, choose_engine
from pneumo_keras.engines.table import ENGINES
from pneumo_keras.errors import BackendError, SettingsError
from tests.engines.toys import build_chain, build_toy, draw_images, to_deviation

CURE = "Install it: uv sync --extra openvino, or pip install openvino onnx"
on_jax = pytest.mark.skipif(keras.config.backend() != "jax", reason="needs KERAS_BACKEND=jax")


@pytest.fixture(autouse=True)
def both_packages(monkeypatch):
    """As if OpenVINO and onnx were installed, whether they are or not."""
    hide(monkeypatch)


def hide(monkeypatch, *hidden):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in hidden else object())


def build_strange():
    """A backbone with a layer that only Keras knows."""
    return build_chain(keras.layers.DepthwiseConv2D(3, name="strange"))


@pytest.fixture
def warnings_shown(monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "pneumo_keras")
    return caplog


def test_names_are_known_without_loading_anything():
    code = (
        "import sys; from pneumo_keras.engines.table import ENGINES; "
        "print(*ENGINES, {'keras', 'jax', 'openvino', 'onnx', 'numpy', 'jaxtyping'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "keras jax openvino set()\n"


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_of_the_table_gives_the_features_of_keras(name, monkeypatch):
    monkeypatch.undo()
    if ENGINES[name].backend not in (None, keras.config.backend()):
        pytest.skip("needs another backend")
    for package in ENGINES[name].packages:
        pytest.importorskip(package)
    backbone, images = build_toy(), draw_images(3)
    runner = build_runner(backbone, engine=name, precision="float32")
    assert to_deviation(np.concatenate(list(runner([images[:2], images[2:]]))), backbone, images) < 1e-6


def test_auto_takes_openvino_on_a_cpu_and_says_where_it_was_measured():
    name, reason = choose_engine("auto", "float32", build_toy(), "cpu")
    assert (name, reason) == ("openvino", "measured as the fastest on CPUs: see docs/benchmarks.md")


@on_jax
@pytest.mark.parametrize("hidden", ["openvino", "onnx"])
def test_auto_takes_jax_on_a_cpu_without_openvino(hidden, monkeypatch):
    hide(monkeypatch, hidden)
    name, reason = choose_engine("auto", "float32", build_toy(), "cpu")
    assert name == "jax" and reason.startswith("measured as the fastest on CPUs without openvino")


@on_jax
def test_auto_claims_no_measurement_of_an_accelerator():
    name, reason = choose_engine("auto", "float32", build_toy(), "NVIDIA H100")
    assert (name, reason) == (
        "jax",
        "for its fewer operations: on accelerators nothing was measured yet",
    )


@pytest.mark.parametrize(
    ("device", "reason"), [("cpu", "no faster one runs here"), ("gpu", "no other one runs here")]
)
def test_auto_takes_stock_keras_where_nothing_else_runs(device, reason, monkeypatch):
    hide(monkeypatch, "openvino")
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    assert choose_engine("auto", "float32", build_toy(), device) == ("keras", reason)


def test_an_engine_that_was_asked_for_is_taken():
    assert choose_engine("keras", "float32", build_toy(), "cpu") == ("keras", "as set")
    assert choose_engine("openvino", "bfloat16", build_toy(), "gpu") == ("openvino", "as set")


@pytest.mark.parametrize("setting", ["auto", "openvino", pytest.param("jax", marks=on_jax)])
def test_an_unknown_layer_falls_back_to_stock_keras_in_one_line_that_names_it(setting, warnings_shown):
    name, reason = choose_engine(setting, "float32", build_strange(), "cpu")
    tried = "openvino" if setting == "auto" else setting
    assert (name, reason) == ("keras", f"{tried} does not know a layer")
    assert [record.getMessage() for record in warnings_shown.records] == [
        f"The engine {tried} gives way to stock Keras, which is slower. "
        "Cannot rewrite the backbone: DepthwiseConv2D 'strange' has no exact rewriting"
    ]


def test_stock_keras_runs_an_unknown_layer_without_a_word(warnings_shown):
    assert choose_engine("keras", "float32", build_strange(), "cpu") == ("keras", "as set")
    assert not warnings_shown.records


def test_no_fallback_gives_another_precision_than_was_asked_for():
    with pytest.raises(SettingsError) as caught:
        choose_engine("auto", "bfloat16", build_strange(), "cpu")
    assert str(caught.value) == ("compute.precision must be float32 for the engine keras. Received: bfloat16")


def test_jax_needs_keras_on_jax(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(SettingsError) as caught:
        check_engine("jax", "float32")
    assert str(caught.value) == ("compute.engine=jax needs KERAS_BACKEND=jax. Received: KERAS_BACKEND=torch")


@pytest.mark.parametrize("package", ["openvino", "onnx"])
def test_a_missing_package_is_named_with_a_command_that_works(package, monkeypatch):
    hide(monkeypatch, package)
    for attempt in (
        lambda: choose_engine("openvino", "float32", build_toy(), "cpu"),
        lambda: build_runner(build_toy(), engine="openvino", precision="float32"),
    ):
        with pytest.raises(BackendError) as caught:
            attempt()
        assert str(caught.value) == f"The engine 'openvino' needs the package {package}. {CURE}"
