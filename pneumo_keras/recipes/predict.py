"""Files of the user's own scored by a finished run."""

import contextlib
import logging
from collections.abc import Iterable, Iterator

from pneumo_keras.data.decoding import decode_films
from pneumo_keras.evaluation.prediction import ScoredFilm
from pneumo_keras.recipes.scoring import Scorer

log = logging.getLogger("pneumo_keras")


def predict_files(scorer: Scorer, paths: Iterable[str], *, workers: int | None) -> Iterator[ScoredFilm]:
    """Scores files in their order. A file without a film has its reason; none stops the others.

    Args:
        scorer: Of a finished run.
        paths: Of the files, drawn as they are needed.
        workers: Processes that decode; one a core if not given.
    """
    log.info(
        "Called pneumonia above %.4g. A research tool, not a medical device",
        scorer.threshold,
    )
    # Closed at once when the caller stops: the processes end with it.
    with contextlib.closing(decode_films(paths, size=scorer.film_size, workers=workers)) as films:
        yield from scorer.score(films)
