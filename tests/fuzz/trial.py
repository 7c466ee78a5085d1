"""Damaged inputs tried one after the other, and what came of each."""

import logging
import random
import signal
from collections import Counter
from contextlib import contextmanager

from pneumo_keras.errors import PneumoError

SECONDS = 20  # that a reader may take for an input of a few hundred kilobytes, on a machine that others share


class TooLong(BaseException):
    """Not an Exception: no reader may catch it."""


def try_inputs(target, folder, count, seed=0):
    """Counts of outcomes, and the first few that are no good.

    Args:
        target: Has `data`, the undamaged input, `damage(data, random)`, `read(data)`, which gives the
            result, and `is_right(data, result)`: whether another result is what another input says.
        folder: Below which nothing may appear that is not there now, but what is made below `target.path`.
        count: Of inputs.
        seed: Of the damage.
    """
    usual, before = target.read(target.data), list_files(folder, target.path)
    outcomes, faults = Counter(), []
    for number in range(count):
        damaged = target.damage(target.data, random.Random(f"{seed} {number}"))
        outcome, detail = _try(target, damaged, usual)
        if list_files(folder, target.path) != before:
            outcome, detail = "file outside", str(list_files(folder, target.path) - before)
        outcomes[outcome] += 1
        if outcome not in ("refused", "the same result", "another result, as told"):
            faults.append((number, outcome, detail))
    return outcomes, faults


def _try(target, damaged, usual):
    told = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = told.append
    logger = logging.getLogger("pneumo_keras")
    logger.addHandler(handler)
    try:
        with limit_time(SECONDS):
            result = target.read(damaged)
    except PneumoError as error:
        line = str(error)
        return ("refused", line) if line.isprintable() and len(line) < 2000 else ("no line", line)
    except TooLong:
        return "hang", ""
    except Exception as error:  # noqa: BLE001 (to be counted)
        return "traceback", f"{type(error).__name__}: {error}"[:300]
    finally:
        logger.removeHandler(handler)
    if result == usual:
        return "the same result", ""
    if told or target.is_right(damaged, result):
        return "another result, as told", ""
    return "another result in silence", f"{str(usual)[:200]} -> {str(result)[:200]}"


def list_files(folder, spared):
    """All files below a folder that are not below the path of the input."""
    return {path for path in folder.rglob("*") if spared not in (path, *path.parents)}


@contextmanager
def limit_time(seconds):
    def stop(*_):
        raise TooLong

    usual = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)
