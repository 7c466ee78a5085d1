"""Notes that processes leave each other, at the coordination service of JAX that they have joined."""

import contextlib
import importlib
import json
from typing import Any

from pneumo_keras.runtime.private_apis import find_notes

PIECE = 1 << 20  # bytes that are written at once


class Notes:
    """What all processes can read. A note stays as it was first written."""

    def __init__(self) -> None:
        self._store: Any = find_notes()
        self._error: type[Exception] = importlib.import_module("jax").errors.JaxRuntimeError

    def write(self, key: str, data: bytes) -> None:
        """Leaves a note of any size, for `read`."""
        pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
        for index, piece in enumerate(pieces):
            self._store.key_value_set_bytes(f"{key}/{index}", piece)
        self._store.key_value_set(f"{key}/pieces", str(len(pieces)))

    def read(self, key: str, seconds: float) -> bytes | None:
        """A note that is there or comes within some seconds; None where none does."""
        try:
            count = int(self._store.blocking_key_value_get(f"{key}/pieces", int(seconds * 1000)))
        except self._error as error:
            if "DEADLINE_EXCEEDED" in str(error):
                return None
            raise
        return b"".join(
            self._store.blocking_key_value_get_bytes(f"{key}/{index}", 10_000) for index in range(count)
        )

    def add(self, key: str, note: dict[str, Any]) -> None:
        """Leaves a short note, for `find`, unless somebody was first or nobody is there any more."""
        with contextlib.suppress(self._error):
            self._store.key_value_set(key, json.dumps(note))

    def find(self, key: str) -> dict[str, Any]:
        """A short note; empty where there is none."""
        try:
            return json.loads(self._store.key_value_try_get(key))
        except self._error:
            return {}
