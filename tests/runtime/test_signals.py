import gc
import os
import signal
import time

import pytest

from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.runtime.signals import Stopped, check_stop, defer_stop, find_signal, raise_on_signals


def send(number=signal.SIGINT, *, wait=False):
    os.kill(os.getpid(), number)
    for _ in range(200 * wait):
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_work(number):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped) as caught, raise_on_signals():
        send(number, wait=True)
    assert caught.value.number == number
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_work_that_asks_by_itself_ends_its_batch_first_and_a_second_signal_stops_it_at_once():
    with raise_on_signals(), defer_stop():
        assert find_signal() == 0
        send()
        check_stop()
        assert find_signal() == signal.SIGINT
        with pytest.raises(Stopped):
            send(wait=True)


def wait_and_ask():
    """It is sent again, which a finaliser of another test may swallow: then it is told all the same."""
    time.sleep(0.5)
    check_stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_inside_a_callback_of_the_garbage_collector_is_not_lost():
    def collect(phase, info):
        if phase == "start" and not find_signal():
            send()

    gc.callbacks.append(collect)
    try:
        with raise_on_signals():
            gc.collect()
            with pytest.raises(Stopped):
                wait_and_ask()
    finally:
        gc.callbacks.remove(collect)


def test_a_signal_that_was_swallowed_stops_the_work_with_its_next_step():
    class Swallowing:
        def __del__(self):
            try:
                send()
                time.sleep(0.05)
            except KeyboardInterrupt:
                pass

    with raise_on_signals(), show_progress("Work", 2, "steps") as progress:
        progress.advance(1)
        one = Swallowing()
        del one
        with pytest.raises(Stopped):
            progress.advance(1)


def test_a_command_that_follows_knows_nothing_of_it():
    with pytest.raises(Stopped), raise_on_signals():
        send(wait=True)
    check_stop()
    with raise_on_signals():
        check_stop()
