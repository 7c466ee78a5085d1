"""A fit on the toy network, by one process or by one of several: prints what came out as JSON.

python -m tests.distributed.toy_fit CACHE RANK PROCESSES PORT [--checkpoint FILE] [--at READ --signal NUMBER]
"""

import argparse
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from pneumo_keras.distributed import process_group
from pneumo_keras.runtime.backend import start_backend
from pneumo_keras.runtime.signals import Stopped, raise_on_signals

BATCH, EPOCHS, SIZE = 8, 4, 16


class Rows:
    """Images that send this process a signal when they are read for the nth time."""

    def __init__(self, images, at, signal):
        self.images, self.left, self.signal = images, at, signal

    def __getitem__(self, rows):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.signal)
        return self.images[rows]


def fit_toy(group=None, checkpoint=None, at=0, signal=15):
    """Epochs, weights and a random number of the dropout's after a fit; 21 and 10 images in batches of 8."""
    from pneumo_keras.distributed.data_parallel import find_devices
    from pneumo_keras.model.classifier import build_frozen_part, build_online_model
    from pneumo_keras.model.head import build_head
    from pneumo_keras.training.batches import Batches
    from pneumo_keras.training.checkpoint import Checkpoint
    from pneumo_keras.training.fit import FitConfig, fit
    from tests.toy import build_toy_backbone

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (31, SIZE, SIZE, 1), dtype=np.uint8).astype(np.float32)
    labels = (random.uniform(size=31) < 0.7).astype(np.int64)
    images[labels == 1, :8] /= 2
    head = build_head(6, moments=None, hidden_units=4, dropout=0.5, outputs=1, seeds=[1, 2])
    model = build_online_model(build_frozen_part(build_toy_backbone(), data_size=SIZE), head)
    devices = find_devices(group)
    local_rows = devices.choose_batch_rows(BATCH) if devices else None
    first = group is None or group.rank == 0
    with devices.scope() if devices else nullcontext():
        history = fit(
            model,
            Batches(
                [Rows(images[:21], at, signal) if at else images[:21]],
                labels[:21],
                batch_size=BATCH,
                seed=1,
                local_rows=local_rows,
            ),
            Batches([images[21:]], labels[21:], batch_size=BATCH, seed=None, local_rows=local_rows),
            FitConfig("adamw", "plateau", EPOCHS, 0.2, 1, [0.1, 0.3], [1e-3, 0]),
            class_weights={0: 2.0, 1: 0.5},
            head=head,
            checkpoint=Checkpoint(Path(checkpoint), {}) if checkpoint and first else None,
            devices=devices,
        )
    weights = [np.asarray(variable.value).tolist() for variable in head.variables]
    # What is made afterwards must know nothing of other devices.
    scores = model.predict_on_batch(images).tolist()
    return {"epochs": history.epochs, "kept": history.kept_epochs, "weights": weights, "scores": scores}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    for name in ("rank", "processes", "port"):
        parser.add_argument(name, type=int)
    parser.add_argument("--checkpoint")
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--signal", type=int, default=15)
    parser.add_argument("--lost-seconds", type=int, default=process_group.LOST_SECONDS)
    asked = parser.parse_args()
    process_group.LOST_SECONDS, status = asked.lost_seconds, 0
    try:
        with raise_on_signals():
            start_backend(asked.cache)
            if asked.processes == 1:
                result = fit_toy()
            else:
                group = process_group.initialize(asked.processes, f"127.0.0.1:{asked.port}", asked.rank)
                result = fit_alike(group, asked)
            sys.stderr.write(json.dumps(result) + "\n")
    except Stopped as stopped:
        status = 128 + stopped.number
    sys.stderr.flush()
    os._exit(status)


def fit_alike(group, asked):
    with group.explain_loss():
        assert group.broadcast("moments", b"abc" if group.rank == 0 else b"") == b"abc"
        assert group.check_same("task", {"images": "a"})
        result = fit_toy(group, asked.checkpoint, asked.at, asked.signal)
        group.check_same("weights", {"weights": json.dumps(result["weights"])})
        group.shutdown()
    return result


if __name__ == "__main__":
    main()
