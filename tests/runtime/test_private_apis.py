"""What nobody promised to keep is still there: a test that fails is named as the door that was walled up."""

import ast
import inspect
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from pneumo_keras.runtime import private_apis

START = (
    "import pathlib, sys\n"
    "from pneumo_keras.runtime.backend import start_backend\n"
    "start_backend(pathlib.Path(sys.argv[1]))\n"
    "import keras\n"
    "model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])\n"
)
SAVE = "model.save(sys.argv[1] + '/model.keras')\n"
PREDICT = "import numpy; model.predict(numpy.ones((1, 2), 'float32'), verbose=0)\n"
SHRINK = (
    "import numpy\n"
    "stripes = numpy.zeros((1, 32, 32, 1), 'float32')\n"
    "stripes[:, :, ::8] = 200\n"
    "small = [keras.ops.image.resize(stripes, (4, 4), interpolation=kernel, antialias=True)\n"
    "         for kernel in ('bilinear', 'bicubic')]\n"
    "print(all(abs(numpy.asarray(one)[0, :, 1:3] - 25).max() < 3 for one in small))\n"
)
WATCH = (
    "import openvino\n"
    "plain = openvino.compile_model\n"
    "openvino.compile_model = lambda *given, **named: (print(named), plain(*given, **named))[1]\n"
)
LOOK = "import sys; sys.path.insert(0, sys.argv[1])\n"
EXACT = {"config": {"INFERENCE_PRECISION_HINT": "f32"}}


def run(code, folder, *, backend="jax"):
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else done.stderr.splitlines()[-1]


def test_keep_tensorflow_out(tmp_path):
    """A TensorFlow that says when it is imported: it is not, and without the door it would be."""
    (tmp_path / "tensorflow.py").write_text("print('imported'); raise ImportError")
    assert run(LOOK + START + SAVE, tmp_path) == ""
    open_ = "import pneumo_keras.runtime.backend as b; b.keep_tensorflow_out = lambda: None\n"
    assert "imported" in run(LOOK + open_ + START + SAVE, tmp_path)


def test_silence_telemetry(tmp_path):
    (tmp_path / "openvino_telemetry.py").write_text("print('imported'); raise ImportError")
    assert (
        run(LOOK + "from pneumo_keras.runtime.backend import import_openvino; import_openvino()", tmp_path)
        == ""
    )
    assert "imported" in run(LOOK + "import openvino", tmp_path)


def test_compute_in_float32(tmp_path):
    """Keras compiles by the function that was replaced before it was imported."""
    assert run(WATCH + START + PREDICT, tmp_path, backend="openvino") == f"{EXACT}\n"


def test_resize_by_weights(tmp_path):
    """Narrow stripes that shrink are grey; OpenVINO's own operator misses them with a cubic kernel."""
    assert run(START + SHRINK, tmp_path, backend="openvino") == "True\n"


@pytest.mark.parametrize("kept_off", [True, False])
def test_keep_ray_off_stdout(tmp_path, kept_off):
    pytest.importorskip("ray")
    code = (
        "from pneumo_keras.runtime.private_apis import keep_ray_off_stdout\n"
        f"if {kept_off}: keep_ray_off_stdout()\n"
        "from ray._private.worker import print_to_stdstream\n"
        "said = {'lines': ['a worker died'], 'pid': 'raylet', 'is_err': False}\n"
        "print_to_stdstream(said, ignore_prefix=False)"
    )
    assert ("a worker died" in run(code, tmp_path)) is not kept_off


def test_await_all_processes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import jax\n"
        "from pneumo_keras.runtime.private_apis import await_all_processes\n"
        f"jax.distributed.initialize('127.0.0.1:{port}', 1, 0, cluster_detection_method='deactivate')\n"
        "await_all_processes('start')\n"
        "print('all there')"
    )
    assert run(code, tmp_path).endswith("all there\n")


def test_trace_tensor():
    images = keras.Input((2,))
    first, second = keras.ops.split(images, 2, axis=1)
    operation, arguments, place = private_apis.trace_tensor(second)
    assert (type(operation).__name__, place) == ("Split", 1)
    assert arguments.args[0] is images
    assert private_apis.trace_tensor(first)[0] is operation


def test_xla_cpu_options():
    assert private_apis.XLA_CPU_OPTIONS
    program = jax.jit(jax.numpy.negative, compiler_options=private_apis.XLA_CPU_OPTIONS)
    assert program(1.0) == -1
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.jit(jax.numpy.negative, compiler_options={"xla_cpu_no_such_option": "1"})(1.0)


def build_layer():
    layer = keras.layers.Conv2D(8, 3)
    layer.build((None, None, None, 4))
    return layer


def test_override_initializers(monkeypatch):
    drawn = "keras.src.initializers.random_initializers.random.uniform"
    with (
        monkeypatch.context() as patched,
        private_apis.override_initializers(lambda shape: np.full(shape, 2.0)),
    ):
        patched.setattr(drawn, lambda *_, **__: pytest.fail("numbers were drawn"))
        layer, norm = build_layer(), keras.layers.BatchNormalization()
        norm.build((None, 4))
    np.testing.assert_array_equal(layer.kernel, np.full((3, 3, 4, 8), 2))
    np.testing.assert_array_equal(layer.bias, np.zeros(8))
    for variable, value in [(norm.gamma, 1), (norm.beta, 0), (norm.moving_variance, 1)]:
        np.testing.assert_array_equal(variable, np.full(4, value))
    assert layer.get_config() == {**build_layer().get_config(), "name": layer.name}
    with private_apis.override_initializers():
        assert not np.any(build_layer().kernel)
    assert len(np.unique(build_layer().kernel)) == 3 * 3 * 4 * 8


def test_tfds_builders():
    """TFDS calls the two methods that data.pneumonia_mnist.tfds_images overrides, and no others."""
    builder = tfds.core.ShardBasedBuilder
    assert builder.__abstractmethods__ == {"_info", "_shard_iterators_per_split"}
    assert list(inspect.signature(builder._info).parameters) == ["self"]
    assert list(inspect.signature(builder._shard_iterators_per_split).parameters) == ["self", "dl_manager"]


def list_private_parts(path):
    """Names below `.src` and attributes with an underscore, but a module's or an object's own."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os")):
                yield node.attr
        elif isinstance(node, ast.Constant) and str(node.value).startswith("keras.src"):
            yield node.value
        elif isinstance(node, ast.ImportFrom) and ".src" in (node.module or ""):
            yield node.module


def test_private_parts_of_others_are_touched_in_one_module_alone():
    """The other one names, and does not touch, what Keras writes into model files: see test_model_file."""
    package = Path(private_apis.__file__).parents[1]
    found = {str(path.relative_to(package)): list(list_private_parts(path)) for path in package.rglob("*.py")}
    assert {name for name, parts in found.items() if parts} == {
        "runtime/private_apis.py",
        "model/classifier.py",
    }
    assert len(found["runtime/private_apis.py"]) == 6
