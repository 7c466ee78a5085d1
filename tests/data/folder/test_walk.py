import os

import numpy as np
import pytest

from pneumo_keras.errors import DataError
from tests.images import load, sort_by_class


def refuse(call, *arguments):
    with pytest.raises(DataError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_folder_below_that_of_a_class_that_cannot_be_listed_is_named(images, open_data, monkeypatch):
    hidden = images / "train" / "NORMAL" / "more"
    hidden.mkdir()
    scan = os.scandir

    def refuse_one(path):
        if str(path) == str(hidden):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse_one)
    assert refuse(open_data(images).open_split, "train").endswith(
        "Received: 1 of 31 that cannot, first train/NORMAL/more: it is a folder that cannot be read. "
        "Repair or "
        "remove them."
    )


def test_links_to_folders_are_followed(images, splits, open_data, tmp_path):
    (images / "val" / "NORMAL").rename(tmp_path / "elsewhere")
    (images / "val" / "NORMAL").mkdir()
    (images / "val" / "NORMAL" / "link").symlink_to(tmp_path / "elsewhere")
    assert np.array_equal(
        load(open_data(images).open_split("val")).images, sort_by_class(splits["val"]).images
    )


@pytest.mark.parametrize("target", ["train/NORMAL", "train", "", "train/NORMAL/more"])
def test_links_that_lead_to_a_folder_twice_are_passed_over(images, open_data, target):
    folder = images / "train" / "NORMAL"
    (folder / "more").mkdir()
    (folder / "0000.png").rename(folder / "more" / "0000.png")
    (folder / "z").symlink_to(images / target)
    assert len(open_data(images).open_split("train")) == 30
