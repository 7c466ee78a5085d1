import subprocess
import sys

import numpy as np
import pytest

from pneumo_keras.engines.openvino import build_runner
from pneumo_keras.errors import BackendError
from pneumo_keras.runtime.backend import import_openvino
from tests.engines.toys import build_toy, draw_images, to_deviation


@pytest.fixture(scope="module")
def toy():
    return build_toy()


@pytest.fixture(scope="module")
def runner(toy):
    return build_runner(toy, precision="float32")


def compute(runner, images):
    (features,) = runner([images])
    return features


def test_features_are_those_of_keras(toy, runner):
    images = draw_images(5)
    features = compute(runner, images)
    assert features.dtype == np.float32
    assert to_deviation(features, toy, images) < 1e-6


def test_the_stream_keeps_the_order_over_uneven_batches(runner):
    images = draw_images(60)
    batches = np.split(images, [0, 1, 1, 20, 45, 60])
    features = list(runner(iter(batches)))
    assert [len(batch) for batch in features] == [0, 1, 0, 19, 25, 15, 0]
    np.testing.assert_array_equal(np.concatenate(features), compute(runner, images))


def test_an_image_has_the_same_bytes_of_features_whatever_comes_with_it(runner):
    images = draw_images(40)
    together = compute(runner, images)
    alone = np.concatenate([compute(runner, images[i : i + 1]) for i in range(40)])
    assert together.tobytes() == alone.tobytes()


def test_the_stream_takes_few_batches_ahead(runner):
    taken = []

    def prepare():
        for step in range(100):
            taken.append(step)
            yield draw_images(8)

    stream = runner(prepare())
    next(stream)
    assert len(taken) < 50
    stream.close()


def test_the_caller_may_reuse_its_array(runner):
    images = draw_images(30)

    def prepare():
        batch = np.empty_like(images[:3])
        for first in range(0, 30, 3):
            batch[:] = images[first : first + 3]
            yield batch

    features = np.concatenate(list(runner(prepare())))
    np.testing.assert_array_equal(features, compute(runner, images))


def test_an_error_of_the_caller_comes_through(runner):
    def prepare():
        yield draw_images(2)
        raise OSError("image missing")

    with pytest.raises(OSError, match="image missing"):
        list(runner(prepare()))


def test_bfloat16_is_close_or_refused(toy):
    images = draw_images(5)
    if "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        features = compute(build_runner(toy, precision="bfloat16"), images)
        assert 0 < to_deviation(features, toy, images) < 0.05
    else:
        with pytest.raises(BackendError, match="no bfloat16 arithmetic in this CPU"):
            build_runner(toy, precision="bfloat16")


def test_a_signal_stops_the_work_after_the_network_was_dropped_in_another_thread():
    code = (
        "import os, signal, threading, time, pneumo_keras\n"
        "from pneumo_keras.engines.openvino import build_runner\n"
        "from pneumo_keras.runtime.signals import Stopped, raise_on_signals\n"
        "from tests.engines.toys import build_toy\n"
        "runners = [build_runner(build_toy(), precision='float32')]\n"
        "thread = threading.Thread(target=runners.clear)\n"
        "thread.start(), thread.join()\n"
        "try:\n"
        "    with raise_on_signals():\n"
        "        os.kill(os.getpid(), signal.SIGINT), time.sleep(5)\n"
        "except Stopped:\n"
        "    print('stopped')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
