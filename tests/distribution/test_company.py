"""What processes of a training tell each other, by notes in memory: one works in a thread beside."""

import contextlib
import signal
import threading
import time

import jax
import numpy as np
import pytest

from pneumo_keras.config import load_config
from pneumo_keras.distributed import process_group as companies
from pneumo_keras.distributed.process_group import Company
from pneumo_keras.errors import DataError, TrainingError
from pneumo_keras.recipes import network
from pneumo_keras.recipes.beside import train_beside
from pneumo_keras.recipes.heads import MOMENTS, hear_moments
from pneumo_keras.runtime import signals
from pneumo_keras.runtime.signals import Stopped, heed_signals
from tests.distribution.notes import Board
from tests.small import SMALL
from tests.toy import build_toy_backbone

SECONDS = 10


def end_all(board):
    for key in (companies.REQUEST, companies.END):
        board.add(key, {"rank": 0, "line": "nobody came"})


class Two:
    """Two processes: one works here, the other one beside, and neither knows of the other's signals."""

    def __init__(self):
        self.first, self.second = Company(0, 2), Company(1, 2)
        self.signal = 0  # that the one beside got
        self.ended = None  # what the one beside ended with

    @contextlib.contextmanager
    def beside(self, company, work):
        """Lets one work beside, and waits for its end after the `with` block."""
        company._listen = lambda: None  # no thread hears signals: it hears of the others where it waits
        thread = threading.Thread(target=self._run, args=(company, work), name="beside", daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join(SECONDS)
            assert not thread.is_alive(), "it waits for ever"

    def _run(self, company, work):
        try:
            with company.working():
                self.ended = work(company)
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            self.ended = error


@pytest.fixture
def two(monkeypatch):
    board = Board()
    monkeypatch.setattr(companies, "Notes", lambda: board)
    for name in ("LISTEN_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(companies, name, 0.01)
    monkeypatch.setattr(companies, "PART_SECONDS", SECONDS)
    both = Two()

    def is_beside():
        return threading.current_thread().name == "beside"

    def find_signal():
        return both.signal if is_beside() else signals.find_signal()

    def defer_stop():
        return contextlib.nullcontext() if is_beside() else signals.defer_stop()

    monkeypatch.setattr(companies, "find_signal", find_signal)
    monkeypatch.setattr(companies, "defer_stop", defer_stop)
    with heed_signals():
        late = threading.Timer(2 * SECONDS, end_all, [board])  # else a test would wait for ever
        late.start()
        yield both
        late.cancel()
        late.join()


def work_for_hours(company, begin=lambda: None):
    with company.working():
        begin()
        time.sleep(SECONDS)
        raise AssertionError("nobody has ended it")


def fail(company):
    raise DataError("Image 3 is damaged.")


def test_the_second_hears_what_is_trained_and_all_part(two):
    def work(second):
        heard = second.hear_task(), hear_moments(second, 2)
        with second.fitting():
            pass
        second.check_same("weights", "ab")
        return heard

    with two.beside(two.second, work), two.first.working():
        two.first.say_task({"images": "a", "seed": 3})
        two.first.say(MOMENTS, np.arange(4.0).tobytes())
        with two.first.fitting():
            pass
        two.first.check_same("weights", "ab")
    task, (means, scales) = two.ended
    assert (task, means.tolist(), scales.tolist()) == ({"images": "a", "seed": 3}, [0, 1], [2, 3])


def test_where_there_is_nothing_to_do_all_go_home(two):
    with (
        two.beside(two.second, lambda second: train_beside(load_config("demo"), second)),
        two.first.working(),
    ):
        two.first.say_nothing_to_do()
    assert two.ended is None


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("Image 3 is damaged."), "Image 3 is damaged."),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
    ],
)
def test_the_first_ends_with_an_error_and_the_second_says_so(two, error, line):
    with two.beside(two.second, Company.hear_task), pytest.raises(type(error)), two.first.working():
        raise error
    assert type(two.ended) is TrainingError
    assert str(two.ended) == f"The first process of the training came to an end: {line}"


@pytest.mark.parametrize(("here", "name"), [("first", "Process 1"), ("second", "The first process")])
def test_who_works_alone_is_told_that_the_other_ended_with_an_error(two, here, name):
    here, other = (two.first, two.second) if here == "first" else (two.second, two.first)
    with two.beside(other, fail), pytest.raises(TrainingError) as caught:
        work_for_hours(here)
    assert str(caught.value) == f"{name} of the training came to an end: Image 3 is damaged."
    assert type(two.ended) is DataError


def test_the_fit_does_not_begin_without_one_that_ended_with_an_error(two):
    with (
        two.beside(two.second, fail),
        pytest.raises(TrainingError) as caught,
        two.first.working(),
        two.first.fitting(),
    ):
        raise AssertionError("it began")
    assert str(caught.value) == "Process 1 of the training came to an end: Image 3 is damaged."


def test_where_the_connection_breaks_the_reason_of_the_other_is_told(two):
    def work(second):
        with second.fitting():
            fail(second)

    with (
        two.beside(two.second, work),
        pytest.raises(TrainingError) as caught,
        two.first.working(),
        two.first.fitting(),
    ):
        raise jax.errors.JaxRuntimeError("Connection closed by peer")
    assert str(caught.value) == "Process 1 of the training came to an end: Image 3 is damaged."


def test_a_connection_that_breaks_while_one_waits_is_one_line(two, monkeypatch):
    def break_off(key, seconds):
        raise jax.errors.JaxRuntimeError("UNAVAILABLE: Connection\nreset by peer")

    monkeypatch.setattr(companies, "LOST_SECONDS", 0.01)
    monkeypatch.setattr(two.second._notes, "read", break_off)
    with pytest.raises(TrainingError) as caught, two.second.working():
        two.second.hear_task()
    assert str(caught.value) == (
        "The connection to another process of the training broke. Go on with --resume. Received: "
        "UNAVAILABLE: Connection reset by peer"
    )


def test_the_second_is_asked_to_stop_while_the_first_works_alone(two):
    def work(second):
        two.signal = signal.SIGINT
        second.hear_task()

    with two.beside(two.second, work), pytest.raises(Stopped) as caught:
        work_for_hours(two.first)
    assert (caught.value.number, two.ended.number) == (signal.SIGINT, signal.SIGINT)


def test_the_first_is_asked_to_stop_and_the_second_stops_as_well(two):
    with two.beside(two.second, Company.hear_task), pytest.raises(Stopped):
        work_for_hours(two.first, lambda: signals.raise_signal(signal.SIGINT))
    assert type(two.ended) is Stopped
    assert two.ended.number == signal.SIGINT


def test_a_signal_before_the_first_step_is_left_to_all(two):
    def work(second):
        two.signal = signal.SIGTERM
        with second.fitting():
            return [second.find_stop() for _ in range(4)]

    with two.beside(two.second, work), two.first.working(), two.first.fitting():
        signals.raise_signal(signal.SIGTERM)
        assert [two.first.find_stop() for _ in range(4)] == [0, 0, signal.SIGTERM, signal.SIGTERM]
    assert two.ended == [0, 0, signal.SIGTERM, signal.SIGTERM]


def test_weights_that_differ_are_refused(two):
    with (
        two.beside(two.second, lambda second: second.check_same("weights", "b")),
        pytest.raises(TrainingError) as caught,
        two.first.working(),
    ):
        two.first.check_same("weights", "a")
    assert str(caught.value) == (
        "All processes must end with the same weights. Received: others from process 1. Check their "
        "memory and their versions of JAX, and train again"
    )


def test_one_that_is_gone_keeps_nobody_from_its_last_word(two, monkeypatch):
    parted = []
    monkeypatch.setattr(companies, "PART_SECONDS", 0.1)
    monkeypatch.setattr(jax.distributed, "shutdown", lambda: parted.append(True))
    with pytest.raises(DataError), two.first.working():
        fail(two.first)
    assert not parted  # JAX would end this process after a minute


@pytest.mark.parametrize("what", ["settings", "training images", "version of jax"])
def test_what_differs_in_the_second_ends_both(two, monkeypatch, what):
    monkeypatch.setattr(network, "build_backbone", build_toy_backbone)
    config = load_config("demo", [*SMALL, "training.mode=online", "augmentation.views=0"])
    with (
        two.beside(two.second, lambda second: train_beside(config, second)),
        pytest.raises(TrainingError) as caught,
    ):
        work_for_hours(two.first, lambda: two.first.say_task({what: "another"}))
    assert str(two.ended).startswith(f"All processes of a training must have the same {what}. Received: ")
    assert str(two.ended).endswith(" in process 1, another in the first. Start all with the same command")
    assert "None in process" not in str(two.ended)
    assert str(caught.value) == f"Process 1 of the training came to an end: {two.ended}"
