"""A training on many images takes hardly more memory than one on few."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = """
import json, resource, sys
from pathlib import Path
from pneumo_keras.runtime.backend import start_backend
folder, n = Path(sys.argv[1]), int(sys.argv[2])
start_backend(folder / "cache")
from pneumo_keras.recipes import network, train
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.config import load_config
from pneumo_keras.features.store import list_entries
from tests.toy import build_toy_backbone
network.build_backbone = build_toy_backbone
overrides = [f"data.phantom_images=[{n}, 100, 100]", "model.feature_layers=['mixed10']", "training.epochs=1"]
overrides.append("training.batch_size=256")
train.train_run(load_config("demo", overrides), RunFolder(folder / "run"))
(images,) = (entry.images for entry in list_entries(folder / "cache") if entry.n == n)
print(json.dumps({"images": images, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""

# The bytes in use now, and not the peak: a compiler's peak would hide what stays.
SOAK = """
import json, sys
from pathlib import Path
from pneumo_keras.runtime.backend import start_backend
folder, trainings = Path(sys.argv[1]), int(sys.argv[2])
start_backend(folder / "cache")
from pneumo_keras.recipes import network, train
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.config import load_config
from tests.small import SMALL
from tests.toy import build_toy_backbone
network.build_backbone = build_toy_backbone
megabytes = []
for seed in range(trainings):
    train.train_run(load_config("demo", [*SMALL, f"seed={seed}"]), RunFolder(folder / f"run{seed}"))
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    megabytes.append(pages * 4096 / 2**20)
print(json.dumps(megabytes))
"""


def run(code, folder, n):
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(n)],
        env={**os.environ, "PNEUMO_KERAS_CACHE": str(folder / "cache"), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.system
@pytest.mark.parametrize(
    ("n", "allowed"), [(25_000, 75), pytest.param(100_000, 300, marks=pytest.mark.exhaustive)]
)
def test_more_images_take_less_than_3_kb_each(tmp_path, n, allowed):
    few, many = run(TRAIN, tmp_path / "few", 1_250), run(TRAIN, tmp_path / "many", n)
    assert (few["images"], many["images"]) == (1_250, n)
    assert many["peak"] - few["peak"] < allowed


@pytest.mark.system
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the bytes in use are read from Linux' /proc"
)
def test_a_training_after_the_other_takes_hardly_more_memory(tmp_path):
    """Two hundred are allowed 100 MB, twenty 10 MB; the first dozens fill what is kept for the rest."""
    megabytes = run(SOAK, tmp_path, 40)
    assert megabytes[39] - megabytes[19] < 10
