"""How processes that train together meet: JAX joins them."""

import importlib
from concurrent.futures import ThreadPoolExecutor

from pneumo_keras import BACKEND
from pneumo_keras.distributed.process_group import LOST_SECONDS, PART_SECONDS, Company
from pneumo_keras.distributed.topology import Place
from pneumo_keras.errors import BackendError, SettingsError, TrainingError

JOIN_SECONDS = 300  # until all processes must be there: a cluster starts them one after the other


def join(place: Place) -> Company:
    """Waits for all processes of a training. JAX must not have been used before.

    Raises:
        SettingsError: Nobody says where the first process is.
        BackendError: Keras runs on another backend.
        TrainingError: They did not come together.
    """
    check_backend()
    jax = importlib.import_module("jax")
    # It would take SIGTERM for itself.
    jax.config.update("jax_enable_preemption_service", False)
    by_hand = place.coordinator is not None
    try:
        # In a thread, since whoever waits in there hears no signals.
        meeting = ThreadPoolExecutor(1).submit(
            jax.distributed.initialize,
            coordinator_address=place.coordinator,
            num_processes=place.processes or None,
            process_id=place.rank,
            cluster_detection_method="deactivate" if by_hand else None,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=LOST_SECONDS,
            shutdown_timeout_seconds=PART_SECONDS,
        )
        meeting.result()
    except ValueError as error:
        raise SettingsError(
            f"compute.processes={place.processes} needs compute.coordinator and compute.rank where neither "
            f"SLURM, Open MPI nor Kubernetes says them. Received: {error}"
        ) from error
    except (RuntimeError, OSError) as error:
        raise TrainingError(
            "The processes of the training did not meet. Name them by compute.processes, compute.coordinator "
            f"and compute.rank. Received: {' '.join(str(error).split())[:200]}"
        ) from error
    return Company(jax.process_index(), jax.process_count())


def check_backend() -> None:
    """Checks that the backend can join processes.

    Raises:
        BackendError: It cannot.
    """
    if BACKEND != "jax":
        raise BackendError(f"compute.processes needs KERAS_BACKEND=jax. Received: {BACKEND}")
