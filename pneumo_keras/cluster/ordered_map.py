"""Numbered items of work through stages of actors, the results in order: Ray Data does it.

An item is whatever can be pickled. Actors hold what is slow to make, and get a stream of items for which they
give a stream of results, one each. An actor that dies is replaced, and what it had in hand is done again, a
few times.
"""

import contextlib
import importlib
import itertools
import logging
import math
import os
import pickle
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pneumo_keras.cluster.watch import is_rays, to_cluster_error
from pneumo_keras.cluster.worker import NUMBER, RESULT, Failure, Tally, Worker
from pneumo_keras.errors import ClusterError

log = logging.getLogger("pneumo_keras")

BLOCKS = 1000  # as long as blocks are small: Ray Data keeps 12 KB on each where the results are asked for
BLOCK = 32  # items at most: what is done again when an actor dies
PATIENCE = 60.0  # seconds for the first worker to start
BATCH = 8  # items at most that are in the memory of an actor
LISTED = 128  # items that are kept together until a worker asks for them

# Shares of a core as Ray counts them: whatever stages there are, each finds room for at least one actor.
CORE, CORNER = 0.9, 0.1


@dataclass(frozen=True)
class Stage:
    """A step of the work.

    Attributes:
        build: Called once in each actor. What it gives takes a stream of items (or of the results of the
            stage before) and gives one result for each, in their order. Both raise PneumoError for what the
            user can mend. It is pickled: a function of a module, or a `functools.partial` of one.
        whole: Whether an actor takes an accelerator to itself, or a machine where the cluster has none;
            otherwise one core. A machine's actor may use all its cores in threads.
        most: Actors, at most; as many as there is room for if not given.
    """

    build: Callable[[], Callable[[Iterator[Any]], Iterator[Any]]]
    whole: bool = False
    most: int | None = None


def map_in_order(items: Iterable[Any], stages: Sequence[Stage]) -> Generator[Any, None, None]:
    """Passes items through stages on the cluster that is open; only a few results are held here.

    Items are listed before the work begins, and kept by the cluster. Workers work in this process' working
    folder, which all machines must see.

    Args:
        items: Any.
        stages: At least one.

    Returns:
        A result for each item, in their order, each once.

    Raises:
        PneumoError: Whatever a stage raised first, in the order of the items.
        ClusterError: Ray gives up, on a machine without this package, say; or the same items were in the
            hands of one actor after another that died.
    """
    ray = importlib.import_module("ray")
    listing, count = _list_items(ray, items)
    if not count:
        return
    tally = ray.remote(Tally).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
    with (
        _warn_if_nobody_comes(ray, tally),
        contextlib.closing(_draw(_spread(ray, stages, listing, count, tally))) as results,
    ):
        yield from results


def _spread(ray: Any, stages: Sequence[Stage], listing: Sequence[Any], count: int, tally: Any) -> Any:
    """The dataset of the results, of which nothing is computed before it is drawn."""
    size = min(math.ceil(count / BLOCKS), BLOCK)
    rows = _number_rows(count, size)
    sharing = sum(not stage.whole for stage in stages)
    for place, stage in enumerate(stages):
        rows = rows.map_batches(
            Worker,
            batch_size=min(size, BATCH),
            batch_format="pyarrow",
            zero_copy_batch=True,
            fn_constructor_kwargs={
                "build": stage.build,
                "folder": os.getcwd(),  # noqa: PTH109 (a name, as workers need it)
                "listing": None if place else listing,
                "listed": LISTED,
                "threads": os.environ.get("OMP_NUM_THREADS"),
                "stage": place,
                "tally": tally,
            },
            **_size_pool(ray, stage, math.ceil(count / size), sharing),
        )
    return rows


def describe_cluster() -> str:
    """What the open cluster has, in words."""
    ray = importlib.import_module("ray")
    has = ray.cluster_resources()
    words = [(len(_list_machines(ray)), "machine"), (has.get("CPU", 0), "core")]
    words += [(has["GPU"], "accelerator")] if has.get("GPU") else []
    return ", ".join(f"{count:g} {word}{'s' * (count != 1)}" for count, word in words)


def _list_items(ray: Any, items: Iterable[Any]) -> tuple[list[Any], int]:
    """References to lists of items, and how many items there are."""
    listing, count, drawn = [], 0, iter(items)
    while part := list(itertools.islice(drawn, LISTED)):
        listing.append(ray.put(pickle.dumps(part)))
        count += len(part)
    return listing, count


def _number_rows(count: int, size: int) -> Any:
    """Blocks of numbers. Ray Data's own `range` would need a whole free core to make them."""
    pyarrow = importlib.import_module("pyarrow")
    numbers = [range(first, min(first + size, count)) for first in range(0, count, size)]
    blocks = [pyarrow.table({NUMBER: pyarrow.array(part, pyarrow.int64())}) for part in numbers]
    return importlib.import_module("ray.data").from_arrow(blocks)


def _size_pool(ray: Any, stage: Stage, blocks: int, sharing: int) -> dict[str, Any]:
    """How many actors, and what each of them takes where `sharing` stages share the cores."""
    strategy = importlib.import_module("ray.data").ActorPoolStrategy
    has = ray.cluster_resources()
    if stage.whole and has.get("GPU"):
        room, takes = int(has["GPU"]), {"num_gpus": 1, "num_cpus": 0}
    elif stage.whole:
        room, takes = len(_list_machines(ray)), {"num_cpus": CORNER}  # Ray Data spreads them
    else:
        room, takes = math.ceil(has.get("CPU", 1)), {"num_cpus": CORE / sharing}
    most = max(1, min(room, blocks, stage.most or room))
    pool = strategy(size=most) if stage.whole else strategy(min_size=1, max_size=most)
    return {"compute": pool, **takes}


@contextlib.contextmanager
def _warn_if_nobody_comes(ray: Any, tally: Any) -> Iterator[None]:
    """Says so where no worker has started after a while: Ray itself waits in silence."""

    def warn() -> None:
        if ray.get(tally.count_workers.remote()) == 0:
            free, has = (look().get("CPU", 0) for look in (ray.available_resources, ray.cluster_resources))
            log.warning(
                "No worker has started on the cluster yet, which has %.3g of %.3g cores free: the work "
                "waits for room",
                *(free, has),
            )

    timer = threading.Timer(PATIENCE, warn)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _list_machines(ray: Any) -> list[Any]:
    """Those that do work: the head of a cluster often offers no core."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


def _draw(rows: Any) -> Generator[Any, None, None]:
    expected = itertools.count()
    try:
        for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            for number, pickled in zip(table[NUMBER].to_pylist(), table[RESULT].to_pylist(), strict=True):
                result = pickle.loads(pickled)
                if isinstance(result, Failure):
                    raise result.error
                if number != (due := next(expected)):
                    raise ClusterError(
                        f"Ray must give each result once, in order. Received: {number} for {due}"
                    )
                yield result
    except Exception as error:
        if is_rays(error):  # and not a stage, which means nobody but us
            raise to_cluster_error(error) from error
        raise
