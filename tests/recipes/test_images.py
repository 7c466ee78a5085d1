import pytest

from pneumo_keras.arrays import SPLITS
from pneumo_keras.audit.audit import audit_images
from pneumo_keras.config import load_config
from pneumo_keras.evaluation.scores import load_score_table
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.images import find_new_patients, open_data
from tests.small import SMALL


@pytest.fixture
def shared(own_folder):
    """The folder with names that tell patients: two images each, and two patients in all splits."""
    path, settings = own_folder
    for split in ("train", "val", "test"):
        images = sorted((path / split).rglob("*.png"))
        for row, image in enumerate(images):
            number = row // 2 if row < 4 else row // 2 + 100 * ("train", "val", "test").index(split)
            image.rename(image.with_name(f"{number:03}_{row:03}.png"))
    return [*SMALL, *settings, r"data.patient_pattern=^(\d+)_"]


def test_stated_splits_that_share_patients_are_counted_in_a_warning_and_in_the_data_card(
    train, shared, caplog
):
    run = train("run", *shared[len(SMALL) :])
    said = "4 of 30 validation images (13.3 %) show a patient whom the training images show, too: figures on them"
    assert any(said in line for line in warn(caplog))
    evaluate_run(run, "test")
    of_test = (
        "4 of 40 test images (10.0 %) show a patient whom the training images and validation images show"
    )
    assert any(of_test in line for line in warn(caplog))
    page = (run.path / "report.html").read_text()
    assert said in page and of_test in page
    table = load_score_table(run.path / "scores_test.csv")
    assert any(f"{file}, patient " in page for file in table.files)
    assert table.files[0].startswith("test/NORMAL/000_000") and table.patients[:6] == (
        "0",
        "0",
        "1",
        "1",
        "202",
        "202",
    )


def warn(caplog):
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


def test_images_of_new_patients_are_known(shared):
    data = open_data(load_config("demo", shared))
    assert find_new_patients(data, "val").tolist() == [False] * 4 + [True] * 26
    assert find_new_patients(data, "test").tolist() == [False] * 4 + [True] * 36
    assert find_new_patients(data, "train") is None


def test_an_audit_counts_patients(shared):
    data = open_data(load_config("demo", shared))
    images = {split: data.open_split(split) for split in SPLITS}
    audit = audit_images(images, {split: data.name_images(split) for split in SPLITS})
    assert audit.patients.images == {"train": 60, "val": 30, "test": 40}
    assert {pair: shared.images for pair, shared in audit.patients.shared.items()} == {
        "train/val": 4,
        "train/test": 4,
        "val/test": 4,
    }
