"""Items of work through stages of actors, the results in order: Ray Data does it.

An item is whatever can be pickled. Actors keep what is slow to build, and map a stream of items to a stream
of results, one each. An actor that dies is replaced, and its block of items is done again, a few times.
"""

import importlib
import logging
import math
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pneumo_keras.cluster.connection import list_machines
from pneumo_keras.errors import ClusterError, PneumoError

log = logging.getLogger("pneumo_keras")

ITEM = "item"  # the column of pickled items and results
RETRIES = 4  # of a block; Ray Data would retry one that kills its actors forever
WAIT_SECONDS = 60.0  # for the first result, until the user is warned that the cluster may be busy

# CPUs that stages of either kind request, below 1 in all so that each gets at least one actor.
CORE_STAGE_CPUS, MACHINE_STAGE_CPUS = 0.9, 0.1


@dataclass(frozen=True)
class Stage:
    """A step of the work.

    Attributes:
        build: Builds, in each actor, what maps a stream of items (or of the results of the stage before) to
            one result each, in their order. Both raise PneumoError for what the user can solve. It is
            pickled: a function of a module, or a `functools.partial` of one.
        whole: Whether an actor takes a whole accelerator, or a machine where the cluster has none; if
            not, one core.
        most: Actors, at most; as many as the cluster can take if not given.
    """

    build: Callable[[], Callable[[Iterator[Any]], Iterator[Any]]]
    whole: bool = False
    most: int | None = None


@dataclass(frozen=True)
class Failure:
    """Replaces a result, where a stage raised what the user can solve."""

    error: Exception


def map_in_order(
    items: Sequence[Any], stages: Sequence[Stage], *, block: int = 1
) -> Generator[Any, None, None]:
    """Passes items through stages on the open cluster, and yields a result for each, in their order.

    The cluster keeps the items, and this process only a few results. Workers run in the working folder of
    this process, which all machines must see.

    Args:
        items: Any.
        stages: At least one.
        block: Items that go to an actor together.

    Raises:
        PneumoError: What a stage raised first, in the order of the items.
    """
    if not items:
        return
    ray = importlib.import_module("ray")
    starts = range(0, len(items), block)
    tables = (_to_table(items[start : start + block]) for start in starts)
    rows = importlib.import_module("ray.data").from_arrow([*tables])
    sharing = sum(not stage.whole for stage in stages)
    here, threads = os.getcwd(), os.environ.get("OMP_NUM_THREADS")  # noqa: PTH109
    for stage in stages:
        # Ray 2.60 announces that `max_task_retries` goes with 2.64, and has no replacement.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            rows = rows.map_batches(
                Worker,
                batch_size=block,
                batch_format="pyarrow",
                zero_copy_batch=True,
                fn_constructor_args=(stage.build, here, threads),
                max_task_retries=RETRIES,
                **_size_pool(ray, stage, len(starts), sharing),
            )
    waiting = threading.Timer(WAIT_SECONDS, _log_waiting, [ray])
    waiting.daemon = True
    waiting.start()
    try:
        for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            waiting.cancel()
            yield from _read(table)
    finally:
        waiting.cancel()


class Worker:
    """A stage in an actor, which maps tables of pickled items.

    Args:
        build: See `Stage`.
        folder: The working folder.
        threads: For libraries that read OMP_NUM_THREADS; None where it is unset.
    """

    def __init__(
        self, build: Callable[[], Callable[[Iterator[Any]], Iterator[Any]]], folder: str, threads: str | None
    ) -> None:
        self._work: Callable[[Iterator[Any]], Iterator[Any]]
        if threads is None:  # Ray sets 1, and with fewer threads last digits may differ
            os.environ.pop("OMP_NUM_THREADS", None)
        try:
            _enter(folder)
            self._work = build()
        except (PneumoError, OSError) as error:  # or the reason would be lost with the actor
            failure = Failure(error)
            self._work = lambda items: iter([failure])

    def __call__(self, table: Any) -> Any:
        """Results of a block of items; a failure is the last one."""
        results = []
        try:
            results.extend(self._work(_read(table)))
        except (PneumoError, OSError) as error:
            results.append(Failure(error))
        return _to_table(results)


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise ClusterError(
            f"The working folder must be there on every machine of the cluster. Received: {folder} "
            f"({error.strerror}). Start the command in a folder that all share."
        ) from error


def _to_table(items: Iterable[Any]) -> Any:
    pyarrow = importlib.import_module("pyarrow")
    pickled = [pickle.dumps(item, pickle.HIGHEST_PROTOCOL) for item in items]
    return pyarrow.table({ITEM: pyarrow.array(pickled, pyarrow.large_binary())})


def _read(table: Any) -> Iterator[Any]:
    for pickled in table[ITEM]:
        item = pickle.loads(pickled.as_buffer())
        if isinstance(item, Failure):
            raise item.error
        yield item


def _size_pool(ray: Any, stage: Stage, blocks: int, sharing: int) -> dict[str, Any]:
    """How many actors, and what each of them takes where `sharing` stages share the cores."""
    strategy = importlib.import_module("ray.data").ActorPoolStrategy
    has = ray.cluster_resources()
    if stage.whole and has.get("GPU"):
        capacity, takes = int(has["GPU"]), {"num_gpus": 1, "num_cpus": 0}
    elif stage.whole:
        capacity, takes = len(list_machines(ray)), {"num_cpus": MACHINE_STAGE_CPUS}  # Ray Data spreads them
    else:
        capacity, takes = math.ceil(has.get("CPU", 1)), {"num_cpus": CORE_STAGE_CPUS / sharing}
    most = max(1, min(capacity, blocks, stage.most or capacity))
    pool = strategy(size=most) if stage.whole else strategy(min_size=1, max_size=most)
    return {"compute": pool, **takes}


def _log_waiting(ray: Any) -> None:
    """Ray itself logs nothing while the cluster is busy with other work."""
    free, has = (look().get("CPU", 0) for look in (ray.available_resources, ray.cluster_resources))
    log.info("No result yet: the cluster has %.3g of %.3g cores free", free, has)
