"""Films of the user's own scored by a finished run, as a stream."""

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pneumo_keras.arrays import Features, ImageBatch, Scores
from pneumo_keras.data.decoding import DecodedFilm
from pneumo_keras.data.films import Preparation
from pneumo_keras.engines.runner import Runner
from pneumo_keras.evaluation.prediction import NOT_SCORED, ScoredFilm, to_warning
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.features.extract import CHUNK
from pneumo_keras.features.guard import Guard, load_guard
from pneumo_keras.model.classifier import Classifier
from pneumo_keras.prefetch import Prefetch
from pneumo_keras.recipes.network import build_frozen_runner
from pneumo_keras.recipes.saved_classifier import load_judged_classifier
from pneumo_keras.runs.finished import load_run
from pneumo_keras.runs.folder import GUARD, RunFolder

AT_ONCE = 8 * CHUNK  # files, at most, that are held for the sake of a batch of films


@dataclass(frozen=True)
class Scorer:
    """A finished run that scores films.

    Attributes:
        classifier: Of the run.
        runner: The frozen network on its engine.
        guard: Of the run.
        threshold: Of its operating point.
        preparation: Of the images that it takes.
        shift: To another prevalence, which changes scores and threshold and no verdict.
        chunk: Films that pass the network together.
    """

    classifier: Classifier
    runner: Runner
    guard: Guard
    threshold: float
    preparation: Preparation
    shift: PrevalenceShift | None
    chunk: int

    @property
    def film_size(self) -> int:
        """Height and width of the images that it takes, in pixels."""
        return self.preparation.size

    def score(self, films: Iterable[DecodedFilm]) -> Generator[ScoredFilm, None, None]:
        """Scores films in their order; only a few are held."""
        packets: deque[list[DecodedFilm]] = deque()
        running: Any = self.runner(Prefetch(self._prepare(films, packets)))
        with contextlib.closing(running) as features:  # or the other thread would go on after an error here
            for plain in features:
                mirrored = next(features) if self.classifier.flip_average else None
                yield from self._judge(packets.popleft(), plain, mirrored)

    def refuse(self, film: DecodedFilm) -> ScoredFilm:
        """What is said of a file without a film."""
        return ScoredFilm(film.path, None, self.threshold, f"{NOT_SCORED}{film.reason}")

    def _prepare(
        self, films: Iterable[DecodedFilm], packets: "deque[list[DecodedFilm]]"
    ) -> Iterator[ImageBatch]:
        """Batches of one shape for the network; what they hold goes to `packets` before."""
        frozen = self.classifier.frozen
        for packet in _pack(films, self.chunk):
            packets.append(packet)
            batch = np.zeros((self.chunk, self.film_size, self.film_size, 1), np.float32)
            images = [film.image for film in packet if film.image is not None]
            batch[: len(images), ..., 0] = images or 0
            scaled = np.asarray(frozen.scale.predict_on_batch(frozen.resize.predict_on_batch(batch)))
            yield scaled
            if self.classifier.flip_average:
                yield np.ascontiguousarray(scaled[:, :, ::-1])

    def _judge(
        self, packet: list[DecodedFilm], plain: Features, mirrored: Features | None
    ) -> Iterator[ScoredFilm]:
        scores, distances = self._to_scores(plain, mirrored), self.guard.measure(plain)
        judged = zip(scores.tolist(), distances.tolist(), strict=True)
        for film in packet:
            if film.image is None:
                yield self.refuse(film)
            else:
                score, distance = next(judged)
                warnings = film.note, to_warning(distance, film.shape, self.film_size)
                yield ScoredFilm(film.path, score, self.threshold, "; ".join(filter(None, warnings)))

    def _to_scores(self, plain: Features, mirrored: Features | None) -> Scores:
        views = [plain] if mirrored is None else [plain, mirrored]
        log_odds = np.mean([self.classifier.head.predict_on_batch(view) for view in views], axis=0)
        decided: Any = self.classifier.decision.predict_on_batch(log_odds)
        scores = np.asarray(decided)[:, 0].astype(np.float64)
        return self.shift.correct_scores(scores) if self.shift else scores


def build_scorer(folder: RunFolder, *, prevalence: float | None = None, chunk: int = CHUNK) -> Scorer:
    """Reads a finished run and makes its network ready.

    Args:
        folder: Of the run.
        prevalence: Share of pneumonia where the scores are to be used, in (0, 1).
        chunk: Films that pass the network together: one where somebody waits for each.

    Raises:
        RunError: There is no finished run, or it is damaged.
    """
    run = load_run(folder)
    classifier = load_judged_classifier(folder, run)
    guard = load_guard(folder.verify(GUARD), width=classifier.frozen.backbone.output_shape[-1])
    shift, point = run.state_prevalence(prevalence)
    return Scorer(
        classifier=classifier,
        runner=build_frozen_runner(run.config, classifier.frozen),
        guard=guard,
        threshold=point.threshold,
        preparation=run.preparation,
        shift=shift,
        chunk=chunk,
    )


def _pack(films: Iterable[DecodedFilm], chunk: int) -> Iterator[list[DecodedFilm]]:
    """Files in packets with as many films as pass the network together, or fewer among many broken ones."""
    packet: list[DecodedFilm] = []
    readable = 0
    for film in films:
        packet.append(film)
        readable += film.image is not None
        if readable == chunk or len(packet) == AT_ONCE:
            yield packet
            packet, readable = [], 0
    if packet:
        yield packet
