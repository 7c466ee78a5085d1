"""What is kept for later runs."""

import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pneumo_keras.config import find_cache
from pneumo_keras.errors import RunError
from pneumo_keras.features.store import clear_store, list_entries


def list_features() -> list[dict[str, Any]]:
    """The features that are kept, the ones used longest ago first, as JSON knows them."""
    return [
        {
            **asdict(entry),
            "folder": str(entry.folder),
            "used": datetime.fromtimestamp(entry.used, UTC).astimezone().isoformat(timespec="seconds"),
        }
        for entry in list_entries(find_cache() / "features")
    ]


def clear_cache() -> None:
    """Removes features, prepared films and compiled programs; all can be made again.

    Raises:
        RunError: A job is using some of the features.
    """
    folder = find_cache()
    kept = clear_store(folder / "features")
    for part in ("datasets", "hashes", "jax"):
        shutil.rmtree(folder / part, ignore_errors=True)
    if kept:
        raise RunError(f"{len(kept)} entries of features stay: a job is using them. Try again later.")
