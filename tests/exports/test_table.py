import tomllib
from pathlib import Path

import pytest

from pneumo_keras.errors import BackendError
from pneumo_keras.exports import table
from pneumo_keras.runtime import backend

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def find_none(monkeypatch, missing):
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None if name == missing else 1)


@pytest.mark.parametrize("form", table.FORMS)
def test_each_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, form):
    about = table.FORMS[form]
    for package in about.packages:
        assert any(line.startswith(package) for line in PROJECT["optional-dependencies"][about.extra])
        find_none(monkeypatch, package)
        with pytest.raises(BackendError) as caught:
            table.check_form(form)
        assert str(caught.value) == (
            f"pneumo-keras export --format {form} needs the package {package}. Install it: uv sync --extra "
            f"{about.extra}, or pip install {' '.join(about.packages)}"
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
