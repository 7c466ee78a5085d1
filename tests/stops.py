"""A fit that somebody asks to stop."""

from pneumo_keras.runtime.signals import Stopped
from pneumo_keras.training import keeper


def stop_after(monkeypatch, checks, number):
    """Lets a signal come while the fit is busy, once it has looked for one so many times."""
    asked = iter([False] * checks + [True] * 1000)
    state = {"asked": False}

    def is_stop_asked():
        state["asked"] = next(asked)
        return state["asked"]

    def check_stop():
        if state["asked"]:
            raise Stopped(number)

    monkeypatch.setattr(keeper, "is_stop_asked", is_stop_asked)
    monkeypatch.setattr(keeper, "check_stop", check_stop)
