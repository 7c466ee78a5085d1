"""What stands inside an actor: items in, results out, as rows of numbered bytes."""

import functools
import importlib
import os
import pickle
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pneumo_keras.errors import ClusterError, PneumoError

NUMBER, RESULT = "number", "result"  # columns
TRIES = 5  # of a block; Ray Data would give one that kills its actors to the next for ever


@dataclass(frozen=True)
class Failure:
    """Stands for a result where a stage raised what the user can mend."""

    error: Exception


class Tally:
    """An actor that outlives those that work, and knows how often each block of a stage was begun."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[int, int]] = Counter()

    def begin(self, stage: int, block: int) -> int:
        """Counts one more time; the time it is, from 1."""
        self._begun[stage, block] += 1
        return self._begun[stage, block]


class Worker:
    """A stage in an actor.

    Args:
        build: Of the stage.
        folder: Where names are relative to.
        listing: References to pickled lists of items, for the first stage.
        listed: Items in each list.
        threads: For libraries that read OMP_NUM_THREADS; None for as many as they like.
        begin: Number of the first item of a block -> a reference to how often it was begun.
    """

    def __init__(
        self,
        build: Callable[[], Callable[[Iterator[Any]], Iterator[Any]]],
        folder: str,
        listing: Sequence[Any] | None,
        listed: int,
        threads: str | None,
        begin: Callable[[int], Any],
    ) -> None:
        self._listing, self._listed = listing, listed
        self._begin, self._get = begin, importlib.import_module("ray").get
        self._kept: tuple[int, list[Any]] = (-1, [])  # the last of the lists
        if threads is None:  # Ray says 1, and with fewer threads last digits may be others
            os.environ.pop("OMP_NUM_THREADS", None)
        try:
            _enter(folder)
            self._work = build()
        except (PneumoError, OSError) as error:  # an actor that cannot be made would take its reason along
            self._work = functools.partial(_fail, Failure(error))

    def __call__(self, table: Any) -> Iterator[Any]:
        """Results of a block of items, each as a table of one row; a failure is the last one."""
        numbers = table[NUMBER].to_pylist()
        taken = iter(numbers)
        try:
            self._check_deaths(numbers)
            for result in self._work(self._read(table)):
                yield _to_table(next(taken), result)
        except (PneumoError, OSError) as error:
            yield _to_table(next(taken, numbers[-1]), Failure(error))

    def _check_deaths(self, numbers: Sequence[int]) -> None:
        if self._get(self._begin(numbers[0])) > TRIES:
            raise ClusterError(
                f"{TRIES} workers of the cluster died, one after another, over items {numbers[0]:,} to "
                f"{numbers[-1]:,} of the work, counted from 0. Ray's logs say how: mostly for want of memory."
            )

    def _read(self, table: Any) -> Generator[Any, None, None]:
        if self._listing is not None:
            for number in table[NUMBER].to_pylist():
                yield self._get_item(self._listing, number)
            return
        for pickled in table[RESULT]:
            result = pickle.loads(pickled.as_buffer())
            if isinstance(result, Failure):
                raise result.error
            yield result

    def _get_item(self, listing: Sequence[Any], number: int) -> Any:
        place, row = divmod(number, self._listed)
        if self._kept[0] != place:
            self._kept = place, pickle.loads(self._get(listing[place]))
        return self._kept[1][row]


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise ClusterError(
            f"The working folder must be there on every machine of the cluster. Received: {folder} "
            f"({error.strerror}). Call from a folder that all share."
        ) from error


def _fail(failure: Failure, items: Iterator[Any]) -> Iterator[Any]:
    yield failure


def _to_table(number: int, result: Any) -> Any:
    pyarrow = importlib.import_module("pyarrow")
    pickled = pyarrow.array([pickle.dumps(result, pickle.HIGHEST_PROTOCOL)], pyarrow.large_binary())
    return pyarrow.table({NUMBER: [number], RESULT: pickled})
