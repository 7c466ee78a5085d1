"""How splits share patients, in sentences."""

from collections.abc import Mapping

from pneumo_keras.arrays import SPLIT_NAMES
from pneumo_keras.data.patients import are_numbered_anew, count_shared
from pneumo_keras.data.sources import ImageNames
from pneumo_keras.reporting.numbers import format_percent


def describe_sharing(split: str, names: ImageNames, others: Mapping[str, ImageNames]) -> str:
    """Says how many images of a split show patients of whom others hold images; "" where nothing is known.

    Args:
        split: Its name.
        names: What is known of its images.
        others: The same of other splits, by their names.
    """
    if not others or any(part.patients is None for part in (names, *others.values())):
        return ""
    own, among = SPLIT_NAMES[split], " and ".join(SPLIT_NAMES[other] for other in others)
    shared, n = count_shared(names, list(others.values())), len(names.patients or ())
    if shared is None:
        return f"Patients of the {own} are numbered anew: whether the {among} show them, too, is not known."
    if not shared.images:
        return (
            f"Of the {shared.known:,} {own} whose patient is known, none shows a patient who is known among "
            f"the {among}."
        )
    least = "At least " if are_numbered_anew([names, *others.values()]) else ""
    return (
        f"{least}{shared.images:,} of {n:,} {own} ({format_percent(shared.images / n)}) show a patient whom "
        f"the {among} show, too: figures on them are flattered by that."
    )
