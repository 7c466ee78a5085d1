"""A user's files scored by a finished run, as a stream: on this machine, or on those of a cluster.

On a cluster they pass two stages: decoded by a core each, scored by an accelerator or a machine each, which
reads the run once. Nothing of Keras is imported with this module.
"""

import contextlib
import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from pneumo_keras.arrays import Features, ImageBatch, pad
from pneumo_keras.cluster.connection import describe_cluster
from pneumo_keras.cluster.ordered_map import Stage, map_in_order
from pneumo_keras.data.decoding import DecodedImage, Decoders
from pneumo_keras.data.images import Preparation
from pneumo_keras.engines.runner import Runner
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.features.extract import FrozenNetwork
from pneumo_keras.features.store import CHUNK
from pneumo_keras.model.inference import list_views
from pneumo_keras.recipes.extraction import open_network
from pneumo_keras.runs.run import NOT_SCORED, Run, ScoredImage, load_run, to_warning
from pneumo_keras.runtime.prefetch import Prefetch

log = logging.getLogger("pneumo_keras")

AT_ONCE = 8 * CHUNK  # files in memory at most, until enough of them are readable for a batch
THRESHOLD_MESSAGE = "Pneumonia is predicted above %.4g. A research tool, not a medical device"
TOLERANCE = 1e-3  # of a score between machines and engines

# Images of a block: what goes through a stage of a cluster at once, and is done again when an actor dies. Ray
# Data keeps 12 KB on each block where the results are asked for.
SMALLEST_BLOCK, LARGEST_BLOCK, BLOCKS = 32, 256, 1000


@dataclass(frozen=True)
class Scorer:
    """A run that scores images, at its operating point; another prevalence changes no prediction.

    `chunk` images pass the network together; where the engine has a program for that number alone, `padded`
    fills up a chunk that has fewer.
    """

    run: Run
    runner: Runner
    threshold: float
    shift: PrevalenceShift | None
    chunk: int
    padded: bool

    def score(self, images: Iterable[DecodedImage]) -> Generator[ScoredImage, None, None]:
        """Scores images in their order; only a few are in memory."""
        for packet, views in self.extract(images):
            yield from self._evaluate(packet, views)

    def extract(
        self, images: Iterable[DecodedImage]
    ) -> Generator[tuple[list[DecodedImage], list[Features]], None, None]:
        """Images in packets with the features (n, d) of each of their views; the first view is the image.

        The first rows are those of the readable images; the others mean nothing.
        """
        packets: deque[list[DecodedImage]] = deque()
        running: Any = self.runner(Prefetch(self._prepare(images, packets)))
        # Closed, or the other thread would go on after an error here. Matrix products on several threads
        # would wait for the cores that the network uses.
        with threadpool_limits(1), contextlib.closing(running) as features:
            for plain in features:
                views = [plain, next(features)] if self.run.config.model.flip_average else [plain]
                yield packets.popleft(), views

    def to_unscored(self, image: DecodedImage) -> ScoredImage:
        """The row of a file without an image."""
        return ScoredImage(image.path, None, self.threshold, f"{NOT_SCORED}{image.reason}")

    def _prepare(
        self, images: Iterable[DecodedImage], packets: "deque[list[DecodedImage]]"
    ) -> Iterator[ImageBatch]:
        """Batches for the network, a packet's in all its views; its images go to `packets` before."""
        model, size = self.run.config.model, self.run.preparation.size
        for packet in _pack(images, self.chunk):
            packets.append(packet)
            arrays = [image.image for image in packet if image.image is not None]
            batch = np.stack(arrays or [np.zeros((size, size), np.uint8)])
            batch = pad(batch, self.chunk) if self.padded else batch
            yield from list_views(batch, model.image_size, flip_average=model.flip_average)

    def _evaluate(self, packet: list[DecodedImage], views: list[Features]) -> Iterator[ScoredImage]:
        log_odds = np.mean([self.run.head.compute_log_odds(view) for view in views], axis=(0, 2))
        scores = self.run.calibration.to_scores(log_odds.astype(np.float64))
        scores = self.shift.correct_scores(scores) if self.shift else scores
        distances = self.run.ood_detector.measure(views[0])
        evaluated = zip(scores.tolist(), distances.tolist(), strict=True)
        for image in packet:
            if image.image is None:
                yield self.to_unscored(image)
            else:
                score, distance = next(evaluated)
                warnings = image.note, to_warning(distance, image.shape, self.run.preparation.size)
                yield ScoredImage(
                    image.path, score, self.threshold, "; ".join(filter(None, warnings)), distance
                )


def build_scorer(
    run: Run, network: FrozenNetwork | None = None, *, prevalence: float | None = None, chunk: int = CHUNK
) -> Scorer:
    """Starts the network of a run on the engine of its settings; Keras starts only where that needs it.

    Scores are corrected to a prevalence in (0, 1), if given.
    """
    shift, point = run.to_prevalence(prevalence)
    _ = run.head, run.ood_detector  # or damaged ones would be found after the first images
    network = network or open_network(run, run.config.compute)
    runner = network.build_runner(list(network.layers))
    padded = network.about["engine"] != "openvino"
    return Scorer(run, runner, point.threshold, shift, chunk, padded)


def predict_files(
    scorer: Scorer, decoders: Decoders, paths: Iterable[str], last: tuple[str, float] | None = None
) -> Generator[ScoredImage, None, None]:
    """Scores files in their order; a file without an image gets its reason, and the others are scored.

    For `last` see `score_rest`.
    """
    log.info(THRESHOLD_MESSAGE, scorer.threshold)
    return score_rest(lambda files: scorer.score(decoders.decode(files)), paths, last)


def predict_on_cluster(
    run: Run,
    paths: Iterable[str],
    *,
    prevalence: float | None = None,
    workers: int | None = None,
    last: tuple[str, float] | None = None,
) -> Generator[ScoredImage, None, None]:
    """The same on the open cluster, whose machines must all be able to read the run and the files.

    All files are listed before the first is scored.

    Raises:
        RunError: See `score_rest`.
        ClusterError: Ray gives up.
    """
    log.info(THRESHOLD_MESSAGE, run.to_prevalence(prevalence)[1].threshold)
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
    """In an actor: paths -> images."""
    return Decoders(preparation, workers=1).decode


def build_scoring(
    run: Path, prevalence: float | None
) -> Callable[[Iterator[DecodedImage]], Iterator[ScoredImage]]:
    """In an actor: images -> scores.

    Raises:
        RunError: The run cannot be read from there.
        BackendError: Keras cannot start there.
    """
    return build_scorer(load_run(run), prevalence=prevalence).score


def score_rest(
    score: Callable[[Iterable[str]], Generator[ScoredImage, None, None]],
    paths: Iterable[str],
    last: tuple[str, float] | None,
) -> Generator[ScoredImage, None, None]:
    """Scores files, and before them once more the last one that an earlier call scored, if there is one.

    Raises:
        RunError: That file has another score now: it is another run, or another file.
    """
    with contextlib.closing(score(itertools.chain([last[0]] if last else [], paths))) as images:
        if last:
            now = next(images).probability
            if now is None or abs(now - last[1]) > TOLERANCE:
                raise RunError(
                    "To continue with --resume, run and images must be the same as before. Received: "
                    f"{last[0]!r} had the score {last[1]:.6f}, and now "
                    f"{'none' if now is None else f'{now:.6f}'}"
                )
        yield from images


def _pack(images: Iterable[DecodedImage], chunk: int) -> Iterator[list[DecodedImage]]:
    """Files in packets with as many images as pass the network together, or fewer among many broken ones."""
    packet: list[DecodedImage] = []
    readable = 0
    for image in images:
        packet.append(image)
        readable += image.image is not None
        if readable == chunk or len(packet) == AT_ONCE:
            yield packet
            packet, readable = [], 0
    if packet:
        yield packet
