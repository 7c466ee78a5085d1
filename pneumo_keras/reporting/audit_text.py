"""What an audit found, in words for a terminal."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from pneumo_keras.arrays import CLASS_NAMES
from pneumo_keras.audit.audit import (
    CHANCE,
    GROUPS,
    MEASURES,
    SMALL_PRIOR_SHIFT,
    TELLING_AUC,
    Audit,
    ExposureShift,
    Place,
    Spread,
    name_pair,
    to_rank,
)
from pneumo_keras.evaluation.intervals import to_guessing_error

LINE = 78
PAIRS_SHOWN = 6
NOUNS = {"train": "training", "val": "validation", "test": "test"}
SHORT = {"all": "all films", "normal": "normal", "pneumonia": "pneumonia"}


def format_audit(audit: Audit, *, heading: str) -> str:
    """Tables and findings for a terminal, below 80 columns.

    Args:
        audit: What was found.
        heading: Names the films.
    """
    blocks = [
        [heading],
        _format_classes(audit),
        _format_matrix(
            audit,
            "Identical films: repeats within a split, distinct films in two",
            {
                **{name_pair(split, split): n for split, n in audit.identical.repeats.items()},
                **audit.identical.shared,
            },
        ),
        _format_matrix(
            audit, f"Pairs almost equal: similarity {audit.alike.similarity:g} or more", audit.alike.counts
        ),
        _format_pairs(audit),
        *(_format_exposure(audit, measure) for measure in MEASURES),
        ["Findings", *(_wrap(finding) for finding in to_findings(audit))],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def _wrap(finding: str) -> str:
    return textwrap.fill(finding, LINE, initial_indent="- ", subsequent_indent="  ")


def _format_classes(audit: Audit) -> list[str]:
    lines = [f"{'':<20}{'films':>9}{'normal':>11}{'pneumonia':>11}{'prior':>13}{'size':>12}"]
    for split, facts in audit.splits.items():
        share = f"{100 * facts.pneumonia_share:.1f} %"
        size = f"{facts.height} x {facts.width}"
        lines.append(
            f"{split:<20}{facts.films:>9,}{facts.normal:>11,}{facts.pneumonia:>11,}{share:>13}{size:>12}"
        )
    return lines


def _format_matrix(audit: Audit, title: str, counts: Mapping[str, int]) -> list[str]:
    lines = [title, " " * 20 + "".join(f"{split:>11}" for split in audit.splits)]
    for first in audit.splits:
        cells = (counts.get(name_pair(first, second)) for second in audit.splits)
        lines.append(f"{first:<20}" + "".join(f"{'' if n is None else f'{n:,}':>11}" for n in cells).rstrip())
    return lines


def _format_pairs(audit: Audit) -> list[str]:
    pairs = audit.alike.pairs or sorted(audit.alike.closest.values(), key=to_rank)[:1]
    if not pairs:
        return []
    title = "The most similar of them" if audit.alike.pairs else "The most similar pair of films, below that"
    lines = [title]
    for pair in pairs[:PAIRS_SHOWN]:
        labels = " and ".join(dict.fromkeys(CLASS_NAMES[place.label] for place in (pair.first, pair.second)))
        lines.append(
            f"{pair.similarity:.3f}  {_to_address(pair.first)} and {_to_address(pair.second)}, {labels}"
            f"{', one mirrored' if pair.mirrored else ''}"
        )
    hidden = sum(audit.alike.counts.values()) - PAIRS_SHOWN
    return [*lines, f"and {hidden:,} more in the JSON document"] if hidden > 0 else lines


def _to_address(place: Place) -> str:
    return f"{place.split}[{place.index}]"


def _format_exposure(audit: Audit, measure: str) -> list[str]:
    first, *others = audit.splits
    lines = [f"{measure.capitalize():<20}" + "".join(f"{SHORT[group]:>17}" for group in GROUPS)]
    for split, facts in audit.splits.items():
        spreads = (facts.exposure[measure][group] for group in GROUPS)
        lines.append(f"{split:<20}" + "".join(f"{_to_cell(s):>17}" for s in spreads))
    for other in others:
        shifts = (s for s in audit.exposure_shifts if (s.measure, s.second) == (measure, other))
        lines.append(f"{f'd, {other} - {first}':<20}" + "".join(f"{_to_signed(s.d):>17}" for s in shifts))
    return lines


def _to_cell(spread: Spread) -> str:
    if not spread.n:
        return "-"
    return f"{spread.mean:.1f}" + (f" (sd {spread.sd:.1f})" if spread.n > 1 else "")


def _to_signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{round(value, 2) + 0.0:+.2f}"  # + 0.0 rids -0.0 of its sign


def to_findings(audit: Audit) -> list[str]:
    """What a user should know before training, a sentence or two each."""
    return [
        *_tell_priors(audit),
        *_tell_shared(audit),
        *_tell_repeats(audit),
        *_tell_conflicts(audit),
        *_tell_alike(audit),
        *_tell_exposure(audit),
        *_tell_separation(audit),
        *_tell_blank(audit),
    ]


def _noun(split: str) -> str:
    return NOUNS.get(split, split)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _join(words: Sequence[str], last: str = "and") -> str:
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail


def _tell_priors(audit: Audit) -> Iterator[str]:
    for shift in audit.prior_shifts:
        first, second = (100 * audit.splits[split].pneumonia_share for split in (shift.first, shift.second))
        if abs(shift.difference) >= SMALL_PRIOR_SHIFT and shift.p < CHANCE:
            yield (
                f"Pneumonia is {first:.1f} % of the {_noun(shift.first)} films but {second:.1f} % of the "
                f"{_noun(shift.second)} films: accuracy, precision and calibration do not carry over; "
                "sensitivity, specificity and AUC do not depend on it."
            )


def _tell_shared(audit: Audit) -> Iterator[str]:
    apart = []
    for first, second in combinations(audit.splits, 2):
        n = audit.identical.shared[name_pair(first, second)]
        if not n:
            apart.append(f"{_noun(first)} and {_noun(second)}")
            continue
        both = (g for g in audit.identical.groups if {first, second} <= {place.split for place in g})
        copies = sum(place.split == second for group in both for place in group)
        share = 100 * copies / audit.splits[second].films
        yield (
            f"{_count(n, f'{_noun(first)} film')} {'is' if n == 1 else 'are'} also in {_noun(second)}: "
            f"{share:.1f} % of its films are known beforehand, and figures on it flatter."
        )
    if apart and not any(audit.identical.shared.values()):
        yield "No film stands in two splits."
    elif apart:
        yield f"No film is shared by {_join(apart, 'or by')}."


def _tell_repeats(audit: Audit) -> Iterator[str]:
    for split, n in audit.identical.repeats.items():
        if n == 1:
            yield f"1 {_noun(split)} film is a repeat of another {_noun(split)} film, which counts twice."
        elif n:
            yield (
                f"{n:,} {_noun(split)} films are repeats of other {_noun(split)} films, which count more "
                "than once."
            )


def _tell_conflicts(audit: Audit) -> Iterator[str]:
    n, groups = audit.identical.conflicts, audit.identical.groups
    if n:
        places = _join([_to_address(place) for place in groups[0]])
        yield (
            f"{_count(n, 'film')} {'stands' if n == 1 else 'stand'} there as normal and as pneumonia; one "
            f"label is wrong. See {places}."
        )
    elif groups:
        yield "Identical films have identical labels."


def _tell_alike(audit: Audit) -> Iterator[str]:
    alike = audit.alike
    pairs = sum(alike.counts.values())
    across = pairs - sum(alike.counts[name_pair(split, split)] for split in audit.splits)
    threshold = f"(similarity {alike.similarity:g} or more)"
    if not pairs:
        yield f"No two films are almost equal without being identical {threshold}."
        return
    conflicts = sum(pair.first.label != pair.second.label for pair in alike.pairs)
    yield (
        f"{_count(pairs, 'pair')} of films {'is' if pairs == 1 else 'are'} almost equal without being "
        f"identical {threshold}, {across:,} of them across splits, {conflicts:,} with different labels: "
        "an altered copy, or one patient twice."
    )


def _tell_exposure(audit: Audit) -> Iterator[str]:
    shifts = [shift for shift in audit.exposure_shifts if not math.isnan(shift.d)]
    if not shifts:
        return
    notable = [shift for shift in shifts if shift.is_notable]
    for shift in notable:
        yield f"Exposure differs: {_to_words(audit, shift)}"
    if not notable:
        largest = max(shifts, key=lambda shift: abs(shift.d))
        yield f"Exposure hardly differs between splits. At most: {_to_words(audit, largest)}"


def _to_words(audit: Audit, shift: ExposureShift) -> str:
    first, second = (
        audit.splits[split].exposure[shift.measure][shift.films].mean for split in (shift.first, shift.second)
    )
    return (
        f"{shift.measure} of {SHORT[shift.films]}{' films' * (shift.films != 'all')}, {first:.1f} in "
        f"{_noun(shift.first)} and {second:.1f} in {_noun(shift.second)} "
        f"(d {shift.d:+.2f}, Kolmogorov-Smirnov {shift.ks:.2f}, p {shift.p:.2g})."
    )


def _tell_separation(audit: Audit) -> Iterator[str]:
    first = next(iter(audit.splits.values()))
    for measure in MEASURES:
        if first.separation[measure] >= max(
            TELLING_AUC, 0.5 + 3 * to_guessing_error(first.normal, first.pneumonia)
        ):
            aucs = {split: facts.separation[measure] for split, facts in audit.splits.items()}
            listed = [f"{auc:.2f} in {_noun(split)}" for split, auc in aucs.items() if not math.isnan(auc)]
            yield (
                f"{measure.capitalize()} alone tells the classes apart with AUC {_join(listed)}: a "
                "classifier must do better than that."
            )


def _tell_blank(audit: Audit) -> Iterator[str]:
    for split, facts in audit.splits.items():
        if n := facts.blank:
            shows = "shows" if n == 1 else "show"
            yield f"{_count(n, f'{_noun(split)} film')} of one grey level {shows} nothing."
