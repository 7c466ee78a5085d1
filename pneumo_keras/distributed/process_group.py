"""Processes that fit together: JAX joins them, averages their gradients and ends those that lost another one.

They communicate by `jax.experimental.multihost_utils`. Its collectives can neither be interrupted by a signal
nor wait for hours on a GPU, while the first process extracts features alone. So each is preceded by a barrier
of JAX's coordination service. Its preemption service is not used: it handles only SIGTERM, and takes it from
Python also where no step of a fit would look for it.
"""

import contextlib
import importlib
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from pneumo_keras.errors import SettingsError, TrainingError
from pneumo_keras.runtime.private_apis import await_all_processes
from pneumo_keras.runtime.signals import find_signal

INITIALIZE_SECONDS = 300  # until all processes must be there: a cluster starts them one after the other
LOST_SECONDS = 30  # without a heartbeat, after which a process is lost
SHUTDOWN_SECONDS = 60
LINGER_SECONDS = 3  # that the first process waits: its end ends the others, which first print why they end


class ProcessGroup:
    """The processes of one training, joined.

    Attributes:
        rank: Rank of this process. The first one, 0, writes the run.
        count: Number of all processes.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        self._jax = importlib.import_module("jax")
        self._multihost = importlib.import_module("jax.experimental.multihost_utils")

    def check_same(self, stage: str, values: Mapping[str, Any] | None) -> bool:
        """Compares values of all processes with those of the first one.

        Args:
            stage: Name of a stage of the training, another one in each call.
            values: By their names in words; None in the first process where there is nothing to do.

        Returns:
            Whether there is something to do.

        Raises:
            TrainingError: They differ; raised in all processes.
        """
        first, *others = map(json.loads, self._gather(stage, json.dumps(values).encode()))
        for rank, other in enumerate(others, start=1):
            for name, value in (first or {}).items():
                if other.get(name) != value:
                    raise TrainingError(
                        f"All processes of a training must have the same {name}. Received: "
                        f"{str(other.get(name))[:100]} in process {rank}, {str(value)[:100]} in the first. "
                        "Start all with the same command, on identical hosts"
                    )
        return first is not None

    def broadcast(self, stage: str, data: bytes) -> bytes:
        """The data of the first process, in all of them."""
        self._wait(stage)
        size = int(self._multihost.broadcast_one_to_all(np.int32(len(data))))
        array = np.frombuffer(data if self.rank == 0 else bytes(size), np.uint8)
        return self._multihost.broadcast_one_to_all(array).tobytes()

    def find_stop(self) -> int:
        """The number of a signal that any process has received, the same in all; 0 for none.

        All processes must call it after the same batch.
        """
        return int(self._multihost.process_allgather(np.int32(find_signal())).max())

    def shutdown(self) -> None:
        """Waits for all processes, and leaves the group."""
        self._jax.distributed.shutdown()

    @contextlib.contextmanager
    def explain_loss(self) -> Iterator[None]:
        """Gives JAX the time to find out which process was lost, where a connection breaks.

        Raises:
            TrainingError: It does not.
        """
        try:
            yield
        except self._jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise
            time.sleep(LOST_SECONDS * 1.5)
            raise TrainingError(
                "The connection to another process of the training broke. Continue with --resume. Received: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        except BaseException:
            time.sleep(0 if self.rank else LINGER_SECONDS)
            raise

    def _gather(self, stage: str, data: bytes) -> list[bytes]:
        self._wait(stage)
        sizes = self._multihost.process_allgather(np.int32(len(data)))
        rows = self._multihost.process_allgather(np.frombuffer(data.ljust(sizes.max()), np.uint8))
        return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]

    def _wait(self, stage: str) -> None:
        """Waits for the others, in a thread, since signals cannot interrupt the wait itself."""
        ThreadPoolExecutor(1).submit(await_all_processes, stage).result()


def initialize(processes: int, coordinator: str | None, rank: int | None) -> ProcessGroup:
    """Waits for all processes of a training. JAX must not have been used before.

    Args:
        processes: How many; 0 where the cluster defines it.
        coordinator: host:port of the first one; None where the cluster defines it.
        rank: Rank of this process; None where the cluster defines it.

    Raises:
        SettingsError: The address of the first process is unknown.
        TrainingError: The processes did not connect, or have different numbers of devices.
    """
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_preemption_service", False)
    try:
        initializing = ThreadPoolExecutor(1).submit(  # as in `_wait`
            jax.distributed.initialize,
            coordinator_address=coordinator,
            num_processes=processes or None,
            process_id=rank,
            cluster_detection_method="deactivate" if coordinator else None,
            initialization_timeout=INITIALIZE_SECONDS,
            heartbeat_timeout_seconds=LOST_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
        initializing.result()
    except ValueError as error:
        raise SettingsError(
            f"compute.processes={processes} needs compute.coordinator and compute.rank where neither "
            f"SLURM, Open MPI nor Kubernetes defines them. Received: {error}"
        ) from error
    except (RuntimeError, OSError) as error:
        raise TrainingError(
            "The processes of the training did not connect. Name them by compute.processes, "
            f"compute.coordinator and compute.rank. Received: {' '.join(str(error).split())[:200]}"
        ) from error
    here, everywhere, count = jax.local_device_count(), jax.device_count(), jax.process_count()
    if here * count != everywhere:
        raise TrainingError(
            f"All processes must have the same number of devices. Received: {here} of {everywhere} in this "
            f"one, of {count} processes"
        )
    return ProcessGroup(jax.process_index(), count)
