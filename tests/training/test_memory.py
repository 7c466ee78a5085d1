"""A training on many films takes hardly more memory than one on few."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = """
import json, resource, sys
from pathlib import Path
from pneumo_keras.backend import start_backend
folder, n = Path(sys.argv[1]), int(sys.argv[2])
start_backend(folder / "cache")
from pneumo_keras.recipes import network, train
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.config import load_config
from pneumo_keras.features.store import list_entries
from tests.toy import build_toy_backbone
network.build_backbone = build_toy_backbone
overrides = [f"data.phantom_films=[{n}, 100, 100]", "model.taps=['mixed10']", "training.epochs=1"]
overrides.append("training.batch_size=256")
train.train_run(load_config("demo", overrides), RunFolder(folder / "run"))
(films,) = (entry.films for entry in list_entries(folder / "cache" / "features") if entry.n == n)
print(json.dumps({"films": films, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def train(folder, n):
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(folder), str(n)],
        env={**os.environ, "PNEUMO_KERAS_CACHE": str(folder / "cache"), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_twenty_times_the_films_take_less_than_300_mb_more(tmp_path):
    few, many = train(tmp_path / "few", 5_000), train(tmp_path / "many", 100_000)
    assert (few["films"], many["films"]) == (5_000, 100_000)
    assert many["peak"] - few["peak"] < 300
