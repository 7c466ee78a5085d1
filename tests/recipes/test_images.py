import os
import shutil

import pytest

from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.errors import RunError
from pneumo_keras.evaluation.scores import load_score_table
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.images import (
    compare_patients,
    describe_splits,
    open_data,
    open_own_data,
    open_splits,
)
from tests.images import ImageArray, load_phantom_splits, sort_by_class, write_images
from tests.small import COUNTS

pytestmark = pytest.mark.usefixtures("warm_cache", "without_plots")


def refuse(run):
    with pytest.raises(RunError) as caught:
        open_own_data(run)
    return str(caught.value)


def to_refusal(path, change):
    return (
        f"{path}: the images that the run learnt from must be as they were. Received: {change}. Train again, "
        "or name images that it was not trained on with --data."
    )


def test_stated_splits_that_share_patients_are_counted_in_a_warning_and_in_the_data_card(
    run_of_folder, caplog
):
    shared = (
        "20 of 30 validation images (66.7 %) show a patient whom the training images show, too: "
        "metrics on them"
    )
    evaluate_run(run_of_folder, "val")
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert any(shared in line for line in warnings)
    page = (run_of_folder.folder.path / "report_val.html").read_text()
    assert shared in page
    table = load_score_table(run_of_folder.folder.path / "scores_val.csv")
    assert any(f"{file}, patient " in page for file in table.files)
    assert table.files[0] == "val/NORMAL/person020_bacteria_000.png"
    assert len(set(table.patients)) == 15


def test_images_of_new_patients_are_found(run_of_folder):
    data = open_data(run_of_folder.config)
    assert compare_patients(data, "val")[1].sum() == 10
    assert compare_patients(data, "train")[1] is None


def test_an_image_that_was_added_keeps_a_run_from_being_evaluated(run_of_folder, tmp_path):
    path = tmp_path / "clinic"
    image = next((path / "train" / "NORMAL").iterdir())
    others = load_phantom_splits(COUNTS, seed=7)
    write_images(path / "test", ImageArray(others["test"].images[:3], others["test"].labels[:3]))
    os.utime(image, ns=(0, 0))
    open_own_data(run_of_folder)  # other test images, and a training image's time
    shutil.copy(image, image.with_name("new.png"))
    assert refuse(run_of_folder) == to_refusal(path, "61 training images, 60 then")


def test_an_image_that_was_replaced_or_labelled_anew_keeps_a_run_from_being_evaluated(
    run_of_folder, tmp_path
):
    path = tmp_path / "clinic"
    normal, pneumonia = (sorted((path / "val" / name).iterdir()) for name in ("NORMAL", "PNEUMONIA"))
    # The first of its new class and the last of the old one: no image moves.
    normal[-1].rename(path / "val" / "PNEUMONIA" / "0.png")
    assert refuse(run_of_folder) == to_refusal(path, "validation images with other labels")
    (path / "val" / "PNEUMONIA" / "0.png").rename(normal[-1])
    open_own_data(run_of_folder)
    shutil.copy(pneumonia[0], pneumonia[1])
    assert refuse(run_of_folder) == to_refusal(path, "other validation images, or the same in another order")
    shutil.rmtree(path / "val")
    assert refuse(run_of_folder).startswith(f"{path}: the images that the run learnt from must be")


def test_images_that_were_added_to_drawn_splits_change_them(tmp_path, run):
    path, images = tmp_path / "plain", load_phantom_splits((160, 2, 2), seed=7)["train"]
    write_images(path, ImageArray(images.images[:150], images.labels[:150]))
    config = run.config.model_copy(
        update={"data": run.config.data.model_copy(update={"source": "folder", "path": path})}
    )
    data = open_data(config)
    described = describe_splits(data, open_splits(data, ("train", "val")))
    environment = {**run.environment, "images": described, "paths": {"data.path": str(path)}}
    for index in range(150, 160):
        write_images(path, ImageArray(images.images[index : index + 1], images.labels[[index]]))
        for image in path.rglob("0000.png"):
            image.rename(image.with_name(f"{index:04}.png"))
    vars(run).update(config=config, environment=environment)
    assert "training images, " in refuse(run)


def test_a_replaced_file_of_images_is_detected(run_of_npz, tmp_path):
    path, same = tmp_path / "images.npz", load_phantom_splits(COUNTS)
    own = {split: sort_by_class(images) for split, images in same.items()}
    others = load_phantom_splits(COUNTS, seed=7)
    save_archive(path, {**own, "test": others["test"]})
    open_own_data(run_of_npz)
    save_archive(path, {**own, "train": others["train"]})
    assert refuse(run_of_npz) == to_refusal(path, "other training images, or the same in another order")


def test_images_that_are_gone_are_named(run_of_npz, tmp_path):
    (tmp_path / "images.npz").rename(tmp_path / "moved.npz")
    assert refuse(run_of_npz) == (
        f"The images that {run_of_npz.folder.path} was made with must have the same path as then, or that of "
        f"--set data.path=... Received: {tmp_path}/images.npz, which does not exist."
    )
    open_own_data(run_of_npz, str(tmp_path / "moved.npz"))
