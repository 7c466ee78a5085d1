"""A run judged on films."""

import functools
import logging
import re
import time
from dataclasses import asdict

from pneumo_keras.arrays import Scores
from pneumo_keras.config import Config, format_config, name_files, resolve_paths
from pneumo_keras.data.films import LabelledFilms
from pneumo_keras.evaluation.metrics import count_confusions, to_accuracy, to_auc
from pneumo_keras.evaluation.report_card import HALF, Judgement
from pneumo_keras.evaluation.scores import (
    format_medmnist_scores,
    to_medmnist_name,
)
from pneumo_keras.model.classifier import load_classifier
from pneumo_keras.recipes.films import load_splits, name_films
from pneumo_keras.recipes.judging import (
    compute_log_odds,
    correct_decision,
    decide,
    judge_members,
    write_scores,
)
from pneumo_keras.recipes.network import build_extractor
from pneumo_keras.reporting.plots import draw_summary, save_plot
from pneumo_keras.reporting.report import SPLIT_NAMES, ReportContents, format_report
from pneumo_keras.runs.finished import load_run
from pneumo_keras.runs.folder import RunFolder

log = logging.getLogger("pneumo_keras")


def evaluate_run(folder: RunFolder, split: str, prevalence: float | None = None) -> Judgement:
    """Scores a split with the saved model and writes its scores, figures and pictures.

    Args:
        folder: Of a finished run.
        split: `train`, `val` or `test`.
        prevalence: Share of pneumonia where the scores are to be used, in (0, 1); scores and
            operating point are corrected for it together, so that no call changes.
    """
    run = load_run(folder)
    config = resolve_paths(run.config, run.environment.get("paths"))
    classifier = load_classifier(folder.model_file)
    point = run.operating_point
    films = load_splits(config, (split,))[split]
    extractor = build_extractor(config, classifier.backbone)
    log_odds = compute_log_odds(config, extractor, classifier.head, films, split)
    to_scores = functools.partial(decide, classifier.decision)
    if prevalence is not None:
        to_scores, point = correct_decision(
            to_scores, point, trained=run.calibration.prevalence, stated=prevalence
        )
    scores = to_scores(log_odds)
    judgement = judge_members(config, films, log_odds, to_scores, point)
    write_scores(folder, split, films, scores, judgement, prevalence)
    write_medmnist_scores(folder, config, split, films, scores)
    title = f"{folder.path.resolve().name}: {len(films):,} {SPLIT_NAMES[split]} of {name_films(config)}"
    summary = draw_summary(run.history, films.labels, scores, judgement.evaluation, title=title)
    suffix = "" if split == "test" else f"_{split}"
    folder.write_with(f"figures/summary{suffix}.png", functools.partial(save_plot, summary))
    report = ReportContents(
        run=folder.path.resolve().name,
        split=split,
        date=time.strftime("%Y-%m-%d"),
        source=config.data.source,
        source_name=name_films(config),
        weights=config.model.weights,
        films=films,
        scores=scores,
        judgement=judgement,
        prevalence=prevalence,
        calibration=asdict(run.calibration),
        operating_point=point,
        history=run.history,
        settings=format_config(name_files(run.config)),
        environment={name: value for name, value in run.environment.items() if name != "paths"},
    )
    folder.write_text(f"report{suffix}.html", format_report(report))
    log.info("Report: %s", folder.path / f"report{suffix}.html")
    return judgement


def write_medmnist_scores(
    folder: RunFolder, config: Config, split: str, films: LabelledFilms, scores: Scores
) -> None:
    """Writes MedMNIST's standard result file, in place of an older one."""
    name = to_medmnist_name(
        split=split,
        auc=to_auc(films.labels, scores),
        accuracy=to_accuracy(count_confusions(films.labels, scores, HALF)),
        run=re.sub(r"[^\w-]+", "-", folder.path.resolve().name),
        size=config.data.size,
    )
    folder.remove(f"pneumoniamnist*_{split}_[[]AUC]*.csv")
    folder.write_text(name, format_medmnist_scores(scores))
