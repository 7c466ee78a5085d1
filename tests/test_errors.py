import pytest

from pneumo_keras.errors import explain_memory


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
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_ran_out_is_one_line_that_names_what_to_lower(error):
    line = explain_memory(error)
    assert line.startswith("Memory ran out. Lower training.batch_size, model.image_size, model.hidden_units")
    assert "\n" not in line


def test_other_faults_are_no_matter_of_memory():
    assert explain_memory(ValueError("shapes do not match")) == ""
