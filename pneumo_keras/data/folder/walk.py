"""All images below a folder of a class: links are followed, and nothing is left out without a word."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from pneumo_keras.data.kinds import PassedOver, is_image_file
from pneumo_keras.errors import DataError

log = logging.getLogger("pneumo_keras")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's own: hidden, or left by a Mac in an archive."""
    return name.startswith(".") or name == "__MACOSX"


def walk_images(folder: Path) -> Iterator[Path]:
    """All images below a folder but hidden ones: those of each folder by name, before those of folders in it.

    Raises:
        OSError: A folder cannot be read; it is named.
        DataError: A folder is met twice, since a link leads to it or to one that holds it.
    """
    others = PassedOver()
    seen = {_identify(parent) for parent in folder.resolve().parents}
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        own = _identify(Path(parent))
        if own in seen:
            raise DataError(
                f"{folder}: no folder may be met twice. Received: {parent}, a link to one that holds it or "
                "that is listed already, or listed through a link. Remove the link."
            )
        seen.add(own)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            path = Path(parent) / name
            if is_hidden(name):
                continue
            if is_image_file(path):
                yield path
            else:
                others.add(path)
    if others.count:
        log.warning("%s", others.describe())


def _identify(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _raise(error: OSError) -> None:
    raise error
