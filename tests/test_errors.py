import errno

import pytest

from pneumo_keras.errors import ModelError, explain_memory, explain_system


class XlaRuntimeError(Exception):
    """As JAX names it."""


class OutOfMemoryError(Exception):
    """As torch names it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 81920 bytes.\nMore."),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        ImportError("libopenvino.so: failed to map segment from shared object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory", "model.keras"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_ran_out_is_one_line_that_names_what_to_lower(error):
    line = explain_memory(error)
    assert line.startswith("Memory ran out. Lower training.batch_size, model.image_size, model.hidden_units")
    assert "\n" not in line


def test_memory_that_ran_out_is_no_damage():
    damage = ModelError("model.keras is damaged")
    damage.__cause__ = MemoryError("std::bad_alloc")
    assert "Received: MemoryError: std::bad_alloc" in explain_memory(damage)


def test_a_file_may_be_called_out_of_memory():
    assert explain_memory(ModelError("out of memory.keras is damaged")) == ""
    assert explain_memory(FileNotFoundError(2, "No such file", "out of memory.png")) == ""


def test_a_closed_stdout_is_named():
    assert explain_system(OSError(errno.EBADF, "Bad file descriptor")).startswith("stdout is closed")
    assert explain_system(OSError(errno.EBADF, "Bad file descriptor", "x")).startswith("x: Bad file")


def test_other_faults_are_no_matter_of_memory():
    assert explain_memory(ValueError("shapes do not match")) == ""
