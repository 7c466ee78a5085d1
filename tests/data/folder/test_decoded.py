import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data.decoding import LIMITS, decode_file
from pneumo_keras.data.folder import decoded
from pneumo_keras.data.images import Preparation
from pneumo_keras.errors import DataError
from pneumo_keras.storage import chunked
from tests.data.dicom_files import build_dataset, save
from tests.images import load, sort_by_class


@pytest.fixture
def cut_off(monkeypatch, decoded_files):
    """Decoding that is stopped after some images, until it is let go on."""
    monkeypatch.setattr(decoded, "AT_ONCE", 4)
    go_on = decoded.decode_images

    def stop_after(count):
        def decode_images(paths, *, preparation):
            for index, image in enumerate(go_on(paths, preparation=preparation)):
                if index == count:
                    raise KeyboardInterrupt
                yield image

        monkeypatch.setattr(decoded, "decode_images", decode_images)
        return lambda: monkeypatch.setattr(decoded, "decode_images", go_on)

    return stop_after


@pytest.fixture
def cut(cut_off, images, open_data, decoded_files):
    """A preparation that was cut off at the eleventh image."""
    go_on = cut_off(10)
    with pytest.raises(KeyboardInterrupt):
        open_data(images).open_split("train")
    decoded_files.clear()
    return go_on


def find_raw(tmp_path):
    (raw,) = (tmp_path / "cache" / "datasets").glob(".folder-*-train.raw")
    return raw


def test_a_preparation_that_was_cut_off_goes_on_where_it_stopped(
    cut, images, splits, open_data, decoded_files, tmp_path
):
    cut()
    prepared = open_data(images).open_split("train")
    assert len(decoded_files) == 22
    assert np.array_equal(load(prepared).images, sort_by_class(splits["train"]).images)
    left = [path.name for path in (tmp_path / "cache" / "datasets").glob("*-*") if path.suffix != ".lock"]
    assert left == [prepared.folder.name]


def test_images_that_changed_meanwhile_are_decoded_anew(cut, images, open_data, decoded_files):
    cut()
    image = images / "train" / "NORMAL" / "z.png"
    image.write_bytes(next(image.parent.iterdir()).read_bytes())
    assert len(open_data(images).open_split("train")) == 31
    assert len(decoded_files) == 31


@pytest.mark.parametrize(("damage", "decoded_anew"), [("checksums", 30), ("pixels", 30), ("one bit", 26)])
def test_what_is_left_in_pieces_is_decoded_anew(
    cut, images, splits, open_data, decoded_files, tmp_path, damage, decoded_anew
):
    raw = find_raw(tmp_path)
    match damage:
        case "checksums":
            (raw / "images.crc32").unlink()
        case "pixels":
            (raw / "images.npy").write_bytes(b"short")
        case "one bit":
            content = bytearray((raw / "images.npy").read_bytes())
            content[-30 * 28 * 28] ^= 1
            (raw / "images.npy").write_bytes(content)
    cut()
    prepared = open_data(images).open_split("train")
    assert len(decoded_files) == decoded_anew
    assert np.array_equal(load(prepared).images, sort_by_class(splits["train"]).images)


def test_a_broken_image_that_was_met_before_the_cut_is_not_forgotten(
    cut_off, images, open_data, decoded_files, tmp_path
):
    (images / "train" / "NORMAL" / "0000.png").write_text("no image")
    go_on = cut_off(10)
    with pytest.raises(KeyboardInterrupt):
        open_data(images).open_split("train")
    go_on()
    decoded_files.clear()
    with pytest.raises(DataError, match=r"Received: 1 of \d+ that cannot, first train/NORMAL/0000\.png: "):
        open_data(images).open_split("train")
    assert 0 < len(decoded_files) < 30
    assert not list((tmp_path / "cache" / "datasets").glob("*.raw"))


def test_files_that_contradict_themselves_are_named_with_how_they_were_read(images, open_data, caplog):
    image = np.asarray(Image.open(images / "train" / "NORMAL" / "0000.png"))
    for name in ("a.dcm", "b.dcm"):
        dataset = build_dataset(image, PresentationLUTShape="INVERSE")
        (images / "train" / "NORMAL" / name).write_bytes(save(dataset))
    open_data(images).open_split("train")
    said = [record.getMessage() for record in caplog.records if "INVERSE" in record.getMessage()]
    assert said == [
        "2 files, first train/NORMAL/a.dcm: MONOCHROME2 with a Presentation LUT Shape INVERSE: inverted"
    ]


def test_images_decoded_in_other_processes_are_the_same(images, open_data, monkeypatch, splits):
    monkeypatch.undo()
    expected = [
        decode_file(str(path), Preparation(28), LIMITS).image
        for path in sorted((images / "val").rglob("*.png"))
    ]
    prepared = open_data(images).open_split("val")
    assert np.array_equal(load(prepared).images, np.stack(expected))


def test_a_full_cache_is_named(images, open_data, monkeypatch):
    def fill_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chunked.os, "fsync", fill_disk)
    with pytest.raises(DataError, match=r"must take the prepared images\. Received: .*No space left"):
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
