"""Images explained by a finished run: which parts of an image its log odds come from."""

import contextlib
import functools
import itertools
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pneumo_keras.arrays import Scores
from pneumo_keras.data.decoding import DecodedImage, decode_images
from pneumo_keras.data.images import Preparation
from pneumo_keras.evaluation.metrics import find_mistakes
from pneumo_keras.features.extract import FrozenNetwork
from pneumo_keras.model.attribution import Explainer, Explanation, build_explainer
from pneumo_keras.recipes.extraction import open_network
from pneumo_keras.recipes.images import Split
from pneumo_keras.recipes.predict import Scorer, build_scorer
from pneumo_keras.reporting.explanations import SHOWN_EDGE, Evidence, draw_explanation
from pneumo_keras.reporting.plots import save_plot
from pneumo_keras.reporting.report import MISTAKES
from pneumo_keras.runs.run import Run, ScoredImage
from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.storage.files import (
    claim_folder,
    explain_unwritable,
    format_csv,
    replace_atomically,
    write_atomically,
)
from pneumo_keras.storage.printable import to_amount, to_printable

log = logging.getLogger("pneumo_keras")

TABLE = "explanations.csv"
STEM = 80  # characters of an image's name that its pictures keep


@dataclass(frozen=True)
class ExplainedImage:
    """An image with its score and what explains it, and the same image at a size to look at."""

    scored: ScoredImage
    explanation: Explanation
    shown: UInt8[np.ndarray, "edge edge"]


@dataclass(frozen=True)
class ImageExplainer:
    """A finished run that scores images and explains the scores."""

    scorer: Scorer
    explainer: Explainer

    @property
    def preparation(self) -> Preparation:
        """How its images must be prepared."""
        return self.scorer.run.preparation

    def explain(self, image: DecodedImage) -> ExplainedImage:
        """Scores and explains an image; ModelError where the run's head is of an unknown kind."""
        (scored,) = self.scorer.score([image])
        pixels: Any = image.image
        shown = pixels if image.shown is None else image.shown
        (explanation,) = self.explainer.explain(pixels[None])
        return ExplainedImage(scored, explanation, shown)


@dataclass(frozen=True)
class ExplainedFile:
    """The row of `predict` of a file, and the names of the files with its map, "" for none."""

    scored: ScoredImage
    picture: str = ""
    map: str = ""

    def to_row(self) -> dict[str, Any]:
        """The row of a table."""
        return {**self.scored.to_row(), "picture": self.picture, "map": self.map}


def build_image_explainer(run: Run) -> ImageExplainer:
    """Builds what scores and explains images with a finished run."""
    log.info("Comparing with %s of the run", to_amount(len(run.normal_images), "normal image"))
    network = open_network(run, run.config.compute)
    return ImageExplainer(build_scorer(run, network, chunk=1), build_run_explainer(run, network))


def build_run_explainer(run: Run, network: FrozenNetwork) -> Explainer:
    """Builds what explains prepared images with a finished run."""
    model = run.config.model
    explainer = Explainer(
        layers=list(network.layers.values()),
        compute_maps=network.build_map_runner(),
        head=run.head,
        slope=run.calibration.slope,
        intercept=run.calibration.intercept,
        flip_average=model.flip_average,
        image_size=model.image_size,
    )
    return build_explainer(explainer, run.normal_images)


def explain_files(
    explainer: ImageExplainer, paths: Iterable[str], out: Path, *, may_replace: bool = False
) -> Iterator[ExplainedFile]:
    """Explains images one by one: a picture and a map of each, and a table at the end.

    A file that cannot be read gets its reason, and the others are explained. The folder must be empty, unless
    files of the same names may be replaced.

    Raises:
        ModelError: The run's head is of an unknown kind.
        RunError: The folder is taken, another process writes to it, or it cannot be written to.
    """
    rows = []
    with (
        claim_folder(out, option="--out", new=not may_replace),
        contextlib.closing(
            decode_images(paths, preparation=explainer.preparation, shown=SHOWN_EDGE)
        ) as images,
        show_progress("Explaining", 0, "images") as progress,
    ):
        for image, stem in name_images(images):
            one = _explain_file(explainer, image, out, stem)
            rows.append({**one.to_row(), "path": to_printable(image.path)})
            yield one
            progress.advance(1)
        if rows:
            with explain_unwritable(out, option="--out"):
                write_atomically(out / TABLE, format_csv(rows))


def _explain_file(explainer: ImageExplainer, image: DecodedImage, out: Path, stem: str) -> ExplainedFile:
    """Explains an image, and writes `<stem>.png` and `<stem>.npy`."""
    if image.image is None:
        return ExplainedFile(explainer.scorer.to_unscored(image))
    one = explainer.explain(image)
    plot = draw_explanation(
        one.shown,
        one.explanation.evidence,
        base=one.explanation.base,
        scored=one.scored,
        title=to_printable(Path(image.path).name),
    )
    files = {
        f"{stem}.png": functools.partial(save_plot, plot),
        f"{stem}.npy": functools.partial(np.save, arr=one.explanation.evidence),
    }
    for name, save in files.items():
        with explain_unwritable(out / name, option="--out"), replace_atomically(out / name) as temporary:
            save(temporary)
    return ExplainedFile(one.scored, *files)


def explain_mistakes(
    run: Run, network: FrozenNetwork, split: Split, scores: Scores, threshold: float
) -> dict[int, Evidence]:
    """Maps of a run's most confident mistakes above or below a threshold, by the images' indices."""
    mistakes = np.concatenate(find_mistakes(split.images.labels, scores, threshold, limit=MISTAKES))
    if not len(mistakes):
        return {}
    explained = build_run_explainer(run, network).explain(split.images.read(mistakes))
    return {index: one.evidence for index, one in zip(mistakes.tolist(), explained, strict=True)}


def name_images(images: Iterable[DecodedImage]) -> Iterator[tuple[DecodedImage, str]]:
    """Images with stems for new files: safe in any file system, each used once."""
    taken: set[str] = set()
    for image in images:
        plain = re.sub(r"[^\w.-]+", "-", Path(image.path).stem, flags=re.ASCII).strip("-.")[:STEM] or "image"
        numbered = (f"{plain}-{number}" for number in itertools.count(2))
        stem = next(one for one in itertools.chain([plain], numbered) if one.casefold() not in taken)
        taken.add(stem.casefold())
        yield image, stem
