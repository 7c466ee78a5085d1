import json
import os
import shutil

import numpy as np
import pytest

from pneumo_keras.data.folder import decoded
from pneumo_keras.data.images import ImageArray
from pneumo_keras.data.pneumonia_mnist.archive import save_archive
from pneumo_keras.errors import RunError
from pneumo_keras.recipes.evaluate import evaluate_run
from pneumo_keras.recipes.other_images import OtherImages, evaluate_other_images
from tests.images import load_phantom_splits, write_images
from tests.small import COUNTS


def refuse(call, *arguments):
    with pytest.raises(RunError) as caught:
        call(*arguments)
    return str(caught.value)


def to_refusal(path, change):
    return (
        f"{path}: the images that the run learnt from must be as they were. Received: {change}. Train again, "
        "or name images that it was not trained on with --data."
    )


def test_a_run_is_not_evaluated_when_the_images_that_it_learnt_from_changed(train, own_folder, monkeypatch):
    path, settings = own_folder
    run = train("run", *settings)
    image = next((path / "train" / "NORMAL").iterdir())
    others = load_phantom_splits(COUNTS, seed=7)
    write_images(path / "test", ImageArray(others["test"].images[:3], others["test"].labels[:3]))
    os.utime(image, ns=(0, 0))
    assert evaluate_run(run, "test").evaluation.n >= 40  # other test images, and a training image's time
    shutil.copy(image, image.with_name("new.png"))
    monkeypatch.setattr(decoded, "decode_images", None)  # nothing is decoded to find this
    for split in ("test", "val"):
        assert refuse(evaluate_run, run, split) == to_refusal(path, "61 training images, 60 then")
    monkeypatch.undo()


def test_a_run_is_not_evaluated_when_an_image_was_replaced_or_evaluated_anew(train, own_folder):
    path, settings = own_folder
    run = train("run", *settings)
    normal, pneumonia = (sorted((path / "val" / name).iterdir()) for name in ("NORMAL", "PNEUMONIA"))
    # The first of its new class and the last of the old one: no image moves.
    normal[-1].rename(path / "val" / "PNEUMONIA" / "0.png")
    assert refuse(evaluate_run, run, "test") == to_refusal(path, "validation images with other labels")
    (path / "val" / "PNEUMONIA" / "0.png").rename(normal[-1])
    evaluate_run(run, "test")
    shutil.copy(pneumonia[0], pneumonia[1])
    assert refuse(evaluate_run, run, "test") == to_refusal(
        path, "other validation images, or the same in another order"
    )
    shutil.rmtree(path / "val")
    assert refuse(evaluate_run, run, "test").startswith(
        f"{path}: the images that the run learnt from must be"
    )


def test_images_that_were_added_to_drawn_splits_keep_a_run_from_being_evaluated(train, tmp_path):
    path, images = tmp_path / "plain", load_phantom_splits((160, 2, 2), seed=7)["train"]
    write_images(path, ImageArray(images.images[:150], images.labels[:150]))
    run = train("run", "data.source=folder", f"data.path={path}")
    evaluate_run(run, "test")
    for index in range(150, 160):
        write_images(
            tmp_path / str(index), ImageArray(images.images[index : index + 1], images.labels[[index]])
        )
        (image,) = (tmp_path / str(index)).rglob("*.png")
        image.rename(path / image.parent.name / f"{index:04}.png")
    assert "training images, " in refuse(evaluate_run, run, "test")


def test_another_file_in_the_place_of_the_run_s_own_is_noticed(train, own_file):
    path, settings = own_file
    run = train("run", *settings)
    same = load_phantom_splits(COUNTS)
    others = load_phantom_splits(COUNTS, seed=7)
    save_archive(path, {**same, "test": others["test"]})
    evaluate_run(run, "test")
    save_archive(path, {**same, "train": others["train"]})
    assert refuse(evaluate_run, run, "test") == to_refusal(
        path, "other training images, or the same in another order"
    )


def test_images_that_were_learnt_from_are_known_wherever_they_lie(train, own_folder, tmp_path, caplog):
    run = train("run", *own_folder[1])
    own, others = load_phantom_splits(COUNTS), load_phantom_splits(COUNTS, seed=7)["test"]
    shutil.copytree(own_folder[0] / "train", tmp_path / "copy")
    next((tmp_path / "copy" / "NORMAL").iterdir()).unlink()
    turned = ImageArray(own["val"].images[::-1], own["val"].labels[::-1])
    save_archive(tmp_path / "turned.npz", {**own, "test": turned})
    for name, n in (("copy", 59), ("turned.npz", 30)):
        assert refuse(evaluate_other_images, run, OtherImages(tmp_path / name), "test") == (
            f"--data must name images that the run was not trained on. Received: {tmp_path}/{name}, with {n} "
            f"of {n} images among its training and validation images. Take those away."
        )
    few = ImageArray(
        np.concatenate([others.images, own["train"].images[:7]]),
        np.concatenate([others.labels, own["train"].labels[:7]]),
    )
    write_images(tmp_path / "few", few)
    caplog.clear()
    target, _ = evaluate_other_images(run, OtherImages(tmp_path / "few"), "test")
    notice = (
        "7 of these 47 images are among the training and validation images of the run, by their pixels: the "
        "figures are flattered by that."
    )
    assert [one.message for one in caplog.records if one.levelname == "WARNING"] == [f"few, 28 px: {notice}"]
    assert notice in (target.path / "report.html").read_text()
    assert json.loads((target.path / "environment.json").read_text())["data"]["notice"] == notice
    (run.path / "seen_images.npy").unlink()
    with pytest.raises(RunError, match=r"seen_images\.npy is missing"):
        evaluate_other_images(run, OtherImages(tmp_path / "copy"), "test")
