"""The images that were called wrongly."""

import numpy as np
from jaxtyping import Int64

from pneumo_keras.arrays import Labels, Scores


def find_mistakes(
    labels: Labels, scores: Scores, threshold: float, *, limit: int
) -> tuple[Int64[np.ndarray, " missed"], Int64[np.ndarray, " alarms"]]:
    """Indices of missed pneumonias, lowest score first, and of false alarms, highest score first."""
    lowest_first = np.argsort(scores, kind="stable")
    highest_first = np.argsort(-scores, kind="stable")
    called = scores > threshold
    missed = lowest_first[(labels[lowest_first] == 1) & ~called[lowest_first]]
    alarms = highest_first[(labels[highest_first] == 0) & called[highest_first]]
    return missed[:limit], alarms[:limit]
