"""A training that several processes share: who does which part of it."""

import contextlib
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pneumo_keras.errors import PneumoError

if TYPE_CHECKING:
    from pneumo_keras.config import Config
    from pneumo_keras.distributed.process_group import Company

log = logging.getLogger("pneumo_keras")


def find_shared(name: str, overrides: tuple[str, ...], run: Path | None) -> "Config | None":
    """The settings of a training that several processes share; None where one does it all.

    Args:
        name: Of the configuration.
        overrides: As the user gave them.
        run: Folder of a run whose settings count instead of those named.
    """
    from pneumo_keras.config import load_config

    written = run / "config.toml" if run else None
    with contextlib.suppress(PneumoError):  # whoever reads them next says so
        config = load_config(str(written) if written and written.is_file() else name, overrides)
        return None if config.compute.processes == 1 else config
    return None


def to_next_step(run: Path | None) -> str:
    """How to go on with a training that several processes share.

    Args:
        run: Its folder; None where only the first process knows it.
    """
    folder = shlex.quote(str(run)) if run else "RUN"
    return f"Start all of them again, with --run {folder} --resume, to go on after the last checkpoint."


def watch_worker(arguments: Sequence[str], run: Path | None) -> None:
    """Lets another process do this command, and ends as it does.

    Args:
        arguments: Of the command line.
        run: Folder of the run, if it is named there.

    Raises:
        SystemExit: Always, with the status of the other one.
        BackendError: The backend cannot join processes.
    """
    from pneumo_keras.distributed.launcher import watch
    from pneumo_keras.distributed.meeting import check_backend

    check_backend()
    raise SystemExit(watch(arguments, next_step=to_next_step(run)))


def join_company(config: "Config") -> "Company":
    """Starts the backend together with all other processes."""
    from pneumo_keras.config import find_cache
    from pneumo_keras.distributed.meeting import join
    from pneumo_keras.distributed.topology import Place
    from pneumo_keras.runtime.backend import start_backend

    compute = config.compute
    # The first one speaks for all, once it is known.
    log.setLevel(logging.WARNING if compute.rank != 0 else logging.INFO)
    start_backend(find_cache())
    company = join(Place(compute.processes, compute.coordinator, compute.rank))
    log.setLevel(logging.WARNING if company.rank else logging.INFO)
    log.info("%d processes train together; this is the first", company.count)
    return company


def train_beside(config: "Config", company: "Company") -> None:
    """The part of every process but the first one, which prints nothing."""
    from pneumo_keras.config import forget_place
    from pneumo_keras.recipes.beside import train_beside

    train_beside(forget_place(config), company)
