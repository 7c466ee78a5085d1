"""Films explained by a finished run: which places of a film its log odds come from."""

import functools
import itertools
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pneumo_keras.arrays import CLASS_NAMES, Scores
from pneumo_keras.data.pictures import load_film, prepare_film
from pneumo_keras.errors import DataError
from pneumo_keras.evaluation.mistakes import find_mistakes
from pneumo_keras.files import explain_unwritable, format_csv, replace_whole, write_whole
from pneumo_keras.model.attribution import Explainer, Explanation, build_explainer
from pneumo_keras.model.classifier import Classifier, load_classifier
from pneumo_keras.progress import show_progress
from pneumo_keras.recipes.films import Split
from pneumo_keras.reporting.explanations import SHOWN_EDGE, Evidence, draw_explanation, save_explanation
from pneumo_keras.reporting.predictions import to_printable
from pneumo_keras.reporting.report_contents import MISTAKES
from pneumo_keras.runs.finished import load_run
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.normal_films import load_normal_films

log = logging.getLogger("pneumo_keras")

STEM = 80  # characters of a film's name that its pictures keep


@dataclass(frozen=True)
class FilmExplainer:
    """A finished run that explains films.

    Attributes:
        explainer: Its classifier.
        threshold: Of its operating point: above it a film is called pneumonia.
        film_size: Height and width of the films that it takes, in pixels.
    """

    explainer: Explainer
    threshold: float
    film_size: int

    def explain(self, film: Image.Image) -> Explanation:
        """Explains a film as `load_film` reads it.

        Raises:
            ModelError: The run's head is of a kind that is not known here.
        """
        return self.explainer.explain(prepare_film(film, self.film_size))

    def decide(self, explanation: Explanation) -> str:
        """The class that a film is called."""
        return CLASS_NAMES[explanation.score > self.threshold]


@dataclass(frozen=True)
class ExplainedFile:
    """What came of a file.

    Attributes:
        path: Of the file, as it was named.
        score: Probability of pneumonia; None where there is no film.
        threshold: Above it a film is called pneumonia.
        verdict: The class that the film is called; "" where there is none.
        picture: Name of the PNG file with the film and its map; "" where there is none.
        map: Name of the NPY file with the map; "" where there is none.
        reason: Why there is no film; "" where there is one.
    """

    path: str
    score: float | None
    threshold: float
    verdict: str = ""
    picture: str = ""
    map: str = ""
    reason: str = ""


def build_film_explainer(folder: RunFolder) -> FilmExplainer:
    """Reads a finished run and makes it explain films.

    Raises:
        RunError: There is no finished run, or it is damaged.
    """
    run = load_run(folder)
    size = run.config.data.size
    normal = load_normal_films(folder.normal_films_file, size=size)
    classifier = load_classifier(folder.model_file)
    log.info("Comparing with %d normal films of the run", len(normal))
    return FilmExplainer(build_explainer(classifier, normal), run.operating_point.threshold, size)


def explain_files(explainer: FilmExplainer, paths: Iterable[str], out: Path) -> Iterator[ExplainedFile]:
    """Explains films one by one: a picture and a map of each, and a table at the end.

    Args:
        explainer: Of a run.
        paths: Of the films. What cannot be read has its reason, and does not stop the others.
        out: The folder for all files, which is made; those of the same names are replaced.

    Raises:
        ModelError: The run's head is of a kind that is not known here.
        RunError: The folder cannot be written to.
    """
    explained = []
    with explain_unwritable(out, option="--out"):
        out.mkdir(parents=True, exist_ok=True)
    with show_progress("Explaining", 0, "films") as progress:
        for path, stem in name_files(paths):
            explained.append(explain_file(explainer, path, out, stem))
            yield explained[-1]
            progress.advance(1)
    if explained:
        rows = [{**vars(one), "path": to_printable(one.path)} for one in explained]
        with explain_unwritable(out, option="--out"):
            write_whole(out / "explanations.csv", format_csv(rows))


def explain_file(explainer: FilmExplainer, path: str, out: Path, stem: str) -> ExplainedFile:
    """Explains the film of a file, and writes `<stem>.png` and `<stem>.npy`.

    Args:
        explainer: Of a run.
        path: Of the film.
        out: A folder that is there.
        stem: Of the new files' names.
    """
    try:
        film = load_film(Path(path))
    except (DataError, ValueError, MemoryError) as error:  # ValueError: a path that no system takes
        reason = str(error) or type(error).__name__
        return ExplainedFile(path, None, explainer.threshold, reason=reason)
    explanation = explainer.explain(film)
    plot = draw_explanation(
        prepare_film(film, min(SHOWN_EDGE, *film.size)),
        explanation.evidence,
        base=explanation.base,
        score=explanation.score,
        threshold=explainer.threshold,
        verdict=explainer.decide(explanation),
        title=to_printable(Path(path).name),
    )
    files = {
        f"{stem}.png": functools.partial(save_explanation, plot),
        f"{stem}.npy": lambda beside: np.save(beside, explanation.evidence),
    }
    for name, save in files.items():
        with explain_unwritable(out / name, option="--out"), replace_whole(out / name) as beside:
            save(beside)
    verdict = explainer.decide(explanation)
    return ExplainedFile(path, explanation.score, explainer.threshold, verdict, *files)


def explain_mistakes(
    folder: RunFolder, classifier: Classifier, split: Split, scores: Scores, threshold: float
) -> dict[int, Evidence]:
    """Maps of the most confident mistakes, by the films' indices.

    Args:
        folder: Of the run.
        classifier: Of the run.
        split: Whose films were scored.
        scores: Of the films.
        threshold: Above it a film was called pneumonia.

    Raises:
        RunError: The run's normal films are missing or damaged.
    """
    mistakes = np.concatenate(find_mistakes(split.films.labels, scores, threshold, limit=MISTAKES))
    if not len(mistakes):
        return {}
    films = split.films.read(mistakes)
    explainer = build_explainer(classifier, load_normal_films(folder.normal_films_file, size=films.shape[1]))
    explained = [explainer.explain(film).evidence for film in films]
    return dict(zip(mistakes.tolist(), explained, strict=True))


def name_files(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Paths with stems for new files: safe in any file system, each used once."""
    taken: set[str] = set()
    for path in paths:
        plain = re.sub(r"[^\w.-]+", "-", Path(path).stem, flags=re.ASCII).strip("-.")[:STEM] or "film"
        numbered = (f"{plain}-{number}" for number in itertools.count(2))
        stem = next(one for one in itertools.chain([plain], numbered) if one.casefold() not in taken)
        taken.add(stem.casefold())
        yield path, stem
