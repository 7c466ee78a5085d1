"""Files of the user's own scored by a finished run."""

import itertools
import logging
from collections.abc import Iterable, Iterator

from pneumo_keras.data.decoding import Decoders
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.prediction import ScoredFilm
from pneumo_keras.recipes.scoring import Scorer

log = logging.getLogger("pneumo_keras")

TOLERANCE = 1e-3  # of a score between machines and engines


def predict_files(
    scorer: Scorer,
    paths: Iterable[str],
    *,
    workers: int | None = None,
    last: tuple[str, float] | None = None,
) -> Iterator[ScoredFilm]:
    """Scores files in their order. A file without a film has its reason; none stops the others.

    Args:
        scorer: Of a finished run.
        paths: Of the files, drawn as they are needed.
        workers: Processes that decode; one a core if not given.
        last: A file that was scored before with its score, where an earlier call is gone on with.

    Raises:
        RunError: That file has another score now: it is another run, or another file.
    """
    log.info("Called pneumonia above %.4g. A research tool, not a medical device", scorer.threshold)
    with Decoders(scorer.film_size, workers=workers) as decoders:
        films = scorer.score(decoders.decode(itertools.chain([last[0]] if last else [], paths)))
        if last:
            _check_last(next(films), last[1])
        yield from films


def _check_last(film: ScoredFilm, before: float) -> None:
    if film.probability is None or abs(film.probability - before) > TOLERANCE:
        found = film.warning if film.probability is None else f"{film.probability:.6f}"
        raise RunError(
            "To go on with --resume, run and films must be the same as before. Received: "
            f"{film.path!r} had the score {before:.6f}, and now {found}"
        )
