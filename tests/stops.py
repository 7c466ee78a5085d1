"""A fit that somebody asks to stop."""

import itertools

from pneumo_keras.training import checkpoint
from pneumo_keras.training.checkpoint import CheckpointCallback


def stop_after(monkeypatch, saves, number):
    """Lets a signal come while the fit is busy, once it has had so many chances to save its state."""
    save_if_due, chances = CheckpointCallback._save_if_due, itertools.count()

    def stop(self):
        if next(chances) == saves:
            monkeypatch.setattr(checkpoint, "find_signal", lambda: number)
        save_if_due(self)

    monkeypatch.setattr(CheckpointCallback, "_save_if_due", stop)
