"""Features that several machines share: entries at an address, behind the store of each machine.

Training reads from the store of its machine. What is missing there is fetched from the address, if it is
there, and what a machine has computed is put there, in the same files. Nothing is locked: concurrent writers
write identical content, and each file is written atomically.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pneumo_keras.errors import DataError
from pneumo_keras.features.store import ABOUT, Entry
from pneumo_keras.storage.files import replace_atomically

log = logging.getLogger("pneumo_keras")


class SharedStore:
    """The features at an address, a path or one of fsspec's such as `s3://bucket/features`.

    A store that cannot be read, without its driver for instance, ends the job with a DataError if it is
    `required`. If it is not, the job continues without it.
    """

    def __init__(self, address: str, *, required: bool = True) -> None:
        self.address, self._required = address, required
        self._is_readable = self._is_writable = True
        self._files: Any = None
        self._root = ""
        with self._reading():
            import fsspec  # 0.1 s, for those who share

            self._files, self._root = fsspec.core.url_to_fs(address)

    def has(self, entry: Entry) -> bool:
        """Whether an entry is there; whether it is undamaged is checked after it was fetched."""
        if self._is_readable:
            with self._reading(), contextlib.suppress(FileNotFoundError):
                self._files.invalidate_cache()  # others write there
                found = self._files.info(self._to_address(entry, entry.array.file.name))
                return found["type"] == "file" and found["size"] == entry.array.size
        return False

    def fetch(self, entry: Entry, title: str) -> None:
        """Copies an entry to this machine, if it is there; the title names the images, for the log."""
        if not self.has(entry):
            return
        log.info("Features of %s: from %s", title, self.address)
        with self._reading():
            with replace_atomically(entry.array.file) as unfinished:
                self._files.get_file(self._to_address(entry, entry.array.file.name), str(unfinished))
            entry.array.allocate()  # for the case that it is another file of the same size

    def put(self, entry: Entry) -> None:
        """Copies an entry from this machine, or warns once that this cannot be done."""
        if not self._is_writable:
            return
        try:
            self._make_folder(entry.name)
            for file in (entry.folder / ABOUT, entry.array.file):
                self._put_file(file, self._to_address(entry, file.name))
        except Exception as error:  # noqa: BLE001 (each driver raises its own)
            self._is_writable = False
            log.warning(
                "%s cannot be written (%s): what is computed stays on this machine",
                self.address,
                _to_reason(error),
            )

    def _to_address(self, entry: Entry, name: str) -> str:
        return f"{self._root}/{entry.name}/{name}"

    @property
    def _is_local(self) -> bool:
        return "file" in self._files.protocol

    def _make_folder(self, name: str) -> None:
        """Makes a folder where one is needed, never a bucket."""
        if self._is_local:
            if not Path(self._root).is_dir():
                log.info("%s is not there and is made: or is a share not mounted?", self.address)
            Path(self._root, name).mkdir(parents=True, exist_ok=True)
        else:
            with contextlib.suppress(FileExistsError):
                self._files.mkdir(f"{self._root}/{name}", create_parents=False)

    def _put_file(self, file: Path, address: str) -> None:
        if self._is_local:
            with replace_atomically(Path(address)) as unfinished:
                shutil.copyfile(file, unfinished)
        else:
            self._files.put_file(str(file), address)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each driver raises its own
            reason = _to_reason(error)
            if self._required:
                raise DataError(
                    f"compute.store must name a store that can be read. Received: {self.address} ({reason}). "
                    "Check address, driver, credentials and network, or leave compute.store unset"
                ) from error
            self._is_readable = self._is_writable = False
            log.warning("%s cannot be read (%s): continuing without it", self.address, reason)


def _to_reason(error: Exception) -> str:
    """A driver's message, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200].rstrip(".")
