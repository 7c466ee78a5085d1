"""Commands on a disk that fails, at each of its operations in turn."""

import pytest

from pneumo_keras.recipes import network
from pneumo_keras.runtime import backend
from tests.faults import operations
from tests.toy import build_toy_backbone

pytestmark = pytest.mark.system

SOME = {
    ("train", "once"): 67,
    ("train", "full"): 149,
    ("train", "read-only"): 163,
    ("eval", "once"): 89,
    ("eval", "full"): 151,
    ("eval", "read-only"): 163,
    ("predict", "once"): 11,
    ("predict", "full"): 17,
}
"""Steps that leave less than a minute's worth of trials: primes, to meet operations of all kinds."""


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setattr(network, "build_backbone", build_toy_backbone)
    monkeypatch.setattr(backend, "start_backend", lambda cache: None)  # it has been started


@pytest.mark.parametrize(("command", "way"), SOME)
def test_a_command_whose_disk_fails_says_so_leaves_whole_files_alone_and_goes_well_the_next_time(
    tmp_path, command, way
):
    check(tmp_path, command, way, step=SOME[command, way])


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(("command", "way"), SOME)
def test_all_operations_of_a_command_may_fail(tmp_path, command, way):
    check(tmp_path, command, way, step=1 if way == "once" else 7)


def check(folder, command, way, *, step):
    trials = list(operations.run(command, parent=folder, way=operations.WAYS[way], step=step))
    assert [trial for trial in trials if trial.faults] == []
    assert {trial.outcome for trial in trials} <= set(operations.OUTCOMES)
    assert any(trial.outcome == "one line" for trial in trials)
