import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data.decoding import LIMITS, decode_file
from pneumo_keras.data.folder import decoded
from pneumo_keras.data.images import Preparation
from pneumo_keras.errors import DataError
from pneumo_keras.storage.chunked_array import ChunkedArray
from tests.data.dicom_files import build_dataset, save
from tests.images import load, sort_by_class


@pytest.fixture
def cut(monkeypatch, images, open_data, decoded_files):
    """Decoding that is cut off at the eleventh image of 30; goes on when called."""
    monkeypatch.setattr(decoded, "CHUNK", 4)
    decode = decoded.decode_images

    def stop(paths, *, preparation):
        for index, image in enumerate(decode(paths, preparation=preparation)):
            if index == 10:
                raise KeyboardInterrupt
            yield image

    def cut():
        monkeypatch.setattr(decoded, "decode_images", stop)
        with pytest.raises(KeyboardInterrupt):
            open_data(images).open_split("train")
        monkeypatch.setattr(decoded, "decode_images", decode)
        decoded_files.clear()

    return cut


def test_decoding_that_was_cut_off_goes_on_where_it_stopped(cut, images, splits, open_data, decoded_files):
    cut()
    found = open_data(images).open_split("train")
    assert len(decoded_files) == 22
    assert np.array_equal(load(found).images, sort_by_class(splits["train"]).images)


def test_images_that_changed_meanwhile_are_decoded_anew(cut, images, open_data, decoded_files):
    cut()
    image = images / "train" / "NORMAL" / "z.png"
    image.write_bytes(next(image.parent.iterdir()).read_bytes())
    assert len(open_data(images).open_split("train")) == 31
    assert len(decoded_files) == 31


def test_the_fingerprint_is_kept_and_computed_again_where_pixels_changed(images, open_data, monkeypatch):
    found = open_data(images).open_split("train")
    expected, start_hash = found.fingerprint(), decoded.start_hash
    monkeypatch.setattr(decoded, "start_hash", lambda *_: pytest.fail("computed again"))
    assert open_data(images).open_split("train").fingerprint() == expected
    content = bytearray(found.array.file.read_bytes())
    content[-1000] ^= 1
    found.array.file.write_bytes(content)
    monkeypatch.setattr(decoded, "start_hash", start_hash)
    decode = decoded.decode_images

    def decode_otherwise(paths, *, preparation):
        for image in decode(paths, preparation=preparation):
            yield replace(image, image=255 - image.image)

    monkeypatch.setattr(decoded, "decode_images", decode_otherwise)
    changed = open_data(images).open_split("train")
    assert changed.fingerprint() == load(changed).fingerprint() != expected


@pytest.mark.parametrize(("damage", "decoded_anew"), [("short", 30), ("one bit", 4), ("a pipe", 30)])
def test_what_is_damaged_is_decoded_anew(
    images, splits, open_data, decoded_files, monkeypatch, damage, decoded_anew
):
    monkeypatch.setattr(decoded, "CHUNK", 4)
    file = open_data(images).open_split("train").array.file
    decoded_files.clear()
    content = bytearray(file.read_bytes())
    content[-30 * 28 * 28] ^= 1
    file.write_bytes(content[:1000] if damage == "short" else content)
    if damage == "a pipe":
        file.unlink()
        file.symlink_to("/dev/zero")
    found = open_data(images).open_split("train")
    assert len(decoded_files) == decoded_anew
    assert np.array_equal(load(found).images, sort_by_class(splits["train"]).images)


def test_a_broken_image_that_was_met_before_the_cut_is_not_forgotten(
    cut, images, open_data, decoded_files, tmp_path
):
    (images / "train" / "NORMAL" / "0000.png").write_text("no image")
    cut()
    with pytest.raises(DataError, match=r"Received: 1 of \d+ that cannot, first train/NORMAL/0000\.png: "):
        open_data(images).open_split("train")
    assert 0 < len(decoded_files) < 30
    assert not list((tmp_path / "cache" / "datasets").glob("*.npy"))


def test_images_go_to_other_processes_by_their_place(images, open_data):
    found = open_data(images).open_split("val")
    content = pickle.dumps(found)
    assert len(content) < 1000
    assert pickle.loads(content).fingerprint() == found.fingerprint()
    found.array.file.unlink()
    assert len(found.read(slice(None))) == 12  # of the file that it has opened
    with pytest.raises(
        DataError, match=r"readable on every machine of a cluster\. Received: they are not on"
    ):
        pickle.loads(content).read(slice(None))


def test_files_that_contradict_themselves_are_named_with_how_they_were_read(images, open_data, caplog):
    image = np.asarray(Image.open(images / "train" / "NORMAL" / "0000.png"))
    for name in ("a.dcm", "b.dcm"):
        dataset = build_dataset(image, PresentationLUTShape="INVERSE")
        (images / "train" / "NORMAL" / name).write_bytes(save(dataset))
    open_data(images).open_split("train")
    assert [message for message in caplog.messages if "INVERSE" in message] == [
        "2 files, first train/NORMAL/a.dcm: MONOCHROME2 with a Presentation LUT Shape INVERSE: inverted"
    ]


def test_images_decoded_in_other_processes_are_the_same(images, open_data, monkeypatch):
    monkeypatch.undo()
    expected = [
        decode_file(str(path), Preparation(28), LIMITS).image
        for path in sorted((images / "val").rglob("*.png"))
    ]
    assert np.array_equal(load(open_data(images).open_split("val")).images, np.stack(expected))


def test_a_full_cache_is_named(images, open_data, monkeypatch):
    def fill_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ChunkedArray, "write", fill_disk)
    with pytest.raises(DataError, match=r"must take the decoded images\. Received: .*No space left"):
        open_data(images).open_split("train")


def test_broken_images_are_all_named_as_far_as_there_is_room(images, open_data, caplog):
    for index in range(22):
        (images / "train" / "NORMAL" / f"a{index:02}.png").touch()
    with pytest.raises(DataError, match="Received: 22 of 52 that cannot, first train/NORMAL/a00"):
        open_data(images).open_split("train")
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 21
    assert warned[0].startswith("train/NORMAL/a00.png cannot be read: ")
    assert warned[-1] == "2 more cannot be read"
