"""A run judged on other labelled films than those that it was made with."""

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

from pneumo_keras.config import Config, change_config, format_config, resolve_paths
from pneumo_keras.data.image_preparation import JPEG_LENGTH, JPEG_QUALITY, measure_sample
from pneumo_keras.data.resized import ResizedFilms
from pneumo_keras.data.sources import DataCard
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.report_card import Judgement
from pneumo_keras.printable import to_amount
from pneumo_keras.recipes.evaluate import Task, Tell, judge_films, keep_quiet, write_evaluation
from pneumo_keras.recipes.films import Split, choose_source, open_data, open_judged
from pneumo_keras.recipes.own_films import count_seen_films, describe_split
from pneumo_keras.runs.environment import describe_environment
from pneumo_keras.runs.finished import FinishedRun, load_run
from pneumo_keras.runs.folder import RunFolder

log = logging.getLogger("pneumo_keras")

MOST = 0.5  # of the films judged: with more that were seen they are the run's own, not others
UNSAFE = r"[^\w.-]+"  # in the name of a folder
LONGEST = 60  # characters of such a name: four bytes each, and a folder may have 255


@dataclass(frozen=True)
class OtherFilms:
    """Films as a user names them.

    Attributes:
        path: An npz file, a folder by class, or a CSV.
        positive: Name of the class that is pneumonia, if not that of the run's settings.
        name: What they are called; the name of the file or folder if nothing is said.
    """

    path: Path
    positive: str | None = None
    name: str | None = None


def evaluate_other_films(
    folder: RunFolder,
    other: OtherFilms,
    split_name: str,
    prevalence: float | None = None,
    *,
    perturb: bool = False,
    tell: Tell = keep_quiet,
) -> tuple[RunFolder, Judgement]:
    """Scores other films with the saved model and writes all that an evaluation writes.

    Operating point and calibration are the run's own: nothing is learnt from the films that are judged.

    Args:
        folder: Of a finished run.
        other: The films.
        split_name: Which of them; `test` for all of those that come without splits.
        prevalence: See `evaluate.judge_films`.
        perturb: See `evaluate.judge_films`.
        tell: See `evaluate.evaluate_run`.

    Returns:
        The folder within that of the run where the evaluation is, and the judgement.

    Raises:
        RunError: The run was trained on these films, or that folder holds an evaluation on others.
    """
    run = load_run(folder)
    settings = change_films(run.config, other)
    config = resolve_paths(settings, _list_own_paths(run))
    target = folder.to_evaluation(choose_name(other))
    data = open_data(config, run.preparation)
    split = open_judged(data, split_name)
    check_unseen(run, config, split, is_whole=data.open_whole is not None)
    card = describe_seen(data.card, check_few_seen(folder, config, split), len(split.films))
    if config.data.source == "pneumonia_mnist":  # others were prepared as the run's were
        card = describe_preparation(card, run, split)
    about = describe_films(target, config, card, split)
    task = Task(
        folder=folder,
        name=f"{folder.path.resolve().name} on {target.path.name}",
        # The films of the training have no place beside these in a report.
        run=replace(run, config=settings, environment={**run.environment, "films": {}}),
        config=config,
        card=describe_limits(card, run),
        split=split,
        of_others=True,
    )
    contents = judge_films(task, prevalence, perturb=perturb)
    tell(target, contents.judgement)
    target.write_json("environment.json", about)
    target.write_text("config.toml", format_config(settings))
    write_evaluation(target, task, contents)
    return target, contents.judgement


def change_films(config: Config, other: OtherFilms) -> Config:
    """The settings of a run with other films."""
    return change_config(
        config,
        {
            "data.source": choose_source(other.path),
            "data.path": str(other.path),
            "data.positive": other.positive or config.data.positive,
        },
    )


def choose_name(other: OtherFilms) -> str:
    """What the films are called: a name that every system takes for a folder.

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
    return re.sub(UNSAFE, "-", path.name if path.is_dir() else path.stem)[:LONGEST].strip(".-") or "films"


def check_unseen(run: FinishedRun, config: Config, split: Split, *, is_whole: bool) -> None:
    """Checks that the run was not trained on these films.

    Args:
        run: With the fingerprints of its own films.
        config: With the place of the films.
        split: The films.
        is_whole: Whether these are all films that lie there.

    Raises:
        RunError: They are its training or validation films, or hold these.
    """
    own = run.environment.get("films", {}).values()
    place, own_place = str(config.data.path), run.environment.get("paths", {}).get("data.path")
    fingerprint = split.films.fingerprint()
    if any(films["sha256"] == fingerprint for films in own) or (is_whole and place == own_place):
        raise RunError(
            f"--data must name films that the run was not trained on. Received: {config.data.path}. Leave it "
            "out to judge the run on its own."
        )


def check_few_seen(folder: RunFolder, config: Config, split: Split) -> int:
    """How many of these films the run learnt from, wherever they lay then; few, or they are no others.

    Raises:
        RunError: They are more than half.
    """
    seen, n = count_seen_films(folder, split), len(split.films)
    if seen > n * MOST:
        raise RunError(
            f"--data must name films that the run was not trained on. Received: {config.data.path}, with "
            f"{seen:,} of {to_amount(n, 'film')} among its training and validation films. Take those away."
        )
    return seen


def describe_seen(card: DataCard, seen: int, n: int) -> DataCard:
    """The card of films of which the run has seen some."""
    if not seen:
        return card
    verb = "is" if seen == 1 else "are"
    notice = (
        f"{seen:,} of these {n:,} films {verb} among the training and validation films of the run, by their "
        "pixels: the figures are flattered by that."
    )
    return _add_notice(card, notice)


def describe_preparation(card: DataCard, run: FinishedRun, split: Split) -> DataCard:
    """The card of images that were larger, or have the training images' size but were saved otherwise."""
    if isinstance(split.films, ResizedFilms):
        pixels = split.films.films.shape[0]
        prepared = (
            f"Images of {pixels} px, prepared as the training images were: {run.preparation.describe()}."
        )
        return replace(card, notice=f"{prepared} {card.notice}".strip())
    quality = run.preparation.jpeg_quality
    if (measure_sample(split.films) > JPEG_LENGTH) == (quality is not None):
        return card
    trained = f"were saved as JPEG of quality {quality}" if quality else "were not saved as JPEG"
    these = f"were, of quality {JPEG_QUALITY}" if not quality else "were not"
    return _add_notice(
        card, f"The images of the training {trained}, these {these}: their scores scatter by that."
    )


def _add_notice(card: DataCard, notice: str) -> DataCard:
    log.warning("%s: %s", card.title, notice)
    return replace(card, notice=f"{notice} {card.notice}".strip())


def describe_films(target: RunFolder, config: Config, card: DataCard, split: Split) -> dict[str, object]:
    """What the evaluation is made with; the splits of the same films that were judged before stay in it.

    Raises:
        RunError: Those were other films.
    """
    path, found = str(config.data.path), describe_split(split)
    about = target.load_document(dict, "environment.json") if target.holds("environment.json") else {}
    known = about.get("films", {})
    # A split that is new there is known by where it lies alone.
    same = known[split.name] == found if split.name in known else about.get("paths") == {"data.path": path}
    if about and not same:
        raise RunError(
            f"{target.path} holds an evaluation on other films of that name. Give these another one with "
            "--name, or delete that folder."
        )
    return {
        **describe_environment(),
        "data": {"title": card.title, "notice": card.notice, "files": dict(card.files)},
        "films": {**known, split.name: found},
        "paths": {"data.path": path},
    }


def describe_limits(card: DataCard, run: FinishedRun) -> DataCard:
    """The card of films that the run does not know: what not to conclude is another matter there."""
    trained = run.environment.get("data", {}).get("title", "films of which nothing is known")
    return replace(
        card,
        limits=(
            f"It was trained on {trained}, and knows films like those. The films judged here are others.",
            "Operating point and calibration were chosen on validation films of the training: among other "
            "films the same score may stand for another probability.",
        ),
        notice=f"Judged on other films than those of the training ({trained}). {card.notice}".strip(),
    )


def _list_own_paths(run: FinishedRun) -> dict[str, str]:
    """Where the files of the run lay, but for its films."""
    return {key: path for key, path in run.environment.get("paths", {}).items() if key != "data.path"}
