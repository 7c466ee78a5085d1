import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pneumo_keras.features.entry import Entry
from pneumo_keras.storage.hold import Hold
from pneumo_keras.storage.kept import Kind

from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.features import store as module
from pneumo_keras.features.store import FeatureTable, Store, list_entries

FEATURES = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)


def clear_store(folder):
    return Kind(folder.name, "features", lambda name: name, has_holds=True).clear(folder.parent)


def fill(folder, feature_layer, age=None):
    entry = Entry(folder, {"network": "a", "feature_layer": feature_layer}, FEATURES.shape)
    entry.start()
    entry.mark_used("training images")
    entry.write(0, FEATURES)
    if age is not None:
        os.utime(entry.folder / "about.json", (age, age))
    return entry


def list_feature_layers(folder):
    return [entry.about["feature_layer"] for entry in list_entries(folder)]


def test_feature_layers_stand_side_by_side_in_the_order_asked_for(tmp_path):
    for name, part in (("a", FEATURES[:, :1]), ("b", FEATURES[:, 1:])):
        np.save(tmp_path / f"{name}.npy", part)
    table = FeatureTable({"a": tmp_path / "a.npy", "b": tmp_path / "b.npy"}, 10)
    rows = np.array([7, 0, 7])
    np.testing.assert_array_equal(table[rows], FEATURES[rows])
    np.testing.assert_array_equal(np.concatenate(list(table.iterate())), FEATURES)
    np.testing.assert_array_equal(table.select(["b"])[:], FEATURES[:, 1:])
    np.testing.assert_array_equal(table.select(["b", "a"])[:], FEATURES[:, [1, 2, 3, 0]])


def test_a_store_lists_what_it_holds_oldest_use_first(tmp_path):
    first, second = fill(tmp_path, "mixed1", age=2000), fill(tmp_path, "mixed2", age=1000)
    listed = list_entries(tmp_path)
    assert [(entry.folder, entry.images) for entry in listed] == [(second.folder, 10), (first.folder, 10)]
    second.mark_used("training images")
    assert list_feature_layers(tmp_path) == ["mixed1", "mixed2"]


def test_no_store_is_an_empty_one(tmp_path):
    assert list_entries(tmp_path / "none") == []


@pytest.mark.parametrize("vanishing", ["about.json", ".abc.about.json", "folder"])
def test_listing_survives_what_vanishes_under_it(tmp_path, monkeypatch, vanishing):
    fill(tmp_path, "mixed1")
    gone = fill(tmp_path, "mixed2").folder
    (gone / ".abc.about.json").write_text("temporary")
    iterate, read = Path.iterdir, Path.read_text

    def vanish(folder):
        if folder == gone:
            shutil.rmtree(folder) if vanishing == "folder" else (folder / vanishing).unlink(missing_ok=True)

    def iterate_and_vanish(folder):
        paths = list(iterate(folder))
        vanish(folder)
        return iter(paths)

    def vanish_and_read(path, **settings):
        if path.name == vanishing:
            vanish(path.parent)
        return read(path, **settings)

    monkeypatch.setattr(Path, "iterdir", iterate_and_vanish)
    monkeypatch.setattr(Path, "read_text", vanish_and_read)
    assert set(list_feature_layers(tmp_path)) == (
        {"mixed1", "mixed2"} if vanishing.startswith(".") else {"mixed1"}
    )


def test_one_damaged_entry_is_left_out_with_a_warning_and_can_be_cleared(tmp_path, caplog):
    fill(tmp_path, "mixed1")
    damaged = fill(tmp_path, "mixed2").folder
    (damaged / "about.json").write_text("{", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "pneumo_keras"):
        assert list_feature_layers(tmp_path) == ["mixed1"]
    (line,) = caplog.messages
    assert line.startswith(f"Features in {damaged} are damaged")
    assert clear_store(tmp_path) == []
    assert not damaged.exists()


def test_a_full_store_loses_the_oldest_entries_but_none_that_is_held(tmp_path):
    entries = [fill(tmp_path, f"mixed{index}", age=1000 + index) for index in range(4)]
    size = list_entries(tmp_path)[0].size
    store, other = Store(tmp_path, 2 * size), Store(tmp_path, 2 * size)
    other.held.add([entries[0].name])
    store.shrink()
    assert list_feature_layers(tmp_path) == ["mixed0", "mixed3"]
    other.held.release()
    Store(tmp_path, size).shrink()
    assert list_feature_layers(tmp_path) == ["mixed3"]


def test_damaged_entries_go_first(tmp_path):
    fill(tmp_path, "mixed1", age=1000)
    (fill(tmp_path, "mixed2").folder / "about.json").write_text("{", encoding="utf-8")
    Store(tmp_path, list_entries(tmp_path)[0].size).shrink()
    assert list_feature_layers(tmp_path) == ["mixed1"]


def test_a_store_whose_entries_are_all_in_use_exceeds_its_limit_and_says_so_once(tmp_path, caplog):
    store = Store(tmp_path, 100)
    store.held.add([fill(tmp_path, "mixed1").name])
    with caplog.at_level(logging.WARNING, "pneumo_keras"):
        store.shrink()
        store.shrink()
    (line,) = caplog.messages
    assert line.startswith("The cache exceeds compute.cache_gigabytes=1e-07 by ")
    assert list_feature_layers(tmp_path) == ["mixed1"]


def test_what_is_held_is_not_cleared(tmp_path):
    first, _ = fill(tmp_path, "mixed1"), fill(tmp_path, "mixed2")
    store = Store(tmp_path, 10**9)
    store.held.add([first.name])
    assert clear_store(tmp_path) == [first.folder]
    store.held.release()
    assert clear_store(tmp_path) == []
    assert list_entries(tmp_path) == []


def test_an_entry_that_cannot_be_removed_stays_without_an_error(tmp_path, monkeypatch):
    entry = fill(tmp_path, "mixed1")
    monkeypatch.setattr(Path, "unlink", lambda path, **_: (_ for _ in ()).throw(PermissionError(path)))
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    assert clear_store(tmp_path) == [entry.folder]


def test_a_job_that_exceeds_the_limit_is_refused(tmp_path):
    entries = [Entry(tmp_path, {"view": index}, (100_000, 2048)) for index in range(30)]
    Store(tmp_path, int(25e9)).check_room(entries)
    Store(tmp_path, int(25e9)).check_room([*entries, *entries])
    with pytest.raises(SettingsError) as caught:
        Store(tmp_path, int(20e9)).check_room(entries)
    assert str(caught.value) == (
        "compute.cache_gigabytes must be at least 24.58, which the features of this job take: raise it, or "
        "lower augmentation.views. Received: 20"
    )


def test_a_job_that_the_disk_cannot_take_is_refused(tmp_path, monkeypatch):
    done, other = fill(tmp_path, "mixed1"), Entry(tmp_path, {"feature_layer": "mixed2"}, FEATURES.shape)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=other.size - 1))
    store = Store(tmp_path, 10**9)
    store.check_room([done])
    with pytest.raises(DataError) as caught:
        store.check_room([done, other])
    assert str(caught.value) == (
        f"The features of this job take another 0.01 GB in {tmp_path}: make room, name a folder on another "
        "disk with PNEUMO_KERAS_CACHE, or lower augmentation.views. Received: 0.00 GB free"
    )


def test_what_will_be_evicted_counts_as_free(tmp_path, monkeypatch):
    fill(tmp_path, "mixed1")
    size = list_entries(tmp_path)[0].size
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    Store(tmp_path, size).check_room([Entry(tmp_path, {"feature_layer": "mixed2"}, FEATURES.shape)])


def test_a_store_takes_whatever_lies_in_it(tmp_path):
    fill(tmp_path, "mixed1")
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder.lock", "pipe.lock", "dangling.lock"):
        path = tmp_path / "holds" / name
        path.parent.mkdir(exist_ok=True)
        match name:
            case "folder.lock":
                path.mkdir()
            case "pipe.lock":
                os.mkfifo(path)
            case "dangling.lock":
                path.symlink_to("nowhere/at/all")
    assert list_feature_layers(tmp_path) == ["mixed1"]
    Store(tmp_path, 10**9).shrink()
    assert list_feature_layers(tmp_path) == ["mixed1"]
    assert clear_store(tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} == {"holds", "store.lock"}


@pytest.mark.parametrize("kind", ["text", "folder", "pipe", "gone"])
def test_where_nobody_knows_what_is_held_nothing_goes(tmp_path, kind):
    fill(tmp_path, "mixed1")
    held = Hold(tmp_path)
    held.add(["some other"])
    (names,) = (tmp_path / "holds").glob("*.json")
    names.unlink()
    match kind:
        case "text":
            names.write_text("[" * 9999)
        case "folder":
            names.mkdir()
        case "pipe":
            os.mkfifo(names)
    assert len(clear_store(tmp_path)) == 1
    held.release()
    assert clear_store(tmp_path) == []


def test_features_that_are_taken_away_while_in_use_get_one_line(tmp_path):
    entry = fill(tmp_path, "mixed1")
    table = FeatureTable({"mixed1": entry.array.file}, 10)
    shutil.rmtree(entry.folder)
    with pytest.raises(DataError, match=r"Features that were in use are gone: .* Run it again\."):
        table[:]


@pytest.mark.parametrize("place", ["store", "holds", "store.lock"])
def test_a_store_that_cannot_be_one_gets_one_line(tmp_path, place):
    store = Store(tmp_path / "features", 10**9)
    match place:
        case "store":
            store.folder.touch()
        case "holds":
            store.folder.mkdir()
            (store.folder / "holds").touch()
        case "store.lock":
            (store.folder / "store.lock").mkdir(parents=True)
    entry = Entry(store.folder, {"feature_layer": "mixed1"}, FEATURES.shape)
    store.hold([entry])
    with pytest.raises(DataError) as caught, store.writing([entry], "training images"):
        pass
    assert str(caught.value).startswith(f"{store.folder}: the cache must take the features. Received: ")
    assert str(caught.value).endswith(
        ". Make room there, or name another folder with PNEUMO_KERAS_CACHE; what was computed stays."
    )
