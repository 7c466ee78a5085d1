"""Images of the user's own scored by a finished run, as a stream."""

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pneumo_keras.arrays import Features, ImageBatch, Scores
from pneumo_keras.data.decoding import DecodedImage
from pneumo_keras.data.images import Preparation
from pneumo_keras.engines.runner import Runner
from pneumo_keras.evaluation.prediction import NOT_SCORED, ScoredImage, to_warning
from pneumo_keras.evaluation.prevalence import PrevalenceShift
from pneumo_keras.features.extract import CHUNK
from pneumo_keras.features.ood import OodDetector, load_ood_detector
from pneumo_keras.model.classifier import Classifier
from pneumo_keras.recipes.network import build_frozen_runner
from pneumo_keras.recipes.saved_classifier import load_evaluated_classifier
from pneumo_keras.runs.finished import load_run
from pneumo_keras.runs.folder import OOD_DETECTOR, RunFolder
from pneumo_keras.runtime.prefetch import Prefetch

AT_ONCE = 8 * CHUNK  # files, at most, that are held for the sake of a batch of images


@dataclass(frozen=True)
class Scorer:
    """A finished run that scores images.

    Attributes:
        classifier: Of the run.
        runner: The frozen network on its engine.
        OOD detector: Of the run.
        threshold: Of its operating point.
        preparation: Of the images that it takes.
        shift: To another prevalence, which changes scores and threshold and no prediction.
        chunk: Images that pass the network together.
    """

    classifier: Classifier
    runner: Runner
    ood_detector: OodDetector
    threshold: float
    preparation: Preparation
    shift: PrevalenceShift | None
    chunk: int

    @property
    def data_size(self) -> int:
        """Height and width of the images that it takes, in pixels."""
        return self.preparation.size

    def score(self, images: Iterable[DecodedImage]) -> Generator[ScoredImage, None, None]:
        """Scores images in their order; only a few are held."""
        packets: deque[list[DecodedImage]] = deque()
        running: Any = self.runner(Prefetch(self._prepare(images, packets)))
        with contextlib.closing(running) as features:  # or the other thread would go on after an error here
            for plain in features:
                mirrored = next(features) if self.classifier.flip_average else None
                yield from self._evaluate(packets.popleft(), plain, mirrored)

    def refuse(self, image: DecodedImage) -> ScoredImage:
        """What is said of a file without an image."""
        return ScoredImage(image.path, None, self.threshold, f"{NOT_SCORED}{image.reason}")

    def _prepare(
        self, images: Iterable[DecodedImage], packets: "deque[list[DecodedImage]]"
    ) -> Iterator[ImageBatch]:
        """Batches of one shape for the network; what they hold goes to `packets` before."""
        frozen = self.classifier.frozen
        for packet in _pack(images, self.chunk):
            packets.append(packet)
            batch = np.zeros((self.chunk, self.data_size, self.data_size, 1), np.float32)
            arrays = [image.image for image in packet if image.image is not None]
            batch[: len(arrays), ..., 0] = arrays or 0
            scaled = np.asarray(frozen.scale.predict_on_batch(frozen.resize.predict_on_batch(batch)))
            yield scaled
            if self.classifier.flip_average:
                yield np.ascontiguousarray(scaled[:, :, ::-1])

    def _evaluate(
        self, packet: list[DecodedImage], plain: Features, mirrored: Features | None
    ) -> Iterator[ScoredImage]:
        scores, distances = self._to_scores(plain, mirrored), self.ood_detector.measure(plain)
        evaluated = zip(scores.tolist(), distances.tolist(), strict=True)
        for image in packet:
            if image.image is None:
                yield self.refuse(image)
            else:
                score, distance = next(evaluated)
                warnings = image.note, to_warning(distance, image.shape, self.data_size)
                yield ScoredImage(image.path, score, self.threshold, "; ".join(filter(None, warnings)))

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
        chunk: Images that pass the network together: one where somebody waits for each.

    Raises:
        RunError: There is no finished run, or it is damaged.
    """
    run = load_run(folder)
    classifier = load_evaluated_classifier(folder, run)
    ood_detector = load_ood_detector(
        folder.verify(OOD_DETECTOR), width=classifier.frozen.backbone.output_shape[-1]
    )
    shift, point = run.state_prevalence(prevalence)
    return Scorer(
        classifier=classifier,
        runner=build_frozen_runner(run.config, classifier.frozen),
        ood_detector=ood_detector,
        threshold=point.threshold,
        preparation=run.preparation,
        shift=shift,
        chunk=chunk,
    )


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
