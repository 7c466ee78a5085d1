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
TRIES = 5  # of a batch; Ray Data would give one that kills its actors to the next for ever


@dataclass(frozen=True)
class Failure:
    """Stands for a result where a stage raised what the user can mend."""

    error: Exception


class Tally:
    """An actor that outlives those that work: how many there were, how often a batch was begun in vain."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[int, int]] = Counter()
        self._workers = 0

    def greet(self) -> None:
        """Counts a worker that has started."""
        self._workers += 1

    def count_workers(self) -> int:
        """How many have started, whether they live or not."""
        return self._workers

    def begin(self, stage: int, first: int) -> int:
        """Counts once more for the batch of a stage that begins with this number; from 1."""
        self._begun[stage, first] += 1
        return self._begun[stage, first]

    def end(self, stage: int, first: int) -> None:
        """Forgets a batch that went well."""
        del self._begun[stage, first]


class Worker:
    """A stage in an actor.

    Args:
        build: Of the stage.
        folder: Where names are relative to.
        listing: References to pickled lists of items, for the first stage.
        listed: Items in each list.
        threads: For libraries that read OMP_NUM_THREADS; None for as many as they like.
        stage: Number of the stage.
        tally: The actor that counts; a `Tally`.
    """

    def __init__(
        self,
        build: Callable[[], Callable[[Iterator[Any]], Iterator[Any]]],
        folder: str,
        listing: Sequence[Any] | None,
        listed: int,
        threads: str | None,
        stage: int,
        tally: Any,
    ) -> None:
        self._listing, self._listed = listing, listed
        self._stage, self._tally, self._get = stage, tally, importlib.import_module("ray").get
        tally.greet.remote()
        self._kept: tuple[int, list[Any]] = (-1, [])  # the last of the lists
        if threads is None:  # Ray says 1, and with fewer threads last digits may be others
            os.environ.pop("OMP_NUM_THREADS", None)
        try:
            _enter(folder)
            self._work = build()
        except (PneumoError, OSError) as error:  # an actor that cannot be made would take its reason along
            self._work = functools.partial(_fail, Failure(error))

    def __call__(self, table: Any) -> Iterator[Any]:
        """Results of a batch of items, each as a table of one row; a failure is the last one."""
        numbers = table[NUMBER].to_pylist()
        taken = iter(numbers)
        try:
            self._begin(numbers)
            for result in self._work(self._read(table)):
                yield _to_table(next(taken), result)
            self._tally.end.remote(self._stage, numbers[0])
        except (PneumoError, OSError) as error:
            yield _to_table(next(taken, numbers[-1]), Failure(error))

    def _begin(self, numbers: Sequence[int]) -> None:
        if self._get(self._tally.begin.remote(self._stage, numbers[0])) > TRIES:
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
