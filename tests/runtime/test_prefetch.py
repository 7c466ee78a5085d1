import threading
import time

import pytest

from pneumo_keras.runtime.prefetch import AHEAD, Prefetch


def test_items_come_in_order():
    assert list(Prefetch(range(10))) == list(range(10))


def test_an_error_comes_out_where_the_items_are_used():
    def draw():
        yield 1
        raise ValueError("broken image")

    taken = []
    with pytest.raises(ValueError, match="broken image"):
        taken.extend(Prefetch(draw()))


def test_items_are_drawn_ahead_but_not_all_of_them():
    drawn = []
    items = iter(Prefetch(drawn.append(i) or i for i in range(100)))
    next(items)
    time.sleep(0.3)
    assert len(drawn) == AHEAD + 1
    items.close()


def test_waiting_is_measured_from_the_second_item_on():
    def draw():
        for i in range(3):
            time.sleep(0.1)
            yield i

    prefetch = Prefetch(draw())
    list(prefetch)
    assert 0.15 < prefetch.waited < 0.29


def test_the_thread_ends_with_its_consumer():
    items = iter(Prefetch(range(100)))
    next(items)
    items.close()
    assert "prefetch" not in [thread.name for thread in threading.enumerate()]


def test_the_end_waits_for_the_item_that_is_being_fetched_and_for_no_other():
    def draw():
        yield 0
        for i in range(1, 9):
            time.sleep(0.2)
            yield i

    items = iter(Prefetch(draw()))
    next(items)
    started = time.perf_counter()
    items.close()
    assert time.perf_counter() - started < 1
