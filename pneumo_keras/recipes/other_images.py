"""A run evaluated on other labelled images than those that it was made with."""

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

from pneumo_keras.config import Config, change_config, format_config, resolve_paths
from pneumo_keras.data.image_preparation import JPEG_LENGTH, JPEG_QUALITY, measure_sample
from pneumo_keras.data.resized import ResizedImages
from pneumo_keras.data.sources import DataCard
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.report_card import Evaluation
from pneumo_keras.recipes.evaluate import Task, Tell, evaluate_images, keep_quiet, write_evaluation
from pneumo_keras.recipes.images import Split, choose_source, open_data, open_evaluated
from pneumo_keras.recipes.own_images import count_seen_images, describe_split
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.finished import FinishedRun, load_run
from pneumo_keras.runs.folder import RunFolder
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
        name: What they are called; the name of the file or folder if nothing is said.
    """

    path: Path
    positive: str | None = None
    name: str | None = None


def evaluate_other_images(
    folder: RunFolder,
    other: OtherImages,
    split_name: str,
    prevalence: float | None = None,
    *,
    perturb: bool = False,
    tell: Tell = keep_quiet,
) -> tuple[RunFolder, Evaluation]:
    """Scores other images with the saved model and writes all that an evaluation writes.

    Operating point and calibration are the run's own: nothing is learnt from the images that are evaluated.

    Args:
        folder: Of a finished run.
        other: The images.
        split_name: Which of them; `test` for all of those that come without splits.
        prevalence: See `evaluate.evaluate_images`.
        perturb: See `evaluate.evaluate_images`.
        tell: See `evaluate.evaluate_run`.

    Returns:
        The folder within that of the run where the evaluation is, and the evaluation.

    Raises:
        RunError: The run was trained on these images, or that folder holds an evaluation on others.
    """
    run = load_run(folder)
    settings = change_images(run.config, other)
    config = resolve_paths(settings, _list_own_paths(run))
    target = folder.to_evaluation(choose_name(other))
    data = open_data(config, run.preparation)
    split = open_evaluated(data, split_name)
    check_unseen(run, config, split, is_whole=data.open_whole is not None)
    card = describe_seen(data.card, check_few_seen(folder, config, split), len(split.images))
    if config.data.source == "pneumonia_mnist":  # others were prepared as the run's were
        card = describe_preparation(card, run, split)
    about = describe_images(target, config, card, split)
    task = Task(
        folder=folder,
        name=f"{folder.path.resolve().name} on {target.path.name}",
        # The images of the training have no place beside these in a report.
        run=replace(run, config=settings, environment={**run.environment, "images": {}}),
        config=config,
        card=describe_limits(card, run),
        split=split,
        of_others=True,
    )
    contents = evaluate_images(task, prevalence, perturb=perturb)
    tell(target, contents.evaluation)
    target.write_json("environment.json", about)
    target.write_text("config.toml", format_config(settings))
    write_evaluation(target, task, contents)
    return target, contents.evaluation


def change_images(config: Config, other: OtherImages) -> Config:
    """The settings of a run with other images."""
    return change_config(
        config,
        {
            "data.source": choose_source(other.path),
            "data.path": str(other.path),
            "data.positive": other.positive or config.data.positive,
        },
    )


def choose_name(other: OtherImages) -> str:
    """What the images are called: a name that every system takes for a folder.

    Raises:
        RunError: The user's name is none.
    """
    if other.name is not None:
        if re.search(UNSAFE, other.name) or not other.name.strip(".") or len(other.name) > LONGEST:
            raise RunError(
                f"--name must be of 60 letters, digits, '_', '-' and '.' at most. Received: {other.name}"
            )
        return other.name
    path = other.path.resolve()
    return re.sub(UNSAFE, "-", path.name if path.is_dir() else path.stem)[:LONGEST].strip(".-") or "images"


def check_unseen(run: FinishedRun, config: Config, split: Split, *, is_whole: bool) -> None:
    """Checks that the run was not trained on these images.

    Args:
        run: With the fingerprints of its own images.
        config: With the place of the images.
        split: The images.
        is_whole: Whether these are all images that lie there.

    Raises:
        RunError: They are its training or validation images, or hold these.
    """
    own = run.environment.get("images", {}).values()
    place, own_place = str(config.data.path), run.environment.get("paths", {}).get("data.path")
    fingerprint = split.images.fingerprint()
    if any(images["sha256"] == fingerprint for images in own) or (is_whole and place == own_place):
        raise RunError(
            f"--data must name images that the run was not trained on. Received: {config.data.path}. Leave it "
            "out to evaluate the run on its own."
        )


def check_few_seen(folder: RunFolder, config: Config, split: Split) -> int:
    """How many of these images the run learnt from, wherever they lay then; few, or they are no others.

    Raises:
        RunError: They are more than half.
    """
    seen, n = count_seen_images(folder, split), len(split.images)
    if seen > n * MOST:
        raise RunError(
            f"--data must name images that the run was not trained on. Received: {config.data.path}, with "
            f"{seen:,} of {to_amount(n, 'image')} among its training and validation images. Take those away."
        )
    return seen


def describe_seen(card: DataCard, seen: int, n: int) -> DataCard:
    """The card of images of which the run has seen some."""
    if not seen:
        return card
    verb = "is" if seen == 1 else "are"
    notice = (
        f"{seen:,} of these {n:,} images {verb} among the training and validation images of the run, by their "
        "pixels: the figures are flattered by that."
    )
    return _add_notice(card, notice)


def describe_preparation(card: DataCard, run: FinishedRun, split: Split) -> DataCard:
    """The card of images that were larger, or have the training images' size but were saved otherwise."""
    if isinstance(split.images, ResizedImages):
        pixels = split.images.images.shape[0]
        prepared = (
            f"Images of {pixels} px, prepared as the training images were: {run.preparation.describe()}."
        )
        return replace(card, notice=f"{prepared} {card.notice}".strip())
    quality = run.preparation.jpeg_quality
    if (measure_sample(split.images) > JPEG_LENGTH) == (quality is not None):
        return card
    trained = f"were saved as JPEG of quality {quality}" if quality else "were not saved as JPEG"
    these = f"were, of quality {JPEG_QUALITY}" if not quality else "were not"
    return _add_notice(
        card, f"The images of the training {trained}, these {these}: their scores scatter by that."
    )


def _add_notice(card: DataCard, notice: str) -> DataCard:
    log.warning("%s: %s", card.title, notice)
    return replace(card, notice=f"{notice} {card.notice}".strip())


def describe_images(target: RunFolder, config: Config, card: DataCard, split: Split) -> dict[str, object]:
    """What the evaluation is made with; the splits of the same images that were evaluated before stay in it.

    Raises:
        RunError: Those were other images.
    """
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


def describe_limits(card: DataCard, run: FinishedRun) -> DataCard:
    """The card of images that the run does not know: what not to conclude is another matter there."""
    trained = run.environment.get("data", {}).get("title", "images of which nothing is known")
    return replace(
        card,
        limits=(
            f"It was trained on {trained}, and knows images like those. The images evaluated here are others.",
            "Operating point and calibration were chosen on validation images of the training: among other "
            "images the same score may stand for another probability.",
        ),
        notice=f"Evaluated on other images than those of the training ({trained}). {card.notice}".strip(),
    )


def _list_own_paths(run: FinishedRun) -> dict[str, str]:
    """Where the files of the run lay, but for its images."""
    return {key: path for key, path in run.environment.get("paths", {}).items() if key != "data.path"}
