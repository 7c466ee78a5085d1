"""What an audit found, in words for a terminal."""

import math
import textwrap
from collections.abc import Iterator, Mapping
from itertools import combinations

from pneumo_keras.arrays import CLASS_NAMES, SPLIT_NAMES
from pneumo_keras.audit.audit import Audit
from pneumo_keras.audit.exposure import GROUPS, ExposureShift, MeanAndDeviation
from pneumo_keras.audit.lookalikes import to_rank
from pneumo_keras.audit.repeats import name_pair
from pneumo_keras.audit.traces import MEASURES, Place
from pneumo_keras.reporting.formats import format_table
from pneumo_keras.storage.printable import to_printable

LINE = 78
PAIRS_SHOWN = 6


def format_audit(audit: Audit, *, heading: str) -> str:
    """Tables and findings for a terminal, below 80 columns.

    Args:
        audit: What was found.
        heading: Names the images.
    """
    repeats = {name_pair(split, split): n for split, n in audit.identical.repeats.items()}
    blocks = [
        to_printable(heading),
        _format_classes(audit),
        "Identical images: repeats within a split, distinct images in two\n"
        + _format_matrix(audit, {**repeats, **audit.identical.shared}),
        f"Pairs almost equal: similarity {audit.alike.similarity:g} or more\n"
        + _format_matrix(audit, audit.alike.counts),
        *_format_pairs(audit),
        *(_format_exposure(audit, measure) for measure in MEASURES),
        "\n".join(["Findings", *map(_wrap, to_findings(audit))]),
    ]
    return "\n\n".join(blocks)


def _wrap(finding: str) -> str:
    return textwrap.fill(finding, LINE, initial_indent="- ", subsequent_indent="  ")


def _format_classes(audit: Audit) -> str:
    rows = []
    for split, facts in audit.splits.items():
        counts = (f"{count:,}" for count in (facts.images, facts.normal, facts.pneumonia))
        share, size = f"{100 * facts.pneumonia_share:.1f} %", f"{facts.height} x {facts.width}"
        rows.append((split, *counts, share, size))
    return format_table(rows, header=("", "images", *CLASS_NAMES, "prior", "size"), align="lrrrrr")


def _format_matrix(audit: Audit, counts: Mapping[str, int]) -> str:
    rows = []
    for first in audit.splits:
        cells = (counts.get(name_pair(first, second)) for second in audit.splits)
        rows.append((first, *("" if n is None else f"{n:,}" for n in cells)))
    return format_table(rows, header=("", *audit.splits), align="l" + "r" * len(audit.splits))


def _format_pairs(audit: Audit) -> Iterator[str]:
    alike = audit.alike
    pairs = alike.pairs or sorted(alike.closest.values(), key=to_rank)[:1]
    if not pairs:
        return
    rows = [
        (
            f"{pair.similarity:.3f}",
            *(f"{_to_address(place)} {CLASS_NAMES[place.label]}" for place in (pair.first, pair.second)),
            "one mirrored" if pair.mirrored else "",
        )
        for pair in pairs[:PAIRS_SHOWN]
    ]
    found = sum(alike.counts.values())
    title = f"The most similar of {found:,}" if found else "The most similar pair of images, below that"
    yield f"{title}\n{format_table(rows, align='rlll')}"


def _to_address(place: Place) -> str:
    return f"{place.split}[{place.index}]"


def _format_exposure(audit: Audit, measure: str) -> str:
    first, *others = audit.splits
    rows = [
        (split, *(_to_cell(facts.exposure[measure][group]) for group in GROUPS))
        for split, facts in audit.splits.items()
    ]
    for other in others:
        shifts = (s for s in audit.exposure_shifts if (s.measure, s.second) == (measure, other))
        rows.append((f"d, {other} - {first}", *(_to_signed(shift.d) for shift in shifts)))
    return format_table(rows, header=(measure.capitalize(), *GROUPS), align="lrrr")


def _to_cell(figures: MeanAndDeviation) -> str:
    if not figures.n:
        return "-"
    return f"{figures.mean:.1f}" + (f" (sd {figures.deviation:.1f})" if figures.n > 1 else "")


def _to_signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+z.2f}"


def to_findings(audit: Audit) -> list[str]:
    """What a user should know before training, a sentence or two each."""
    return [
        *_tell_priors(audit),
        *_tell_shared(audit),
        *_tell_patients(audit),
        *_tell_repeats(audit),
        *_tell_conflicts(audit),
        *_tell_alike(audit),
        *_tell_exposure(audit),
        *_tell_separation(audit),
        *_tell_blank(audit),
    ]


def _noun(split: str) -> str:
    return SPLIT_NAMES.get(split, split).removesuffix(" images")


def _tell_priors(audit: Audit) -> Iterator[str]:
    for shift in audit.prior_shifts:
        first, second = (100 * audit.splits[split].pneumonia_share for split in (shift.first, shift.second))
        if shift.is_notable:
            yield (
                f"Pneumonia is {first:.1f} % of the {_noun(shift.first)} images but {second:.1f} % of the "
                f"{_noun(shift.second)} images: accuracy, precision and calibration do not carry over; "
                "sensitivity, specificity and AUC do not depend on it."
            )


def _tell_shared(audit: Audit) -> Iterator[str]:
    if not any(audit.identical.shared.values()):
        yield "No image stands in two splits."
    for first, second in combinations(audit.splits, 2):
        if n := audit.identical.shared[name_pair(first, second)]:
            both = (g for g in audit.identical.groups if {first, second} <= {place.split for place in g})
            copies = sum(place.split == second for group in both for place in group)
            yield (
                f"Images of {_noun(first)} that are also in {_noun(second)}: {n:,} "
                f"({100 * copies / audit.splits[second].images:.1f} % of the {_noun(second)} images are known "
                "beforehand; figures on them flatter)."
            )


def _tell_patients(audit: Audit) -> Iterator[str]:
    """How many are known, and who stands in two splits."""
    found = audit.patients
    known = [
        f"{found.images[split]:,} of {audit.splits[split].images:,} {_noun(split)} ({patients:,} patients)"
        for split, patients in found.patients.items()
        if patients
    ]
    if not known:
        return
    yield f"Images whose patients are known: {', '.join(known)}."
    for first, second in combinations(found.images, 2):
        shared = found.shared[name_pair(first, second)]
        if shared is None and found.images[first] and found.images[second]:
            yield (
                f"Patients of {_noun(first)} and {_noun(second)} are numbered each for itself: whether they "
                "share any is not known."
            )
        elif shared and shared.images:
            share = 100 * shared.images / audit.splits[second].images
            yield (
                f"Patients of {_noun(first)} who are also in {_noun(second)}: {shared.patients:,}, with "
                f"{shared.images:,} images there ({share:.1f} % of the {_noun(second)} images; figures on "
                "them flatter)."
            )
        elif shared:
            yield f"No known patient of {_noun(first)} is also in {_noun(second)}."


def _tell_repeats(audit: Audit) -> Iterator[str]:
    for split, n in audit.identical.repeats.items():
        if n:
            yield f"Repeats among the {_noun(split)} images, each of which counts again: {n:,}."


def _tell_conflicts(audit: Audit) -> Iterator[str]:
    groups = audit.identical.groups
    if n := audit.identical.conflicts:
        places = ", ".join(map(_to_address, groups[0]))
        yield (
            f"Images that stand there as normal and as pneumonia: {n:,}. One label of each is wrong; see "
            f"{places}."
        )
    elif groups:
        yield "Identical images have identical labels."


def _tell_alike(audit: Audit) -> Iterator[str]:
    alike = audit.alike
    found = sum(alike.counts.values())
    threshold = f"(similarity {alike.similarity:g} or more)"
    if not found:
        yield f"No two images are almost equal without being identical {threshold}."
        return
    across = found - sum(alike.counts[name_pair(split, split)] for split in audit.splits)
    yield (
        f"Pairs of images almost equal without being identical {threshold}: {found:,}, across splits "
        f"{across:,}, with different labels {alike.conflicts:,}. An altered copy, or one patient twice."
    )


def _tell_exposure(audit: Audit) -> Iterator[str]:
    shifts = [shift for shift in audit.exposure_shifts if not math.isnan(shift.d)]
    notable = [shift for shift in shifts if shift.is_notable]
    for shift in notable:
        yield f"Exposure differs: {_to_words(audit, shift)}"
    if shifts and not notable:
        largest = max(shifts, key=lambda shift: abs(shift.d))
        yield f"Exposure hardly differs between splits. At most: {_to_words(audit, largest)}"


def _to_words(audit: Audit, shift: ExposureShift) -> str:
    first, second = (
        audit.splits[split].exposure[shift.measure][shift.images].mean
        for split in (shift.first, shift.second)
    )
    return (
        f"{shift.measure} of {shift.images} images, {first:.1f} in {_noun(shift.first)} and {second:.1f} in "
        f"{_noun(shift.second)} (d {shift.d:+.2f}, Kolmogorov-Smirnov {shift.ks:.2f}, p {shift.p:.2g})."
    )


def _tell_separation(audit: Audit) -> Iterator[str]:
    first = next(iter(audit.splits.values()))
    for measure in first.telling:
        aucs = {split: facts.separation[measure] for split, facts in audit.splits.items()}
        listed = [f"{auc:.2f} in {_noun(split)}" for split, auc in aucs.items() if not math.isnan(auc)]
        yield (
            f"{measure.capitalize()} alone tells the classes apart, AUC {', '.join(listed)}: a classifier "
            "must do better than that."
        )


def _tell_blank(audit: Audit) -> Iterator[str]:
    for split, facts in audit.splits.items():
        if facts.blank:
            yield f"Images of {_noun(split)} of one grey level, which show nothing: {facts.blank:,}."
