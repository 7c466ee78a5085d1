import itertools
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pneumo_keras.storage.locks import take_turn

from pneumo_keras.storage import locks


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_UNTIL_TOLD", 0.05)
    monkeypatch.setattr(locks, "SECONDS_OF_PATIENCE", 0.3)


@pytest.fixture
def holder(tmp_path):
    """Holds the lock until it is told to let it go."""
    held, go = threading.Event(), threading.Event()

    def hold():
        with take_turn(tmp_path / "lock", "it works", lambda: 0):
            held.set()
            go.wait(20)

    with ThreadPoolExecutor() as pool:
        pool.submit(hold)
        assert held.wait(20)
        yield go
        go.set()


def test_who_gets_nothing_done_is_not_waited_for_without_end(tmp_path, holder):
    with (
        pytest.raises(TimeoutError, match="lock and gets nothing done"),
        take_turn(tmp_path / "lock", "it works", lambda: 0),
    ):
        pass


def test_who_gets_on_is_waited_for_and_the_user_is_told_once(tmp_path, holder, caplog):
    caplog.set_level(logging.INFO, "pneumo_keras")
    steps = itertools.count()
    threading.Timer(1.0, holder.set).start()
    started = time.monotonic()
    with take_turn(tmp_path / "lock", "it works", lambda: next(steps)):
        assert time.monotonic() - started > 0.6
    assert caplog.messages == ["Waiting for another process: it works"]


def test_a_lock_that_is_free_is_taken_and_given_back(tmp_path):
    for _ in range(2):
        with take_turn(tmp_path / "lock", "it works", lambda: 0):
            pass
