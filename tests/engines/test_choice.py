import subprocess
import sys

import keras
import numpy as np
import pytest

from pneumo_keras.engines import choice
from pneumo_keras.engines.choice import build_runner, check_engine, choose_engine
from pneumo_keras.engines.table import ENGINES
from pneumo_keras.errors import SettingsError
from pneumo_keras.model.backbone import cut_backbone
from tests.engines.toys import build_toy, draw_images, randomise, to_deviation
from tests.toy import SIZE, build_branched_backbone


def test_names_are_known_without_loading_anything():
    code = (
        "import sys; from pneumo_keras.engines.table import ENGINES; "
        "print(*ENGINES, {'keras', 'jax', 'openvino', 'onnx', 'numpy', 'jaxtyping'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "keras jax openvino set()\n"


def build_lower():
    """Activations at a cut, and a pooled feature layer below it."""
    backbone = randomise(build_branched_backbone(feature_layers=("mixed0", "mixed10")))
    return cut_backbone(backbone, "mixed10").lower


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("build", [build_toy, build_lower])
def test_every_engine_gives_the_features_of_keras(name, build):
    if ENGINES[name].backend not in (None, keras.config.backend()):
        pytest.skip("needs another backend")
    backbone = build()
    images = draw_images(4, backbone.input_shape[1])
    features = list(build_runner(backbone, engine=name, precision="float32")([images[:2], images[2:]]))
    assert [len(batch) for batch in features] == [2, 2]
    assert to_deviation(np.concatenate(features), backbone, images) < 1e-6
    assert build is build_toy or features[0].shape[1] == (SIZE // 4) ** 2 * 7 + 7


def describe_choice(caplog, *arguments):
    """The engine, and the line that says why."""
    with caplog.at_level("INFO"):
        name = choose_engine(*arguments)
    return name, caplog.messages[-1]


def test_auto_takes_the_fastest_that_runs_and_says_why(monkeypatch, caplog):
    fastest = (
        "openvino",
        "The frozen network runs on openvino (measured as the fastest on CPUs: see docs/benchmarks.md), "
        "float32, on cpu",
    )
    assert describe_choice(caplog, "auto", "float32", "cpu") == fastest
    monkeypatch.setattr(choice, "BACKEND", "jax")
    name, reason = describe_choice(caplog, "auto", "float32", "NVIDIA H100")
    assert name == "jax" and "(for its fewer operations: on accelerators nothing was measured yet)" in reason
    monkeypatch.setattr(choice, "BACKEND", "torch")
    assert describe_choice(caplog, "auto", "float32", "cpu") == fastest
    name, reason = describe_choice(caplog, "auto", "float32", "gpu")
    assert name == "keras" and "(no other one runs here)" in reason


@pytest.mark.parametrize(("name", "precision"), [("keras", "float32"), ("openvino", "bfloat16")])
def test_an_engine_that_was_asked_for_is_taken(caplog, name, precision):
    chosen, reason = describe_choice(caplog, name, precision, "gpu")
    assert chosen == name and "(as set)" in reason


def test_engine_precision_and_backend_must_go_together(monkeypatch):
    with pytest.raises(SettingsError) as caught:
        choose_engine("keras", "bfloat16", "cpu")
    assert str(caught.value) == "compute.precision must be float32 for the engine keras. Received: bfloat16"
    monkeypatch.setattr(choice, "BACKEND", "torch")
    with pytest.raises(SettingsError) as caught:
        check_engine("jax", "float32")
    assert str(caught.value) == "compute.engine=jax needs KERAS_BACKEND=jax. Received: KERAS_BACKEND=torch"
