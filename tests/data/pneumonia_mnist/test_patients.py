import numpy as np
import pytest

from pneumo_keras.data.overlap import SharedPatients, count_shared, hash_images
from pneumo_keras.data.pneumonia_mnist import catalog, open_images
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.data.sources import DataOptions, ImageNames
from tests.conftest import SHARED
from tests.data.pneumonia_mnist.make_patient_table import format_table
from tests.images import ImageArray, load_phantom_splits

COUNTS = (12, 6, 6)


@pytest.fixture
def splits():
    return load_phantom_splits(COUNTS)


@pytest.fixture
def table(tmp_path, monkeypatch, splits):
    """Two training images a patient but the last two, and four validation images of the first two."""
    hashes = {split: [one.tobytes().hex() for one in hash_images(images)] for split, images in splits.items()}
    groups = [hashes["train"][2 * number : 2 * number + 2] for number in range(5)]
    groups[0] += hashes["val"][:2]
    groups[1] += hashes["val"][2:4]
    lines = [f"train-person{number},{' '.join(group)}" for number, group in enumerate(groups)]
    lines.append(f"test-person0,{' '.join(hashes['test'])}")
    path = tmp_path / "patients.csv"
    path.write_text("\n".join(["patient,images", *lines]) + "\n")
    monkeypatch.setattr(catalog, "PATIENTS", path)
    catalog.load_patients.cache_clear()
    yield
    catalog.load_patients.cache_clear()


@pytest.fixture
def open_npz(tmp_path):
    def open_npz(splits):
        save_archive(tmp_path / "images.npz", splits)
        size = splits["train"].shape[0]
        return open_images(DataOptions(tmp_path / "images.npz", size, (2, 2, 2), tmp_path / "cache"))

    return open_npz


def test_patients_are_known_by_the_pixels_in_whatever_order_they_lie(table, splits, open_npz, caplog):
    caplog.set_level("INFO", "pneumo_keras")
    expected = [*(f"train-person{number // 2}" for number in range(10)), "", ""]
    order = np.random.default_rng(0).permutation(12)
    train = ImageArray(splits["train"].images[order], splits["train"].labels[order])
    data = open_npz({**splits, "train": train})
    names = data.name_images("train")
    assert names == data.name_images("train")
    assert names.patients == tuple(expected[row] for row in order)
    assert (names.files, names.numberings) == (None, frozenset({"train"}))
    assert count_shared(data.name_images("val"), [names]) == SharedPatients(patients=2, images=4, known=4)
    said = [line for line in caplog.messages if "Kermany" in line]
    assert said == [
        "Training images: the patients of 10 of 12 images are known by the numbers in the names of Kermany's "
        "files: 5",
        "Validation images: the patients of 4 of 6 images are known by the numbers in the names of Kermany's "
        "files: 2",
    ]


def test_nothing_is_known_of_patients_from_training_to_test(table, splits, open_npz):
    data = open_npz(splits)
    test = data.name_images("test")
    assert set(test.patients) == {"test-person0"}
    assert count_shared(test, [data.name_images("train"), data.name_images("val")]) is None


def test_images_that_nobody_knows_are_those_of_no_patient(splits, open_npz, caplog):
    caplog.set_level("INFO", "pneumo_keras")
    assert open_npz(splits).name_images("train") == ImageNames()
    assert "patients" not in " ".join(caplog.messages)


def test_images_of_other_sizes_are_not_even_read(table, open_npz, monkeypatch):
    data = open_npz(load_phantom_splits(COUNTS, size=64))
    monkeypatch.setattr("pneumo_keras.data.pneumonia_mnist.load_hashes", lambda *_: pytest.fail("read"))
    assert data.name_images("train") == ImageNames()


@pytest.mark.real_data
def test_the_table_is_what_its_script_makes():
    folder = SHARED / "data"
    made = format_table(folder / "films.csv", folder / "pneumoniamnist.npz")
    assert catalog.PATIENTS.read_text(encoding="ascii") == made


@pytest.mark.real_data
def test_two_thirds_of_the_validation_images_share_a_patient_with_training():
    raw = np.load(SHARED / "data" / "pneumoniamnist.npz")
    names = {}
    for split in ("train", "val", "test"):
        images = ImageArray(raw[f"{split}_images"], raw[f"{split}_labels"][:, 0].astype(np.int64))
        names[split] = catalog.find_patients(hash_images(images), split=split)
    assert [sum(map(bool, one.patients)) for one in names.values()] == [4692, 522, 557]
    assert [len(set(one.patients) - {""}) for one in names.values()] == [2669, 466, 364]
    assert count_shared(names["val"], [names["train"]]) == SharedPatients(patients=289, images=341, known=522)
    assert count_shared(names["test"], [names["train"], names["val"]]) is None
