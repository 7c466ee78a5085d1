import os

import pytest

from tests.backends.processes import is_installed


@pytest.fixture
def need():
    """Skips where a backend is not installed; with ALL_BACKENDS set, as in `.ci/run`, that is an error."""

    def check(*backends):
        missing = [name for name in backends if not is_installed(name)]
        if missing and os.environ.get("ALL_BACKENDS"):
            pytest.fail(f"not installed: {', '.join(missing)}")
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")

    return check
