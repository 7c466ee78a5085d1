import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pneumo_keras.features.extract import COMPUTING
from pneumo_keras.runtime.code_fingerprint import PACKAGE
from tests.imports import find_used

ROOT = Path(__file__).resolve().parents[2]

OTHERS = {
    *("errors", "runtime.code_fingerprint", "runtime.progress", "runtime.signals"),
    *("storage.bounded_reading", "storage.cache", "storage.files", "storage.printable"),
    *("data.download", "data.images"),  # images and weights are in the address themselves
    *("features.shared", "features.store"),
}
"""Modules that those which compute features import, and that change none of them."""


def test_all_that_computes_features_is_listed():
    """Whoever lets a listed module import another one says here or there what that one does."""
    engines = [f"engines.{file.stem}" for file in (PACKAGE / "engines").glob("[!_]*.py")]
    assert find_used(["features.extract", *engines], OTHERS) == set(COMPUTING)
    assert len(COMPUTING) == len(set(COMPUTING))


EXTRACT = """
import functools, logging
from pathlib import Path

import pytest
import pneumo_keras
from pneumo_keras.runtime.backend import start_backend
start_backend(Path("compiled").absolute())
import numpy as np
from tests.images import ImageArray
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.store import Store
from pneumo_keras.features.augmentation import AugmentationRanges
from pneumo_keras.features.views import build_perturbed_view
from tests.networks import build_network
from tests.toy import build_toy_backbone
logging.basicConfig(level="INFO", format="%(message)s")
extractor = Extractor(
    build_network(build_toy_backbone()),
    Store(Path("cache"), 10**9),
)
images = ImageArray(np.arange(4 * 144, dtype=np.uint8).reshape(4, 12, 12), np.array([0, 1, 0, 1]))
extractor.extract(images, "images", build_perturbed_view(AugmentationRanges(contrast=0.2), seed=1))
"""


@pytest.mark.system
def test_features_are_computed_anew_by_other_code_and_not_where_words_change(tmp_path):
    package = tmp_path / "lib" / "pneumo_keras"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    paths = os.pathsep.join([str(tmp_path / "lib"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    changes = (
        ("", "", "computed"),
        ("Draws what is done to one image", "Draws what becomes of one image", "from the cache"),
        ("1 + ranges.contrast * next(draws)", "1 + 2 * ranges.contrast * next(draws)", "computed"),
    )
    file = package / "features" / "augmentation.py"
    for old, new, expected in changes:
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new) if old else text, encoding="utf-8")
        command = [sys.executable, "-c", EXTRACT]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"Features of images, perturbed: {expected}" in done.stderr
