"""Errors that a user can cause and solve. The command line prints each as one line, exit status 1."""

import errno
import math

from pneumo_keras.storage.printable import to_printable


class PneumoError(Exception):
    """One line for the user: the setting or file, the rule, the value and the next step."""

    def __str__(self) -> str:
        """The line. Names and values from files cannot break it or control a terminal."""
        return to_printable(super().__str__())


class BackendError(PneumoError):
    """The Keras backend is missing, unsuitable or was chosen too late."""


class SettingsError(PneumoError):
    """A setting is unknown, ill-typed or out of its range."""


class DataError(PneumoError):
    """Images or labels are missing, damaged or not what they claim to be."""


class DownloadError(DataError):
    """A file could not be fetched completely and with the right checksum."""


class ModelError(PneumoError):
    """Weights or a saved model do not fit the network, or cannot be read."""


class RunError(PneumoError):
    """A run folder is in use, unfinished or not a run."""


class TrainingError(PneumoError):
    """A fit or a distributed training failed: a loss is not finite, or processes were lost or differ."""


class ExportError(PneumoError):
    """An exported classifier does not score as the run does, or its file is named differently."""


class ClusterError(PneumoError):
    """A cluster cannot be reached, or fails."""


def explain_system(error: OSError) -> str:
    """A line for the user where the system refused a file and nothing else explains it."""
    if error.errno == errno.EBADF and not error.filename:
        return "stdout is closed, and results are printed there. Send it to a file, or to /dev/null."
    file = f"{error.filename}: " if error.filename else ""
    reason = " ".join((error.strerror or str(error)).split())
    return f"{file}{reason}. Check the disk and whose files these are, then run it again."


OUT_OF_MEMORY = (
    *("RESOURCE_EXHAUSTED", "ResourceExhaustedError", "OutOfMemoryError", "out of memory"),
    *("bad_alloc", "Cannot allocate memory", "failed to map segment", "can't start new thread"),
)
"""In messages of backends, C++ and the system when an accelerator or the machine has no more memory."""


def explain_memory(error: BaseException) -> str:
    """A line for the user where memory ran out, with the settings that lower what is needed; "" otherwise.

    Args:
        error: Perhaps one that was raised from another.
    """
    found: BaseException | None = error
    while found is not None and not _is_out_of_memory(found):
        found = found.__cause__
    if found is None:
        return ""
    text, most = f"{type(found).__name__}: {found}", find_memory_limit()
    limit = f": this process may have {most / 1e9:,.1f} GB (ulimit -v)" if most < math.inf else ""
    return (
        f"Memory ran out{limit}. Lower training.batch_size, model.image_size, model.hidden_units or "
        f"training.members, or take fewer model.feature_layers. Received: {' '.join(text.split())[:200]}"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # The name of a file may be anything.
    text = "" if isinstance(error, PneumoError | OSError) else f"{type(error).__name__}: {error}"
    return any(sign in text for sign in OUT_OF_MEMORY)


def find_memory_limit() -> float:
    """Bytes of address space that this process may take; infinity without a limit."""
    try:
        import resource  # not on Windows
    except ImportError:
        return math.inf
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if most == resource.RLIM_INFINITY else most
