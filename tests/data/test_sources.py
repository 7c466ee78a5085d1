import subprocess
import sys

import numpy as np
import pytest

from pneumo_keras.arrays import SPLITS
from pneumo_keras.data.images import hash_labels
from pneumo_keras.data.phantom import build_phantom_splits
from pneumo_keras.data.sources import SOURCES, DataOptions


@pytest.fixture
def options(tmp_path):
    return DataOptions(None, 28, (60, 30, 40), tmp_path / "cache")


def test_the_table_names_every_source_and_imports_none():
    code = (
        "import sys, pneumo_keras.data.sources as s; print(*s.SOURCES); "
        "heavy = {'tensorflow_datasets', 'pooch', 'requests', 'keras', 'jax', 'sklearn', 'PIL', 'medmnist'}; "
        "print(sorted(heavy & set(sys.modules)), sorted(m for m in sys.modules if 'pneumo_keras.data.' in m))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, imported = done.stdout.splitlines()
    assert names == "pneumonia_mnist folder phantom"
    assert imported == "[] ['pneumo_keras.data.images', 'pneumo_keras.data.sources']"


def test_the_card_of_phantoms_says_that_they_are_synthetic(options, caplog):
    caplog.set_level("INFO", "pneumo_keras")
    card = SOURCES["phantom"].open(options).card
    assert card.title == "synthetic phantoms, 28 px"
    assert (card.synthetic, card.medmnist_name, card.files) == (True, None, {})
    assert "do not apply to patients" in card.limits[0]
    assert caplog.messages == ["The images are synthetic phantoms, 28 px"]


def test_the_source_draws_what_data_phantom_writes_for_seed_0(options):
    data, drawn = SOURCES["phantom"].open(options), build_phantom_splits((60, 30, 40), size=28, seed=0)
    for split in SPLITS:
        images = data.open_split(split)
        assert np.array_equal(images.read(slice(None)), drawn[split].read(slice(None)))
        assert (images.fingerprint(), hash_labels(images.labels)) == (
            drawn[split].fingerprint(),
            hash_labels(drawn[split].labels),
        )
    assert [len(data.open_split(split)) for split in SPLITS] == [60, 30, 40]
