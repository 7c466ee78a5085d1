"""Stages for clusters, without any network."""

import os
import signal
import time

from pneumo_keras.errors import RunError
from pneumo_keras.runs.run import ScoredImage


def build_doubling(seconds=0.0):
    def double(items):
        for item in items:
            time.sleep(seconds)
            yield 2 * item

    return double


def build_naming():
    """Results with the process that they come from."""
    return lambda items: ((item, os.getpid()) for item in items)


def build_refusing(refused):
    def refuse(items):
        for item in items:
            if item == refused:
                raise RunError(f"item {item}")
            yield item

    return refuse


def build_dying(deadly):
    """Ends its process where that item comes."""

    def die(items):
        for item in items:
            if item == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

    return die


def build_broken():
    raise RunError("no stage")


def build_passing():
    return lambda items: items


def build_scoring():
    """Names -> what a scorer says of each, without an image."""
    return lambda names: (ScoredImage(name, 0.25, 0.5, "") for name in names)
