"""A fit on all devices that JAX has, here and elsewhere: each has all weights and its share of a batch."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from pneumo_keras.distributed.process_group import ProcessGroup
from pneumo_keras.errors import SettingsError
from pneumo_keras.runtime.backend import count_devices


class DataParallel:
    """Devices that share every step of a fit.

    Args:
        group: The processes whose devices these are; None for this one alone.

    Attributes:
        group: See above.
        count: Number of the devices.
    """

    def __init__(self, group: ProcessGroup | None = None) -> None:
        self.group = group
        self._jax = importlib.import_module("jax")
        self.count = count_devices()
        self._distribution = keras.distribution.DataParallel(
            devices=self._jax.devices(), auto_shard_dataset=False
        )

    def choose_batch_rows(self, batch_size: int) -> slice:
        """The rows of each batch that this process provides.

        Raises:
            SettingsError: The batch cannot be shared evenly.
        """
        if batch_size % self.count:
            below = batch_size // self.count * self.count
            sizes = f"{below} or {below + self.count}" if below else str(self.count)
            raise SettingsError(
                f"training.batch_size must be a multiple of the {self.count} devices that share a step. "
                f"Received: {batch_size}. Take {sizes}, or let JAX see fewer devices"
            )
        size = batch_size // self._jax.process_count()
        first = self._jax.process_index() * size
        return slice(first, first + size)

    def scope(self) -> Any:
        """Inside this `with` block, Keras places what it makes on all devices."""
        return self._distribution.scope()

    @contextmanager
    def replicate(self, variables: Sequence[Any]) -> Iterator[None]:
        """Inside the `with` block, variables are replicated on all devices; afterwards they are on one.

        Args:
            variables: Made outside of `scope`, with the same values in all processes.
        """
        mesh = self._distribution.device_mesh.backend_mesh
        everywhere = self._jax.sharding.NamedSharding(mesh, self._jax.sharding.PartitionSpec())
        for variable in variables:
            value = np.asarray(variable.value)
            variable.assign(self._jax.make_array_from_process_local_data(everywhere, value))
        yield
        for variable in variables:
            variable.assign(np.asarray(variable.value))


def find_devices(group: ProcessGroup | None) -> DataParallel | None:
    """All devices, where JAX has several or there are several processes; None where there is only one."""
    return None if group is None and count_devices() == 1 else DataParallel(group)
