import pytest

from pneumo_keras import backend
from pneumo_keras.errors import BackendError
from pneumo_keras.exports import table


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(
        backend.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else 1
    )
    with pytest.raises(BackendError) as caught:
        table.check_form("onnx")
    assert str(caught.value) == (
        "pneumo-keras export --format onnx needs the package onnxruntime. Install it: uv sync --extra onnx, "
        "or pip install onnx onnxruntime"
    )


def test_stablehlo_comes_from_jax_alone(monkeypatch):
    monkeypatch.setattr(table, "BACKEND", "torch")
    with pytest.raises(BackendError) as caught:
        table.check_form("stablehlo")
    assert (
        str(caught.value)
        == "pneumo-keras export --format stablehlo runs on jax. Received: KERAS_BACKEND=torch"
    )


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_the_others_come_from_any_backend(monkeypatch, form):
    monkeypatch.setattr(table, "BACKEND", "torch")
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: 1)
    table.check_form(form)
