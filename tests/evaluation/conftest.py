"""Images drawn from two normal distributions, whose AUC is known."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

DrawImages = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def draw_images() -> DrawImages:
    def draw(
        *,
        normal: int = 234,
        pneumonia: int = 390,
        auc: float = 0.97,
        seed: int = 0,
        digits: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.array([0, 1], dtype=np.int64), [normal, pneumonia])
        distance = np.sqrt(2) * norm.ppf(auc)
        scores = expit(2 * (rng.normal(size=len(labels)) + distance * (labels - 0.5)))
        shuffled = rng.permutation(len(labels))
        scores = scores if digits is None else np.round(scores, digits)
        return labels[shuffled], scores[shuffled]

    return draw
