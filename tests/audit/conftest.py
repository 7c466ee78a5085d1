import pytest

from tests.audit.noise import Splits, draw_splits


@pytest.fixture
def clean() -> Splits:
    return draw_splits()
