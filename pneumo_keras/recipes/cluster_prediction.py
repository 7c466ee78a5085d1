"""Files of the user's own scored by a finished run on the machines of a cluster.

They pass two stages: decoded by a core each, scored by an accelerator or a machine each, which has read the
run once. Nothing of Keras is imported with this module.
"""

import functools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

from pneumo_keras.cluster.connection import describe_cluster
from pneumo_keras.cluster.ordered_map import Stage, map_in_order
from pneumo_keras.config import find_cache
from pneumo_keras.data.decoding import DecodedImage, Decoders
from pneumo_keras.data.images import Preparation
from pneumo_keras.recipes.predict import build_scorer, score_rest, tell_threshold
from pneumo_keras.runs.run import Run, ScoredImage, load_run
from pneumo_keras.runtime.backend import start_backend

log = logging.getLogger("pneumo_keras")

# Images of a block: what goes through a stage at once, and is done again when an actor dies. Ray Data keeps
# 12 KB on each block where the results are asked for.
SMALLEST_BLOCK, LARGEST_BLOCK, BLOCKS = 32, 256, 1000


def predict_on_cluster(
    run: Run,
    paths: Iterable[str],
    *,
    prevalence: float | None = None,
    workers: int | None = None,
    last: tuple[str, float] | None = None,
) -> Generator[ScoredImage, None, None]:
    """Scores files in their order on the open cluster; see `predict.predict_files`.

    Args:
        run: Whose folder every machine can read.
        paths: Of the files, which every machine can read. All are listed before the first is scored.
        prevalence: Where the scores are to be used, in (0, 1).
        workers: Processes that decode, on all machines; one a core if not given.
        last: A file that was scored before with its score, where an earlier call is gone on with.

    Raises:
        RunError: That file has another score now: it is another run, or another file.
        ClusterError: Ray gives up.
    """
    _, point = run.to_prevalence(prevalence)
    tell_threshold(point.threshold)
    log.info("Decoded and scored on %s", describe_cluster())
    stages = [
        Stage(functools.partial(build_decoding, run.preparation), most=workers),
        Stage(functools.partial(build_scoring, run.folder.path, prevalence), whole=True),
    ]

    def score(files: Iterable[str]) -> Generator[ScoredImage, None, None]:
        listed = list(files)
        block = min(max(len(listed) // BLOCKS, SMALLEST_BLOCK), LARGEST_BLOCK)
        yield from map_in_order(listed, stages, block=block)

    yield from score_rest(score, paths, last)


def build_decoding(preparation: Preparation) -> Callable[[Iterator[str]], Iterator[DecodedImage]]:
    """In an actor: paths -> images.

    Args:
        preparation: Of the images that the classifier was trained on.
    """
    return Decoders(preparation, workers=1).decode


def build_scoring(
    path: Path, prevalence: float | None
) -> Callable[[Iterator[DecodedImage]], Iterator[ScoredImage]]:
    """In an actor: images -> what the run says of each.

    Raises:
        RunError: The run cannot be read from there.
        BackendError: Keras cannot start there.
    """
    start_backend(find_cache())
    return build_scorer(load_run(path), prevalence=prevalence).score
