"""What is kept for later runs."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pneumo_keras.chunked import remove
from pneumo_keras.config import find_cache
from pneumo_keras.errors import RunError
from pneumo_keras.features.store import clear_store, list_entries
from pneumo_keras.printable import to_amount

PARTS = ("features", "datasets", "hashes", "jax")


def list_features() -> list[dict[str, Any]]:
    """The features that are kept, the ones used longest ago first, as JSON knows them."""
    return [
        {**asdict(entry), "folder": str(entry.folder), "used": _to_time(entry.used)}
        for entry in list_entries(find_cache() / "features")
    ]


def clear_cache() -> None:
    """Removes features, prepared films and compiled programs; all can be made again.

    Raises:
        RunError: A job is using some of the features, or something cannot be removed.
    """
    folder = find_cache()
    features, *parts = (folder / part for part in PARTS)
    try:
        kept = clear_store(features) if features.is_dir() else []
        if not features.is_dir():
            parts.append(features)
    except (OSError, NotImplementedError) as error:
        raise RunError(f"{features} cannot be emptied: {error}. Remove it yourself.") from error
    stuck = [path for path in parts if not remove(path)]
    if stuck:
        raise RunError(f"{stuck[0]} cannot be removed. Remove it yourself.")
    if kept:
        used = to_amount(len(kept), "entry", "entries")
        raise RunError(f"A job is using {used} of features, which cannot be removed now. Try again later.")


def _to_time(seconds: float) -> str:
    """In this place; that of a file may be any."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "unknown"
