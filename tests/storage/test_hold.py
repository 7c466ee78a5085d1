import gc
import os
import signal
import threading
from multiprocessing import get_context

import pytest
from pneumo_keras.storage.hold import Hold, load_held, lock_store


def read_held(store):
    with lock_store(store):
        return load_held(store)


def test_what_is_held_is_known_until_it_is_released(tmp_path):
    first, second = Hold(tmp_path), Hold(tmp_path)
    first.add(["a"])
    first.add(["b"])
    second.add(["b", "c"])
    assert read_held(tmp_path) == {"a", "b", "c"}
    first.release()
    assert read_held(tmp_path) == {"b", "c"}
    first.add(["d"])
    assert read_held(tmp_path) == {"b", "c", "d"}


def test_the_last_reference_releases(tmp_path):
    hold = Hold(tmp_path)
    hold.add(["a"])
    del hold
    gc.collect()
    assert read_held(tmp_path) == set()


def test_another_thread_can_release(tmp_path):
    hold = Hold(tmp_path)
    hold.add(["a"])
    thread = threading.Thread(target=hold.release)
    thread.start()
    thread.join()
    assert read_held(tmp_path) == set()


def test_holds_that_are_gone_leave_nothing_behind(tmp_path):
    hold = Hold(tmp_path)
    hold.add(["a"])
    hold.release()
    read_held(tmp_path)
    assert list((tmp_path / "holds").iterdir()) == []


def test_many_entries_take_one_open_file(tmp_path):
    hold = Hold(tmp_path)
    hold.add(["a"])
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for index in range(2000):
        hold._names.add(str(index))
    hold.add(["b"])
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert len(read_held(tmp_path)) == 2002


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, if another test has started it
def test_a_hold_that_is_given_to_a_forked_child_stays_its_parent_s(tmp_path):
    hold = Hold(tmp_path)
    hold.add(["a"])
    pid = os.fork()
    if pid == 0:
        del hold
        os._exit(0)
    os.waitpid(pid, 0)
    assert read_held(tmp_path) == {"a"}


def hold_until(store, ready, release):
    hold = Hold(store)
    hold.add(["a"])
    ready.set()
    release.wait(60)


@pytest.mark.parametrize("end", ["killed", "finished"])
def test_what_another_process_holds_is_known_until_its_end(tmp_path, end):
    context = get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=hold_until, args=(tmp_path, ready, release))
    other.start()
    assert ready.wait(60)
    assert read_held(tmp_path) == {"a"}
    if end == "killed":
        os.kill(other.pid, signal.SIGKILL)
    else:  # an event waits for ever for a waiter that was killed
        release.set()
    other.join()
    assert read_held(tmp_path) == set()
