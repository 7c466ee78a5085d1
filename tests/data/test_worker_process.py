import functools
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys

import pytest

from pneumo_keras.data import worker_process
from pneumo_keras.data.worker_process import EndedError, WorkerProcess


def test_a_limit_of_memory_that_is_lower_already_stays(monkeypatch):
    given = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1000, 2000))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: given.append(limits))
    monkeypatch.setattr(logging, "disable", lambda: None)
    worker_process._settle(3000)
    assert given == [(2000, 2000)]


@pytest.fixture
def worker():
    worker = WorkerProcess(len, memory=2**40)
    yield worker
    worker.close()
    assert not multiprocessing.active_children()


def test_a_process_is_asked_again_and_again(worker):
    assert [worker.ask(question, 30) for question in ("a", b"", [1, 2])] == [1, 0, 2]


def speak(fd):
    return os.write(fd, b"as a codec does")


def test_what_a_codec_says_by_itself_is_not_shown(capfd):
    worker = WorkerProcess(speak, memory=2**40)
    assert worker.ask(2, 30)
    worker.close()
    assert capfd.readouterr().err == ""


def test_a_process_that_the_system_does_not_give_has_ended_before_it_was_ready(worker, monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("multiprocessing.util.spawnv_passfds", refuse)
        with pytest.raises(EndedError, match="temporarily unavailable") as caught:
            worker.ask("a", 30)
    assert caught.value.before_start
    assert worker.ask("abc", 30) == 3


def end_until(link, work, memory):
    """Ends its process as often as its work says: a file to which each adds a letter."""
    mark = work.keywords["mark"]
    mark.write_text(f"{mark.read_text()}x")
    if len(mark.read_text()) <= work.keywords["times"]:
        os._exit(5)
    worker_process._serve(link, work, memory)


def measure(question, mark, times):
    return len(question)


@pytest.mark.parametrize("times", [worker_process.STARTS - 1, worker_process.STARTS])
def test_a_process_is_started_again_a_few_times(monkeypatch, tmp_path, times):
    mark = tmp_path / "mark"
    mark.touch()
    worker = WorkerProcess(functools.partial(measure, mark=mark, times=times), memory=2**40)
    monkeypatch.setattr(worker_process, "_serve", end_until)
    if times < worker_process.STARTS:
        assert worker.ask("abc", 30) == 3
    else:
        with pytest.raises(EndedError, match="it ended with status 5"):
            worker.ask("abc", 30)
    worker.close()


def test_a_process_that_was_closed_is_not_replaced(worker):
    assert worker.ask("a", 30) == 1
    worker.close()
    with pytest.raises(EndedError):
        worker.ask("a", 30)


PROGRAM = """
import functools, signal, threading
from pneumo_keras.data.worker_process import WorkerProcess, block_interrupts

def ask():
    block_interrupts()
    print(worker.ask([], 60))

worker = WorkerProcess(functools.partial(signal.pthread_sigmask, signal.SIG_BLOCK), memory=2**40)
thread = threading.Thread(target=ask)
thread.start()
thread.join()
worker.close()
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_an_interrupt_does_not_reach_a_process_even_while_it_starts():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str({signal.SIGINT}), "set()"]
