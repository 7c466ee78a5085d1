"""Everything a user can cause and mend. The command line prints each as one line, exit status 1."""

from pneumo_keras.printable import to_printable


class PneumoError(Exception):
    """One line for the user: the setting or file, the rule, the value and the next step."""

    def __str__(self) -> str:
        """The line. Names and values from files stay inside it, and do nothing to a terminal."""
        return to_printable(super().__str__())


class BackendError(PneumoError):
    """The Keras backend is missing, unsuitable or was chosen too late."""


class SettingsError(PneumoError):
    """A setting is unknown, ill-typed or out of its range."""


class DataError(PneumoError):
    """Films or labels are missing, damaged or not what they claim to be."""


class DownloadError(DataError):
    """Something could not be fetched whole and with the right checksum."""


class ModelError(PneumoError):
    """Weights or a saved model do not fit the network, or cannot be read."""


class RunError(PneumoError):
    """A run folder is taken, unfinished or no run at all."""


class TrainingError(PneumoError):
    """The fit went wrong in a way that other settings mend."""


class ExportError(PneumoError):
    """An exported classifier does not score as the run does, or its file is named otherwise."""


class ClusterError(PneumoError):
    """A cluster cannot be reached, or gives up."""


def explain_system(error: OSError) -> str:
    """A line for the user where the system refused a file and nothing else explains it."""
    place = f"{error.filename}: " if error.filename else ""
    reason = " ".join((error.strerror or str(error)).split())
    return f"{place}{reason}. Check the disk and whose files these are, then run it again."


# What JAX, TensorFlow and torch say when an accelerator or the machine has no more memory.
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "ResourceExhaustedError", "OutOfMemoryError", "out of memory")


def explain_memory(error: BaseException) -> str:
    """A line for the user where memory ran out, with the settings that lower what is needed; "" otherwise."""
    text = f"{type(error).__name__}: {error}"
    if not isinstance(error, MemoryError) and not any(sign in text for sign in OUT_OF_MEMORY):
        return ""
    return (
        "Memory ran out. Lower training.batch_size, model.image_size, model.hidden_units or "
        f"training.members, or take fewer model.taps. Received: {' '.join(text.split())[:200]}"
    )
