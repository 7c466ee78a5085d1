"""A run evaluated on other labelled images than those that it was made with."""

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_keras.config import Config, change_config, find_cache, format_config, resolve_paths
from pneumo_keras.data.image_preparation import JPEG_LENGTH, JPEG_QUALITY, ResizedImages, measure_sample
from pneumo_keras.data.overlap import load_hashes
from pneumo_keras.data.sources import DataCard
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.report_card import Evaluation
from pneumo_keras.recipes.evaluate import Task, Tell, evaluate_images, write_evaluation
from pneumo_keras.recipes.images import Split, describe_split, open_data, open_evaluated
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.run import Run
from pneumo_keras.storage.printable import to_amount

log = logging.getLogger("pneumo_keras")

MOST = 0.5  # of the images evaluated: with more that were seen they are the run's own, not others
UNSAFE = r"[^\w.-]+"  # in the name of a folder
LONGEST = 60  # characters of such a name: four bytes each, and a folder may have 255


@dataclass(frozen=True)
class OtherImages:
    """Images as a user names them.

    Attributes:
        path: An npz file, a folder by class, or a CSV.
        positive: Name of the class that is pneumonia, if not that of the run's settings.
        name: Of the folder for the evaluation; that of the file or folder if nothing is said.
    """

    path: Path
    positive: str | None = None
    name: str | None = None


def evaluate_other_images(
    run: Run,
    other: OtherImages,
    split_name: str,
    prevalence: float | None = None,
    *,
    perturb: bool = False,
    tell: Tell = lambda *_: None,
) -> tuple[RunFolder, Evaluation]:
    """Scores other images with the saved model and writes all that an evaluation writes.

    Operating point and calibration are the run's own: nothing is learnt from the images that are evaluated.
    All of those that come without splits are `test`. See `evaluate.evaluate_run` for the options.

    Returns:
        The folder within that of the run where the evaluation is, and the evaluation.

    Raises:
        RunError: The run was trained on these images, or that folder holds an evaluation on others.
    """
    settings = change_config(
        run.config,
        {
            "data.source": "pneumonia_mnist" if other.path.suffix == ".npz" else "folder",
            "data.path": str(other.path),
            "data.positive": other.positive or run.config.data.positive,
        },
    )
    paths = {key: path for key, path in run.environment["paths"].items() if key != "data.path"}
    config = resolve_paths(settings, paths)
    target = run.folder.to_evaluation(choose_name(other))
    data = open_data(config, run.preparation)
    split = open_evaluated(data, split_name)
    seen = _count_seen(run, config, split, is_whole=data.open_whole is not None)
    notices = [_describe_preparation(run, config, split), _describe_seen(seen, split), data.card.notice]
    card = replace(data.card, notice=" ".join(filter(None, notices)))
    about = _describe_images(target, config, card, split)
    task = Task(
        name=f"{run.name} on {target.path.name}",
        # The images of the training have no place beside these in a report.
        run=replace(run, config=settings, environment={**run.environment, "images": {}}),
        config=config,
        card=_describe_limits(card, run),
        split=split,
        of_others=True,
    )
    contents = evaluate_images(task, prevalence, perturb=perturb)
    tell(target, contents.evaluation)
    target.write_json("environment.json", about)
    target.write_text("config.toml", format_config(settings))
    write_evaluation(target, task, contents)
    return target, contents.evaluation


def choose_name(other: OtherImages) -> str:
    """A name for the images that every system takes for a folder; RunError where the user's is none."""
    if other.name is not None:
        if re.search(UNSAFE, other.name) or not other.name.strip(".") or len(other.name) > LONGEST:
            raise RunError(
                f"--name must be of 60 letters, digits, '_', '-' and '.' at most. Received: {other.name}"
            )
        return other.name
    path = other.path.resolve()
    return re.sub(UNSAFE, "-", path.name if path.is_dir() else path.stem)[:LONGEST].strip(".-") or "images"


def _count_seen(run: Run, config: Config, split: Split, *, is_whole: bool) -> int:
    """How many of these images the run learnt from, wherever they lay then; RunError where it is the most.

    Args:
        run: With the fingerprints of its own images.
        config: With the place of the images.
        split: The images.
        is_whole: Whether these are all images that lie there.
    """
    rule = f"--data must name images that the run was not trained on. Received: {config.data.path}"
    own, fingerprint = run.environment["images"].values(), split.images.fingerprint()
    same_place = str(config.data.path) == run.environment["paths"].get("data.path")
    if any(images["sha256"] == fingerprint for images in own) or (is_whole and same_place):
        raise RunError(f"{rule}. Leave it out to evaluate the run on its own.")
    seen, n = int(np.isin(load_hashes(split.images, find_cache()), run.seen_images).sum()), len(split.images)
    if seen > n * MOST:
        raise RunError(
            f"{rule}, with {seen:,} of {to_amount(n, 'image')} among its training and validation "
            "images. Take "
            "those away."
        )
    return seen


def _describe_seen(seen: int, split: Split) -> str:
    if not seen:
        return ""
    verb = "is" if seen == 1 else "are"
    return _warn(
        split,
        f"{seen:,} of these {len(split.images):,} images {verb} among the training and validation images of "
        "the run, by their pixels: the figures are flattered by that.",
    )


def _describe_preparation(run: Run, config: Config, split: Split) -> str:
    """Of images that were larger, or have the training images' size but were saved otherwise."""
    if config.data.source != "pneumonia_mnist":  # a folder is prepared as the run's images were
        return ""
    if isinstance(split.images, ResizedImages):
        pixels = split.images.images.shape[0]
        return f"Images of {pixels} px, prepared as the training images were: {run.preparation.describe()}."
    quality = run.preparation.jpeg_quality
    if (measure_sample(split.images) > JPEG_LENGTH) == (quality is not None):
        return ""
    trained = f"were saved as JPEG of quality {quality}" if quality else "were not saved as JPEG"
    these = f"were, of quality {JPEG_QUALITY}" if not quality else "were not"
    return _warn(split, f"The images of the training {trained}, these {these}: their scores scatter by that.")


def _warn(split: Split, notice: str) -> str:
    log.warning("%s: %s", split.title, notice)
    return notice


def _describe_images(target: RunFolder, config: Config, card: DataCard, split: Split) -> dict[str, Any]:
    """What the evaluation is made with; splits that were evaluated before stay in it."""
    path, found = str(config.data.path), describe_split(split)
    about = target.load_document(dict, "environment.json") if target.holds("environment.json") else {}
    known = about.get("images", {})
    # A split that is new there is known by where it lies alone.
    same = known[split.name] == found if split.name in known else about.get("paths") == {"data.path": path}
    if about and not same:
        raise RunError(
            f"{target.path} holds an evaluation on other images of that name. Give these another one with "
            "--name, or delete that folder."
        )
    return {
        **describe_environment(),
        "data": {"title": card.title, "notice": card.notice, "files": dict(card.files)},
        "images": {**known, split.name: found},
        "paths": {"data.path": path},
    }


def _describe_limits(card: DataCard, run: Run) -> DataCard:
    """The card of images that the run does not know: what not to conclude is another matter there."""
    trained = run.environment["data"]["title"]
    return replace(
        card,
        limits=(
            f"It was trained on {trained}, and knows images like those. The images evaluated here are "
            "others.",
            "Operating point and calibration were chosen on validation images of the training: among other "
            "images the same score may stand for another probability.",
        ),
        notice=f"Evaluated on other images than those of the training ({trained}). {card.notice}".strip(),
    )
