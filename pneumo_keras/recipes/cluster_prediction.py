"""Files of the user's own scored by a finished run on the machines of a cluster.

The files go in packets through two stages: decoded by a core each, scored by an accelerator or a machine
each, which has read the run once. Here are no images and no network, and nothing of Keras.
"""

import contextlib
import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from pneumo_keras.cluster.ordered_map import Stage, describe_cluster, map_in_order
from pneumo_keras.config import find_cache
from pneumo_keras.data.decoding import DecodedImage, Decoders
from pneumo_keras.data.images import Preparation
from pneumo_keras.features.store import CHUNK
from pneumo_keras.recipes.predict import build_scorer, score_rest, tell_threshold
from pneumo_keras.runs.run import Run, ScoredImage, load_run
from pneumo_keras.runtime.backend import start_backend

log = logging.getLogger("pneumo_keras")

Packet = list[Any]  # of paths, then of the images in them, then of what is said of each


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
        prevalence: Share of pneumonia where the scores are to be used, in (0, 1).
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
        with contextlib.closing(map_in_order(_pack(files), stages)) as packets:
            yield from itertools.chain.from_iterable(packets)

    yield from score_rest(score, paths, last)


def build_decoding(preparation: Preparation) -> Callable[[Iterator[Packet]], Iterator[Packet]]:
    """In an actor: packets of paths -> packets of images.

    Args:
        preparation: Of the images that the classifier was trained on.
    """
    decoders = Decoders(preparation, workers=1)
    return functools.partial(_keep_packets, decoders.decode)


def build_scoring(path: Path, prevalence: float | None) -> Callable[[Iterator[Packet]], Iterator[Packet]]:
    """In an actor: packets of images -> packets of what the run says of them.

    Raises:
        RunError: The run cannot be read from there.
        BackendError: Keras cannot start there.
    """
    start_backend(find_cache())
    scorer = build_scorer(load_run(path), prevalence=prevalence)
    return functools.partial(_keep_packets, scorer.score)


def _pack(paths: Iterable[str]) -> Iterator[list[str]]:
    drawn = iter(paths)
    while packet := list(itertools.islice(drawn, CHUNK)):
        yield packet


def _keep_packets(
    work: Callable[[Iterable[Any]], Iterator[Any]], packets: Iterable[Packet]
) -> Iterator[Packet]:
    """Does the work on what is in the packets, as one stream, and packs the results alike."""
    sizes: deque[int] = deque()

    def unpack() -> Iterator[str | DecodedImage]:
        for packet in packets:
            sizes.append(len(packet))
            yield from packet

    done: Packet = []
    for result in work(unpack()):
        done.append(result)
        if len(done) == sizes[0]:
            sizes.popleft()
            yield done
            done = []
