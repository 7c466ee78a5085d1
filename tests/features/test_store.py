import json
import logging
import os
import shutil
from multiprocessing import get_context
from types import SimpleNamespace

import filelock
import numpy as np
import pytest

from pneumo_keras.errors import DataError, SettingsError
from pneumo_keras.features import store as module
from pneumo_keras.features.store import Entry, FeatureTable, Store, iterate_rows, list_entries

FEATURES = np.random.default_rng(0).normal(3, 2, (70, 4)).astype(np.float32)
NESTED = '{"title": "a", "n": 70, "d": 4, "network": ' + "[" * 5000 + "]" * 5000 + "}"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, 10**9)


def build_entry(store, feature_layer="mixed1"):
    return Entry(store.folder, {"network": "a", "feature_layer": feature_layer}, FEATURES.shape)


def fill(store, feature_layer="mixed1", age=None):
    entry = build_entry(store, feature_layer)
    with store.writing([entry], "training images"):
        for chunk in range(entry.array.count):
            rows = entry.array.get_rows(chunk)
            entry.array.write(chunk, FEATURES[rows.start : rows.stop])
    if age is not None:
        for path in (*entry.folder.iterdir(), entry.folder):
            os.utime(path, (1e9 - age, 1e9 - age))
    return entry


def list_feature_layers(store):
    return [entry.about["feature_layer"] for entry in list_entries(store.cache)]


def test_features_come_back_as_they_were_written(store):
    entry = fill(store)
    np.testing.assert_array_equal(FeatureTable({"mixed1": entry.array.file}, 70)[:], FEATURES)
    with store.writing([entry], "training images"):
        assert entry.array.find_missing() == []


def test_feature_layers_stand_side_by_side_in_the_order_asked_for(tmp_path):
    for name, part in (("a", FEATURES[:, :1]), ("b", FEATURES[:, 1:])):
        np.save(tmp_path / f"{name}.npy", part)
    table = FeatureTable({"a": tmp_path / "a.npy", "b": tmp_path / "b.npy"}, 70)
    rows = np.array([7, 0, 7])
    np.testing.assert_array_equal(table[rows], FEATURES[rows])
    np.testing.assert_array_equal(np.concatenate(list(iterate_rows(table))), FEATURES)
    np.testing.assert_array_equal(table.select(["b"])[:], FEATURES[:, 1:])
    np.testing.assert_array_equal(table.select(["b", "a"])[:], FEATURES[:, [1, 2, 3, 0]])


def test_other_content_has_another_address(store):
    entry = build_entry(store)
    assert build_entry(store, "mixed2").name != entry.name
    assert Entry(store.folder, entry.about, (71, 4)).name != entry.name
    assert Entry(store.folder, dict(reversed(entry.about.items())), entry.shape).name == entry.name


def test_what_is_kept_is_listed_oldest_use_first(store):
    assert list_entries(store.cache) == []
    first, second = fill(store, "mixed1", age=1), fill(store, "mixed2", age=2)
    listed = list_entries(store.cache)
    assert [(entry.folder, entry.title, entry.n, entry.images) for entry in listed] == [
        (second.folder, "training images", 70, 70),
        (first.folder, "training images", 70, 70),
    ]
    assert listed[0].about.items() >= second.about.items()
    assert listed[0].size > FEATURES.nbytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        '"title"',
        '{"title": 1, "n": "many", "d": {}}',
        '{"title": "a", "n": 1e999, "d": 4}',
        f'{{"title": "a", "n": {"9" * 5000}, "d": 4}}',
        "\x00\xff",
        NESTED,
    ],
)
def test_one_damaged_entry_is_left_out_of_the_list_with_a_warning(store, caplog, text):
    fill(store, "mixed1")
    damaged = fill(store, "mixed2").folder
    (damaged / "about.json").write_text(text, encoding="latin-1")
    (store.folder / "file").touch()
    with caplog.at_level(logging.WARNING, "pneumo_keras"):
        assert list_feature_layers(store) == ["mixed1"]
    lines = [line for line in caplog.messages if line.startswith(f"{damaged} has no features")]
    assert len(lines) == 1 and "\n" not in lines[0]


def test_a_job_makes_room_for_itself_at_the_cost_of_the_oldest_entries(store):
    old, *_ = [fill(store, f"mixed{index}", age=9 - index) for index in range(4)]
    size = max(entry.size for entry in list_entries(store.cache))
    Store(store.cache, 4 * size).check_space([old, build_entry(store, "mixed9")])
    assert list_feature_layers(store) == ["mixed2", "mixed3", "mixed0"]
    Store(store.cache, 4 * size).check_space([build_entry(store, "mixed9")])
    assert list_feature_layers(store) == ["mixed2", "mixed3", "mixed0"]


def test_a_job_that_exceeds_the_limit_is_refused(store):
    entries = [Entry(store.folder, {"view": index}, (100_000, 2048)) for index in range(30)]
    Store(store.cache, int(25e9)).check_space([*entries, *entries])
    with pytest.raises(SettingsError) as caught:
        Store(store.cache, int(20e9)).check_space(entries)
    assert str(caught.value) == (
        "compute.cache_gigabytes must be at least 24.58, which the features of this job take: raise it, or "
        "lower augmentation.views. Received: 20"
    )


def test_a_job_that_the_disk_cannot_take_is_refused(store, monkeypatch):
    done, other = fill(store, "mixed1"), build_entry(store, "mixed2")
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=other.array.size - 1)
    )
    store.check_space([done])
    with pytest.raises(DataError) as caught:
        store.check_space([done, other])
    assert str(caught.value) == (
        f"The features of this job take another 0.01 GB in {store.folder}: free space, name a folder on "
        "another disk with PNEUMO_KERAS_CACHE, or lower augmentation.views. Received: 0.00 GB free"
    )


def test_features_that_are_taken_away_while_in_use_get_one_line(store):
    entry = fill(store)
    table = FeatureTable({"mixed1": entry.array.file}, 70)
    shutil.rmtree(entry.folder)
    with pytest.raises(
        DataError, match=r"Features that were in use are gone: .* Run it again; where several"
    ):
        table[:]


@pytest.mark.parametrize("obstacle", ["store", "entry", "lock", "about.json", "features.npy"])
def test_a_store_that_cannot_be_one_gets_one_line(store, obstacle):
    entry = build_entry(store)
    match obstacle:
        case "store":
            store.folder.touch()
        case "entry":
            store.folder.mkdir()
            entry.folder.touch()
        case _:
            (entry.folder / obstacle).mkdir(parents=True)
    with pytest.raises(DataError) as caught, store.writing([entry], "training images"):
        pass
    assert str(caught.value).startswith(f"{store.folder}: the cache must take the features. Received: ")
    assert str(caught.value).endswith(
        ". Free space there, or name another folder with PNEUMO_KERAS_CACHE; what was computed stays."
    )


def hold(store, entry, ready, release):
    with store.writing([entry], "training images"):
        ready.set()
        release.wait(10)


@pytest.mark.system
def test_two_processes_do_not_compute_an_entry_at_once(store):
    entry, context = build_entry(store), get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(store, entry, ready, release))
    other.start()
    assert ready.wait(60)
    with pytest.raises(filelock.Timeout):
        filelock.FileLock(entry.folder / "lock").acquire(timeout=0.1)
    release.set()
    with store.writing([entry], "training images"):
        pass
    other.join()


def test_about_json_says_what_an_entry_is(store):
    about = json.loads((fill(store).folder / "about.json").read_text())
    assert about == {"title": "training images", "n": 70, "d": 4, "network": "a", "feature_layer": "mixed1"}
