import subprocess
import sys

import pytest

from pneumo_keras.arrays import CLASS_NAMES, SPLITS
from pneumo_keras.data.pneumonia_mnist import catalog
from pneumo_keras.errors import DataError


def test_the_28_px_release_carries_every_known_fact():
    assert catalog.load_release(28) == catalog.Release(
        title="PneumoniaMNIST at 28 px",
        name="pneumoniamnist.npz",
        url="https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1",
        md5="28209eda62fecd6e6a2d98b1501bb15f",
        most=5_639_680,
        bytes=4_170_669,
    )


@pytest.mark.parametrize(
    ("size", "md5"),
    [
        (64, "8f4eceb4ccffa70c672198ea285246c6"),
        (128, "05b46931834c231683c68f40c47b2971"),
        (224, "d6a3c71de1b945ea11211b03746c1fe1"),
    ],
)
def test_a_larger_release_has_its_own_file_and_checksum(size, md5):
    release = catalog.load_release(size)
    assert (release.name, release.md5) == (f"pneumoniamnist_{size}.npz", md5)
    assert release.url.endswith(f"/pneumoniamnist_{size}.npz?download=1")
    assert (release.bytes, release.most) == (None, 5856 * size**2 + 2**20)


def test_a_size_that_medmnist_lacks_is_refused():
    with pytest.raises(DataError) as error:
        catalog.load_release(32)
    assert str(error.value) == "data.size must be one of 28, 64, 128, 224. Received: 32."


def test_our_class_counts_agree_with_medmnist_on_split_sizes():
    sizes = {split: sum(counts) for split, counts in catalog.CLASS_COUNTS.items()}
    assert sizes == catalog.load_medmnist_record()["n_samples"]
    assert tuple(sizes) == SPLITS


def test_our_class_names_are_those_of_medmnist():
    assert catalog.load_medmnist_record()["label"] == {"0": CLASS_NAMES[0], "1": CLASS_NAMES[1]}


def test_the_licence_names_its_address():
    assert catalog.load_licence() == "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"


def test_the_line_that_medmnist_prints_reaches_nobody():
    code = (
        "import sys; from pneumo_keras.data.pneumonia_mnist import catalog; "
        "sys.exit('runpy' not in sys.modules or 'medmnist' in sys.modules "
        "or not catalog.load_medmnist_record())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_home_folder_that_cannot_be_written_is_no_matter(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("HOME", str(home / "file"))
    assert catalog.load_medmnist_record.__wrapped__()["n_channels"] == 1
