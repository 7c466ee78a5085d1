"""Stages for clusters, without any network."""

import os
import time

from pneumo_keras.errors import RunError


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


def build_broken():
    raise RunError("no stage")
