"""What an audit found: text for a terminal, findings, and a page of images."""

import json
import math
import textwrap
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pneumo_keras.arrays import CLASS_NAMES, SPLIT_NAMES
from pneumo_keras.audit.audit import MEASURES, PREVALENCE, Audit, Exposure, list_occurrences
from pneumo_keras.audit.copies import SIMILARITY, Occurrence, name_pair
from pneumo_keras.data.images import LabelledImages
from pneumo_keras.data.sources import ImageNames
from pneumo_keras.reporting.formats import format_number, format_percent, format_table
from pneumo_keras.reporting.plots import build_figure, save_plot
from pneumo_keras.storage.files import claim_folder, explain_unwritable, replace_atomically, write_atomically
from pneumo_keras.storage.printable import to_amount, to_printable

LINE = 78
PAIRS_SHOWN = 6
COLUMNS = 6  # of images on the page
NAME = 30  # characters of a file's name below an image


def write_audit(
    folder: Path,
    splits: Mapping[str, LabelledImages],
    audit: Audit,
    document: Mapping[str, Any],
    *,
    names: Mapping[str, ImageNames],
    title: str,
) -> None:
    """Writes `audit.json`, `audit.txt` and `audit.png`.

    Raises:
        RunError: The folder is taken, or cannot be written.
    """
    plot = draw_audit(splits, audit, names=names, title=title)
    with claim_folder(folder, option="--out"), explain_unwritable(folder, option="--out"):
        write_atomically(folder / "audit.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
        write_atomically(folder / "audit.txt", format_audit(audit, title=title) + "\n")
        with replace_atomically(folder / "audit.png") as partial:
            save_plot(plot, partial)


def draw_audit(
    splits: Mapping[str, LabelledImages], audit: Audit, *, names: Mapping[str, ImageNames], title: str
) -> Figure:
    """Some images of each split and class, and some that are identical or almost equal. 1,600 px wide."""
    rows: list[list[tuple[Occurrence, ...]]] = []
    for split, images in splits.items():
        occurrences = list_occurrences(split, images, names)
        by_class = [np.flatnonzero(images.labels == label)[: COLUMNS // 2] for label in (0, 1)]
        rows.append([(occurrences[index],) for index in np.concatenate(by_class).tolist()])
    copies = [(group[0], group[1]) for group in audit.identical.groups[:COLUMNS]]
    rows.append([*copies, *((pair.first, pair.second) for pair in audit.alike.pairs)][:COLUMNS])
    figure = build_figure(1600, 300 * len(rows), to_printable(title))
    for panels, row in zip(figure.subplots(len(rows), COLUMNS, squeeze=False), rows, strict=True):
        for axes in panels:
            axes.set_axis_off()
        for axes, occurrences in zip(panels, row, strict=False):
            captions = "\n".join(map(_to_long_caption, occurrences))
            axes.set_title(captions, fontsize=6.5, parse_math=False)
            for left, occurrence in enumerate(occurrences):
                image = splits[occurrence.split].read(slice(occurrence.index, occurrence.index + 1))[0]
                axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(1.05 * left, 1.05 * left + 1, 0, 1))
            axes.set(xlim=(0, 1.05 * len(occurrences) - 0.05), ylim=(0, 1))
    return figure


def format_audit(audit: Audit, *, title: str) -> str:
    """Tables and findings for a terminal, below 80 columns."""
    findings = (
        textwrap.fill(finding, LINE, initial_indent="- ", subsequent_indent="  ")
        for finding in to_findings(audit)
    )
    blocks = [
        to_printable(title),
        _format_counts(audit),
        _format_copies(audit),
        _format_pairs(audit),
        _format_exposure(audit),
        "\n".join(["Findings", *findings]),
    ]
    return "\n\n".join(filter(None, blocks))


def _format_counts(audit: Audit) -> str:
    rows = [
        (
            split,
            *(f"{count:,}" for count in (facts.images, facts.normal, facts.pneumonia)),
            format_percent(facts.prevalence),
            f"{facts.height} x {facts.width}",
        )
        for split, facts in audit.splits.items()
    ]
    return format_table(rows, header=("", "images", *CLASS_NAMES, "prevalence", "size"), align="lrrrrr")


def _format_copies(audit: Audit) -> str:
    rows = [(pair, f"{n:,}", f"{audit.alike.counts[pair]:,}") for pair, n in audit.identical.counts.items()]
    return format_table(rows, header=("Copies", "identical", "almost equal"), align="lrr")


def _format_pairs(audit: Audit) -> str:
    rows = [
        (
            f"{pair.similarity:.3f}",
            *map(_to_caption, (pair.first, pair.second)),
            "one mirrored" if pair.mirrored else "",
        )
        for pair in audit.alike.pairs[:PAIRS_SHOWN]
    ]
    title = f"The most similar of {sum(audit.alike.counts.values()):,}"
    return f"{title}\n{format_table(rows, align='rlll')}" if rows else ""


def _format_exposure(audit: Audit) -> str:
    rows = [
        (f"{measure.capitalize()}, {split}", *_to_exposure_cells(facts.exposure[measure]))
        for measure in MEASURES
        for split, facts in audit.splits.items()
    ]
    return format_table(rows, header=("", *CLASS_NAMES, "AUC"), align="lrrr")


def _to_exposure_cells(exposure: Exposure) -> list[str]:
    by_class = zip(exposure.means, exposure.deviations, strict=True)
    cells = [
        f"{format_number(mean, digits=1)} (sd {format_number(deviation, digits=1)})"
        for mean, deviation in by_class
    ]
    return [*cells, format_number(exposure.auc, digits=2)]


def _to_caption(occurrence: Occurrence) -> str:
    return f"{_to_place(occurrence)} {CLASS_NAMES[occurrence.label]}"


def _to_place(occurrence: Occurrence) -> str:
    return f"{occurrence.split}[{occurrence.index}]"


def _to_long_caption(occurrence: Occurrence) -> str:
    """With the name of its file, of which the last characters distinguish it, in a line of its own."""
    name = to_printable(PurePath(occurrence.file).name[-NAME:])
    return f"{_to_caption(occurrence)}\n{name}" if name else _to_caption(occurrence)


def to_findings(audit: Audit) -> list[str]:
    """Findings that matter before training, a sentence or two each."""
    return [
        *_describe_copies(audit),
        *_describe_patients(audit),
        *_describe_shifts(audit),
        *_describe_images(audit),
    ]


def _noun(split: str) -> str:
    return SPLIT_NAMES.get(split, split).removesuffix(" images")


def _describe_copies(audit: Audit) -> Iterator[str]:
    identical, alike = audit.identical, audit.alike
    pairs = {pair: identical.counts[name_pair(*pair)] for pair in combinations(audit.splits, 2)}
    if not any(pairs.values()):
        yield "No image is in two splits."
    for (first, second), n in pairs.items():
        if n:
            both = (group for group in identical.groups if {first, second} <= {one.split for one in group})
            copies = sum(occurrence.split == second for group in both for occurrence in group)
            yield (
                f"Images of {_noun(first)} that are also in {_noun(second)}: {n:,} "
                f"({format_percent(copies / audit.splits[second].images)} of the {_noun(second)} images are "
                "known beforehand; metrics on them are optimistically biased)."
            )
    for split in audit.splits:
        if n := identical.counts[name_pair(split, split)]:
            yield f"Repeats among the {_noun(split)} images, each of which counts again: {n:,}."
    if identical.conflicts:
        occurrences = ", ".join(
            f"{_to_place(one)} ({to_printable(one.file)})" if one.file else _to_place(one)
            for one in identical.groups[0]
        )
        yield (
            f"Images labelled both normal and pneumonia: {identical.conflicts:,}. One label of each is "
            f"wrong; see {occurrences}."
        )
    found, across = sum(alike.counts.values()), sum(alike.counts[name_pair(*pair)] for pair in pairs)
    if found:
        yield (
            f"Pairs of images almost equal without being identical (similarity {SIMILARITY:g} or more): "
            f"{found:,}, across splits {across:,}, with different labels {alike.conflicts:,}. An altered "
            "copy, or one patient twice."
        )


def _describe_patients(audit: Audit) -> Iterator[str]:
    found = audit.patients
    known = [
        f"{found.images[split]:,} of {audit.splits[split].images:,} {_noun(split)} "
        f"({to_amount(patients, 'patient')})"
        for split, patients in found.patients.items()
        if patients
    ]
    if known:
        yield f"Images whose patients are known: {', '.join(known)}."
    for first, second in combinations(found.images, 2):
        if not (found.images[first] and found.images[second]):
            continue
        shared = found.shared[name_pair(first, second)]
        if shared is None:
            yield (
                f"Patients of {_noun(first)} and {_noun(second)} are numbered separately: whether they share "
                "any is unknown."
            )
        elif shared.images:
            yield (
                f"Patients of {_noun(first)} who are also in {_noun(second)}: {shared.patients:,}, with "
                f"{to_amount(shared.images, 'image')} there "
                f"({format_percent(shared.images / audit.splits[second].images)} of the {_noun(second)} "
                "images; metrics on them are optimistically biased)."
            )
        else:
            yield f"No known patient of {_noun(first)} is also in {_noun(second)}."


def _describe_shifts(audit: Audit) -> Iterator[str]:
    for shift in audit.shifts:
        if not shift.is_notable:
            continue
        splits = [audit.splits[split] for split in (shift.first, shift.second)]
        nouns = _noun(shift.first), _noun(shift.second)
        if shift.measure == PREVALENCE:
            first, second = (format_percent(facts.prevalence) for facts in splits)
            yield (
                f"Pneumonia is {first} of the {nouns[0]} images but {second} of the {nouns[1]} images: "
                "accuracy, precision and calibration do not carry over; sensitivity, specificity and "
                "AUC do not depend on it."
            )
        else:
            label = CLASS_NAMES.index(shift.images)
            first, second = (facts.exposure[shift.measure].means[label] for facts in splits)
            yield (
                f"Exposure differs: {shift.measure} of {shift.images} images, {first:.1f} in {nouns[0]} and "
                f"{second:.1f} in {nouns[1]} (d {shift.effect:+.2f}, p {shift.p:.2g})."
            )


def _describe_images(audit: Audit) -> Iterator[str]:
    first = next(iter(audit.splits.values()))
    for measure, exposure in first.exposure.items():
        if exposure.is_separating:
            aucs = {split: facts.exposure[measure].auc for split, facts in audit.splits.items()}
            listed = [f"{auc:.2f} in {_noun(split)}" for split, auc in aucs.items() if not math.isnan(auc)]
            yield (
                f"{measure.capitalize()} alone separates the classes, AUC {', '.join(listed)}: a classifier "
                "must do better than that."
            )
    for split, facts in audit.splits.items():
        if facts.blank:
            yield f"Images of {_noun(split)} of one grey level, which show nothing: {facts.blank:,}."
