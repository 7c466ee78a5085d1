"""Features that several machines share: parts of entries at an address, behind the store of each machine.

What is read for training lies in a machine's own store. What is missing there comes from here, if it is
here, and what a machine has computed is put here. Nobody locks anything: who writes the same part writes
the same features, and each object appears whole.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from pneumo_keras.arrays import Features
from pneumo_keras.errors import DataError
from pneumo_keras.features.entry import ABOUT, Entry
from pneumo_keras.features.objects import Objects
from pneumo_keras.features.part import CHUNKS, Part, list_parts
from pneumo_keras.features.store import FeatureTable
from pneumo_keras.runtime.progress import show_progress

log = logging.getLogger("pneumo_keras")


class SharedStore:
    """The features at an address, as one job uses them.

    Args:
        address: A path, or an address of fsspec's: `s3://bucket/features`.
        must_answer: Whether a store that cannot be read ends the job. Otherwise it is done without.

    Raises:
        DataError: There is no such kind of address, or its driver is not installed.
    """

    def __init__(self, address: str, *, must_answer: bool = True) -> None:
        self.address, self._must_answer = address, must_answer
        self._is_readable = self._is_writable = True
        self._there: dict[str, set[str]] = {}
        with self._reading():
            self._objects = Objects(address)

    def find(self, entry: Entry) -> list[Part]:
        """The parts of an entry that are there. Whether they are whole is seen when they are read.

        Raises:
            DataError: The store cannot be read.
        """
        return [part for part, size in self._list(entry) if size == part.size]

    def fetch(self, entries: Mapping[str, Entry], missing: Mapping[str, set[int]], title: str) -> None:
        """Writes chunks that are missing into their entries, as far as they are there.

        Args:
            entries: By feature layer.
            missing: Numbers of chunks by feature layer; those that were there are taken out.
            title: Whose features they are, for messages.

        Raises:
            DataError: The store cannot be read.
            OSError: The entries cannot be written.
        """
        wanted = sum(map(len, missing.values()))
        found = [
            (feature_layer, part, size)
            for feature_layer, chunks in missing.items()
            for part, size in self._list(entries[feature_layer])
            if chunks.intersection(part.chunks)
        ]
        with show_progress(f"Features of {title}, from {self.address}", len(found), "parts") as progress:
            for feature_layer, part, size in found:
                self._copy(part, size, missing[feature_layer])
                progress.advance(1)
        left = sum(map(len, missing.values()))
        if found:
            log.info("Features of %s: %d of %d chunks from %s", title, wanted - left, wanted, self.address)

    def announce(self, entry: Entry, title: str) -> None:
        """Says there what an entry holds, for people, before the work: a store that refuses is known by then.

        Args:
            entry: Of which features will be put there.
            title: Whose images these are, in words.

        Raises:
            DataError: The store cannot be read.
        """
        if entry.name not in self._there:
            self._list(entry)
        if self._is_writable and ABOUT not in self._there[entry.name]:
            with self._writing(entry, ABOUT):
                if not self._objects.is_there():
                    log.info("%s is not there and is made: or is a share not mounted?", self.address)
                self._objects.make_folder(entry.name)
                self._objects.write(f"{entry.name}/{ABOUT}", entry.describe(title).encode())

    def publish(self, entry: Entry) -> None:
        """Puts all parts of an announced entry there that are not.

        Raises:
            DataError: The entry is gone.
        """
        for part in list_parts(entry):
            self._put(part)

    def publish_to(self, entry: Entry, chunk: int) -> None:
        """Puts the part there that ends with this chunk, if one does and its chunks are all written.

        Raises:
            DataError: The entry is gone.
        """
        part = Part(entry, chunk // CHUNKS)
        if chunk == part.chunks[-1]:
            self._put(part)

    def _put(self, part: Part) -> None:
        entry = part.entry
        if self._is_writable and part.name not in self._there[entry.name]:
            rows = FeatureTable({"": entry.array.file}, entry.shape[0])[part.rows.start : part.rows.stop]
            with self._writing(entry, part.name):
                self._objects.write(_to_name(part), part.encode(rows))

    def _list(self, entry: Entry) -> list[tuple[Part, int]]:
        """The parts of an entry that are there, with the bytes that they have."""
        sizes = self._list_sizes(entry)
        found = [(part, sizes[part.name]) for part in list_parts(entry) if part.name in sizes]
        whole = {part.name for part, size in found if size == part.size}
        self._there[entry.name] = whole | {ABOUT}.intersection(sizes)
        return found

    def _list_sizes(self, entry: Entry) -> dict[str, int]:
        if self._is_readable:
            with self._reading():
                return self._objects.list_sizes(entry.name)
        return {}

    def _copy(self, part: Part, size: int, missing: set[int]) -> None:
        """Writes the chunks of a part that are missing. A damaged one counts as not there."""
        try:
            features = self._load(part, size)
        except ValueError as error:
            log.warning("%s/%s is damaged (%s) and is not used", self.address, _to_name(part), error)
            features = None
        if features is None:
            self._there[part.entry.name].discard(part.name)
            return
        for chunk, rows in part.split(features):
            if chunk in missing:
                part.entry.write(chunk, rows)
                missing.discard(chunk)

    def _load(self, part: Part, size: int) -> Features | None:
        """The features of a part; None where it has gone or cannot be read.

        Raises:
            ValueError: It is damaged; one of another size is not read.
        """
        part.check_size(size)
        content = self._read(part)
        return None if content is None else part.decode(content)

    def _read(self, part: Part) -> bytes | None:
        if self._is_readable:
            with self._reading(), suppress(FileNotFoundError):
                return self._objects.read(_to_name(part), part.size)
        return None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each driver raises its own
            reason = _to_reason(error)
            if self._must_answer:
                raise DataError(
                    f"compute.store must name a store that can be read. Received: {self.address} ({reason}). "
                    "Check address, driver, credentials and network, or leave compute.store unset"
                ) from error
            self._is_readable = self._is_writable = False
            log.warning("%s cannot be read (%s): it is done without", self.address, reason)

    @contextmanager
    def _writing(self, entry: Entry, name: str) -> Iterator[None]:
        """Notes that an object is there, or says once that none can be written."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (each driver raises its own)
            self._is_writable = False
            log.warning(
                "%s cannot be written (%s): what is computed stays on this machine",
                self.address,
                _to_reason(error),
            )
        else:
            self._there[entry.name].add(name)


def _to_name(part: Part) -> str:
    return f"{part.entry.name}/{part.name}"


def _to_reason(error: Exception) -> str:
    """What a driver says, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200].rstrip(".")
