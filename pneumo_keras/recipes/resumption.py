"""Predictions that an earlier call began, gone on with."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable

from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.prediction import ScoredImage

TOLERANCE = 1e-3  # of a score between machines and engines


def score_rest(
    score: Callable[[Iterable[str]], Generator[ScoredImage, None, None]],
    paths: Iterable[str],
    last: tuple[str, float] | None,
) -> Generator[ScoredImage, None, None]:
    """Scores files, and before them once more the last one that an earlier call scored.

    Args:
        score: Scores files in their order, and ends what it has begun when it is closed.
        paths: Of the files that are left.
        last: A file with the score that it had, if there is one.

    Raises:
        RunError: That file has another score now: it is another run, or another file.
    """
    with contextlib.closing(score(itertools.chain([last[0]] if last else [], paths))) as images:
        if last:
            _check_last(next(images), last[1])
        yield from images


def _check_last(image: ScoredImage, before: float) -> None:
    if image.probability is None or abs(image.probability - before) > TOLERANCE:
        found = image.warning if image.probability is None else f"{image.probability:.6f}"
        raise RunError(
            "To go on with --resume, run and images must be the same as before. Received: "
            f"{image.path!r} had the score {before:.6f}, and now {found}"
        )
