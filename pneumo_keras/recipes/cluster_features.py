"""Features computed on the machines of a cluster, each of which gets the frozen network once.

Nothing of Keras is imported with this module: in an actor, its backend starts first.
"""

import functools
import importlib
import logging
import pickle
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

from pneumo_keras.arrays import Features
from pneumo_keras.cluster.connection import describe_cluster, open_cluster
from pneumo_keras.cluster.ordered_map import Stage, map_in_order
from pneumo_keras.config import find_cache
from pneumo_keras.errors import ClusterError
from pneumo_keras.runtime.backend import BACKEND, describe_device, start_backend

log = logging.getLogger("pneumo_keras")

CHUNKS_PER_TASK = 16  # images are read ahead within a task, and 512 of them are lost with an actor
FEW = 32  # chunks: they are computed here before an actor has compiled the network


def run_on_cluster(job: Any, chunks: Sequence[int], *, engine: str) -> Generator[Features, None, None]:
    """Runs a `features.extract.FeatureJob` on a cluster, or here if there are only a few chunks.

    Raises:
        ClusterError: There is no cluster, its machines compute differently from this one, or Ray fails.
        DataError: The images cannot be read on one of them.
    """
    if len(chunks) <= FEW:
        yield from job.run(chunks)
        return
    with open_cluster():
        log.info("Features are computed on %s", describe_cluster())
        dumps = importlib.import_module("ray.cloudpickle").dumps  # views hold functions of functions
        build = functools.partial(build_job, dumps(job), engine, describe_computing(engine))
        tasks = [chunks[start : start + CHUNKS_PER_TASK] for start in range(0, len(chunks), CHUNKS_PER_TASK)]
        for features in map_in_order(tasks, [Stage(build, whole=True)]):
            yield from features


def build_job(
    pickled: bytes, engine: str, expected: Mapping[str, str]
) -> Callable[[Iterator[Sequence[int]]], Iterator[list[Features]]]:
    """In an actor: tasks of several chunks -> their features, chunk by chunk.

    `expected` is what `describe_computing` gave where the job was started.

    Raises:
        BackendError: Keras cannot start there.
        ClusterError: It computes differently there.
    """
    start_backend(find_cache())
    check_alike(describe_computing(engine), expected)
    job = pickle.loads(pickled)
    return lambda tasks: (list(job.run(task)) for task in tasks)


def describe_computing(engine: str) -> dict[str, str]:
    """Backend, device and versions, of which others may compute differently."""
    from pneumo_keras.features import extract, views

    return {
        "backend": BACKEND,
        "device": describe_device(),
        **extract.list_versions(engine),
        **views.list_drawing_versions(),
    }


def check_alike(found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """ClusterError where this machine computes differently: its features would have the address of others."""
    for name, value in expected.items():
        if found.get(name) != value:
            raise ClusterError(
                f"All machines of a cluster must compute the same. Received: {name} {value} where the job "
                f"was started, {found.get(name, 'none')} on {socket.gethostname()}. Install the same "
                "packages, and start the job on a machine like those that compute."
            )
