"""Trainings that are killed, as users meet it: whole processes, real signals."""

import pytest

from tests.faults import kills


@pytest.mark.system
@pytest.mark.slow
def test_trainings_killed_at_random_moments_end_in_the_same_bytes():
    for mode, trial in kills.run(2, seed=5):
        assert (trial.differing, trial.faults) == ([], []), (mode, trial)
