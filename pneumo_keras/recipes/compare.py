"""Runs compared on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.config import Config, find_changes
from pneumo_keras.data.images import hash_labels
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.comparison import Difference, compare_figures
from pneumo_keras.evaluation.metrics import count_confusions
from pneumo_keras.evaluation.patients import PatientCounts, count_patients, to_groups
from pneumo_keras.evaluation.report_card import Metrics
from pneumo_keras.evaluation.scores import ScoreTable, hash_scores, load_score_table
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runtime.invocation import to_command
from pneumo_keras.storage.files import explain_unwritable, replace_atomically


@dataclass(frozen=True)
class Comparison:
    """A run compared with another one.

    Attributes:
        run: The one that is compared.
        differences: Its metrics minus those of the other one, by name.
        changed: Settings in which they differ, by dotted key: the other's value, and this one's.
        n: Images.
        patients: Counts of patients, where they are known and intervals resample them.
        paired_by_path: Whether images were prepared differently for the two runs, and are paired by path.
    """

    run: Path
    differences: dict[str, Difference]
    changed: dict[str, tuple[str, str]]
    n: int
    patients: PatientCounts | None
    paired_by_path: bool


@dataclass(frozen=True)
class _Evaluated:
    folder: RunFolder
    config: Config
    metrics: Metrics
    table: ScoreTable


def compare_runs(
    first: RunFolder, others: Sequence[RunFolder], split: str, picture: Path | None = None
) -> list[Comparison]:
    """Paired differences of all metrics, each of the others minus the first, on the same images.

    Files of one folder that were prepared differently for two runs, for instance at another size, are paired
    by their paths. The ROC curves of all runs are drawn into `picture`, a PNG file, if given.

    Raises:
        RunError: A run has no scores of the split, the runs were scored on different images or against
            different labels, or the picture cannot be written.
    """
    runs = [_load_evaluated(folder, split) for folder in (first, *others)]
    for run in runs:
        _check_same_images(runs[0], run, split)
    if picture:
        _draw_rocs(runs, picture, split)
    return [_compare(runs[0], run) for run in runs[1:]]


def _draw_rocs(runs: Sequence[_Evaluated], picture: Path, split: str) -> None:
    # Matplotlib takes a second to import.
    from pneumo_keras.reporting.plots import draw_rocs, save_plot

    labels, patients = runs[0].table.labels, to_groups(runs[0].table.patients)
    named = {str(run.folder.path): (run.table.scores, run.metrics.threshold) for run in runs}
    plot = draw_rocs(labels, named, title=f"{len(labels):,} {SPLIT_NAMES[split]}", patients=patients)
    with explain_unwritable(picture, option="--out"), replace_atomically(picture) as temporary:
        save_plot(plot, temporary)


def _compare(first: _Evaluated, run: _Evaluated) -> Comparison:
    labels, patients = run.table.labels, to_groups(first.table.patients)
    differences = compare_figures(
        labels,
        first.table.scores,
        run.table.scores,
        first_threshold=first.metrics.threshold,
        second_threshold=run.metrics.threshold,
        seed=first.config.seed,
        patients=patients,
    )
    return Comparison(
        run=run.folder.path,
        differences=differences,
        changed=find_changes(first.config, run.config),
        n=len(labels),
        patients=None if patients is None else count_patients(labels, patients),
        paired_by_path=run.metrics.images_sha256 != first.metrics.images_sha256,
    )


def _load_evaluated(folder: RunFolder, split: str) -> _Evaluated:
    folder.verify_all(may_lack=True)
    file = f"metrics_{split}.json"
    if not folder.holds(file):
        raise RunError(
            f"Runs must be evaluated before they are compared. {folder.path} has no figures of "
            f"{SPLIT_NAMES[split]}: {to_command('eval', folder.path, '--split', split)}"
        )
    metrics = folder.load_document(Metrics, file)
    table = load_score_table(folder.verify(f"scores_{split}.csv"))
    fits = (
        metrics.split == split
        and metrics.stated_prevalence is None
        and metrics.scores_sha256 == hash_scores(table.labels, table.scores)
        and metrics.counts == count_confusions(table.labels, table.scores, metrics.threshold)
    )
    if hash_labels(table.labels) == metrics.labels_sha256 and not fits:
        raise RunError(
            f"{folder.path / file} must describe the scores in scores_{split}.csv: one of them was changed. "
            "Evaluate the run again."
        )
    return _Evaluated(folder, folder.load_settings(), metrics, table)


def _check_same_images(first: _Evaluated, run: _Evaluated, split: str) -> None:
    if run.metrics.images_sha256 != first.metrics.images_sha256 and not _has_same_files(first, run):
        raise RunError(
            f"Runs can be compared only on the same images. {first.folder.path} and {run.folder.path} were "
            f"scored on different {SPLIT_NAMES[split]}. The same files prepared differently, for instance at "
            "another size, are paired by their paths: evaluate both runs on one folder, with --data."
        )
    if len({run.metrics.labels_sha256, *(hash_labels(one.table.labels) for one in (first, run))}) > 1:
        raise RunError(
            f"Runs can be compared only against the same labels. {first.folder.path} and {run.folder.path} "
            f"were evaluated against different labels of the {SPLIT_NAMES[split]}."
        )


def _has_same_files(first: _Evaluated, run: _Evaluated) -> bool:
    """Whether both were scored on the files of one folder, which may have been prepared differently."""
    folders = [one.folder.load_document(dict, "environment.json").get("paths") for one in (first, run)]
    paths = [paths.get("data.path") if isinstance(paths, dict) else None for paths in folders]
    return None not in paths and paths[0] == paths[1] and first.table.files == run.table.files
