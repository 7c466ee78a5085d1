"""What is kept for later runs."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pneumo_keras.config import find_cache
from pneumo_keras.errors import RunError
from pneumo_keras.features.store import list_entries
from pneumo_keras.storage.kept import KINDS
from pneumo_keras.storage.printable import to_amount


def list_features() -> list[dict[str, Any]]:
    """The features that are kept, the ones used longest ago first, as JSON knows them."""
    return [
        {**asdict(entry), "folder": str(entry.folder), "used": _to_time(entry.used)}
        for entry in list_entries(find_cache() / "features")
    ]


def list_kinds() -> list[dict[str, Any]]:
    """Of each kind of what is kept how much there is, and when it was last used, as JSON knows it."""
    kinds = []
    for kind in KINDS:
        items = kind.list_items(find_cache()).values()
        last = max((item.used for item in items), default=None)
        kinds.append(
            {
                "kind": kind.title,
                "folder": str(find_cache() / kind.folder),
                "number": len(items),
                "size": sum(item.size for item in items),
                "used": None if last is None else _to_time(last),
            }
        )
    return kinds


def clear_cache() -> None:
    """Removes features, prepared images, hashes and compiled programs; all can be made again.

    Raises:
        RunError: A job is using some of it, or something cannot be removed.
    """
    stuck, used = [], []
    for kind in KINDS:
        folder = find_cache() / kind.folder
        try:
            kept = kind.clear(find_cache())
        except (OSError, NotImplementedError) as error:
            raise RunError(f"{folder} cannot be emptied: {error}. Remove it yourself.") from error
        if kept and kind.has_holds and folder.is_dir():
            used.append(f"{to_amount(len(kept), 'entry', 'entries')} of {kind.title}")
        else:
            stuck += kept
    if stuck:
        raise RunError(f"{stuck[0]} cannot be removed. Remove it yourself.")
    if used:
        parts = " and ".join(used)
        raise RunError(f"A job is using {parts}, which cannot be removed now. Try again later.")


def _to_time(seconds: float) -> str:
    """In this place; that of a file may be any."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "unknown"
