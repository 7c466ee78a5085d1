"""Where a process stands among those that train together."""

import re
from dataclasses import dataclass

MOST_PROCESSES = 1 << 16
ADDRESS = re.compile(r"\S+:[1-9]\d{0,4}")


@dataclass(frozen=True)
class Place:
    """A place among processes.

    Attributes:
        processes: How many; 0 for as many as the cluster says.
        coordinator: host:port of the first one; None where the cluster says so.
        rank: Of this one; None where the cluster says so.

    Raises:
        ValueError: They do not go together.
    """

    processes: int
    coordinator: str | None
    rank: int | None

    def __post_init__(self) -> None:
        by_hand = {self.coordinator is not None, self.rank is not None}
        if len(by_hand) > 1 or (True in by_hand and self.processes < 2):
            raise ValueError(
                "compute.coordinator and compute.rank go together, with compute.processes of at least 2"
            )
        if self.rank is not None and self.rank >= self.processes:
            raise ValueError(
                f"compute.rank must be below compute.processes, {self.processes}. Received: {self.rank}"
            )
        if self.coordinator is not None and not ADDRESS.fullmatch(self.coordinator):
            shown = repr(self.coordinator)[:200]
            raise ValueError(f"compute.coordinator must look like 10.0.0.1:7777. Received: {shown}")
