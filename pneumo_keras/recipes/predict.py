"""Files of the user's own scored by a finished run."""

import logging
from collections.abc import Generator, Iterable

from pneumo_keras.data.decoding import Decoders
from pneumo_keras.evaluation.prediction import ScoredImage
from pneumo_keras.recipes.resumption import score_rest
from pneumo_keras.recipes.scoring import Scorer

log = logging.getLogger("pneumo_keras")


def predict_files(
    scorer: Scorer,
    paths: Iterable[str],
    *,
    workers: int | None = None,
    last: tuple[str, float] | None = None,
) -> Generator[ScoredImage, None, None]:
    """Scores files in their order. A file without an image has its reason; none stops the others.

    Args:
        scorer: Of a finished run.
        paths: Of the files, drawn as they are needed.
        workers: Processes that decode; one a core if not given.
        last: A file that was scored before with its score, where an earlier call is gone on with.

    Raises:
        RunError: That file has another score now: it is another run, or another file.
    """
    log.info("Called pneumonia above %.4g. A research tool, not a medical device", scorer.threshold)
    with Decoders(scorer.preparation, workers=workers) as decoders:
        yield from score_rest(lambda files: scorer.score(decoders.decode(files)), paths, last)
