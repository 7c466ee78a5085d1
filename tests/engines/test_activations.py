import importlib.util

import keras
import numpy as np
import pytest

from pneumo_keras.engines.choice import build_runner, choose_engine
from pneumo_keras.engines.graph import read_graph
from pneumo_keras.engines.table import ENGINES
from pneumo_keras.errors import ModelError
from pneumo_keras.model.cut import cut_backbone
from tests.engines.toys import draw_images, randomise, to_deviation
from tests.toy import SIZE, build_branched_backbone

IMAGES = draw_images(5, SIZE)


def build_lower():
    """Activations at a cut, and a pooled feature layer below it."""
    return cut_backbone(
        randomise(build_branched_backbone(feature_layers=("mixed0", "mixed10"))), "mixed10"
    ).lower


def is_here(engine):
    packages = all(importlib.util.find_spec(package) for package in ENGINES[engine].packages)
    return packages and ENGINES[engine].backend in (None, keras.config.backend())


@pytest.mark.parametrize("engine", [name for name in ENGINES if is_here(name)])
def test_every_engine_gives_the_same_activations(engine):
    lower = build_lower()
    assert choose_engine(engine, "float32", lower, "cpu")[0] == engine
    batches = list(build_runner(lower, engine=engine, precision="float32")([IMAGES[:2], IMAGES[2:]]))
    assert [batch.shape for batch in batches] == [(2, 4 * 4 * 7 + 7), (3, 4 * 4 * 7 + 7)]
    assert to_deviation(np.concatenate(batches), lower, IMAGES) < 1e-6


def test_what_is_no_map_is_not_flattened():
    images = keras.Input((SIZE, SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    flat = keras.Model(images, keras.layers.Flatten(name="flat")(pooled))
    with pytest.raises(ModelError, match=r"Flatten 'flat' must take maps\. Received: \(None, 3\)"):
        read_graph(flat)
