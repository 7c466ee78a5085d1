"""Shared by all tests. Imports pneumo_keras before anything else, so that it chooses the backend.

With CHECK_TYPES=1 every annotation of the package is checked while the tests run, shapes of arrays included.
"""

import os

if os.environ.get("CHECK_TYPES"):
    from jaxtyping import install_import_hook

    install_import_hook("pneumo_keras", "checking.check")

# Otherwise tests wait for the compiler for a quarter of their time. Subprocesses inherit it.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()

import pneumo_keras  # isort: skip

import logging
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pneumo_keras.runtime.backend import start_backend

# The same examples every time, and few of them: a machine that others use is slow now and then.
settings.register_profile(
    "bounded",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("bounded")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

assert pneumo_keras.BACKEND


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("real_data") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="needs the real images and weights of ../shared"))


@pytest.fixture(scope="session", autouse=True)
def backend(tmp_path_factory):
    """Keras as the command line starts it; JAX compiles each program once for all workers of a session."""
    base = tmp_path_factory.getbasetemp()
    start_backend((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PNEUMO_KERAS_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def plain_call(monkeypatch):
    """Lines that say what to type next are the same, whether or not `uv run` started the tests."""
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)


@pytest.fixture(autouse=True)
def open_log():
    """What an earlier test's command line did to the log is forgotten."""
    log = logging.getLogger("pneumo_keras")
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def warm_cache_folder(tmp_path_factory):
    """Features that tests leave for each other."""
    return tmp_path_factory.mktemp("warm")


@pytest.fixture
def warm_cache(own_cache, warm_cache_folder, monkeypatch):
    """Lets a test find the features of the shared runs' images."""
    monkeypatch.setenv("PNEUMO_KERAS_CACHE", str(warm_cache_folder))


@pytest.fixture(scope="session")
def trained_toy_run(backend, warm_cache_folder, tmp_path_factory):
    """A run of the toy network on phantom images, trained once: a folder that no test may change."""
    from tests.small import train_toy_run

    return train_toy_run(tmp_path_factory.mktemp("toy") / "run", warm_cache_folder)


@pytest.fixture
def toy_run(trained_toy_run, tmp_path):
    """A copy of it in the test's own folder: the path `run`."""
    return shutil.copytree(trained_toy_run, tmp_path / "run")
