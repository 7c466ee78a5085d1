import json
import os
from multiprocessing import get_context

import numpy as np
import pytest

from pneumo_keras.features.store import (
    Entry,
    FeatureTable,
    compute_moments,
    list_entries,
    remove_entry,
    shrink_store,
)

FEATURES = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)


@pytest.fixture
def entry(tmp_path):
    entry = Entry(tmp_path / "features", {"weights": "a", "tap": "mixed1"}, FEATURES.shape)
    entry.store.mkdir()
    return entry


def test_chunks_come_back_as_they_were_written(entry):
    entry.start()
    entry.write(0, FEATURES[:4])
    assert entry.count_done() == 4
    entry.write(4, FEATURES[4:])
    assert entry.count_done() == 10
    np.testing.assert_array_equal(FeatureTable((entry.file,), 10)[:], FEATURES)


def test_a_started_entry_keeps_what_it_has(entry):
    entry.start()
    entry.write(0, FEATURES[:4])
    entry.start()
    assert entry.count_done() == 4
    np.testing.assert_array_equal(np.load(entry.file)[:4], FEATURES[:4])


def test_other_content_has_another_address(entry):
    other = Entry(entry.store, {**entry.about, "tap": "mixed2"}, entry.shape)
    assert other.folder != entry.folder
    assert Entry(entry.store, dict(reversed(entry.about.items())), entry.shape).folder == entry.folder


def test_an_entry_says_what_it_is(entry):
    entry.start()
    assert json.loads((entry.folder / "about.json").read_text()) == entry.about


def test_taps_stand_side_by_side(tmp_path):
    for name, part in (("a", FEATURES[:, :1]), ("b", FEATURES[:, 1:])):
        np.save(tmp_path / f"{name}.npy", part)
    table = FeatureTable((tmp_path / "a.npy", tmp_path / "b.npy"), 10)
    rows = np.array([7, 0, 7])
    np.testing.assert_array_equal(table[rows], FEATURES[rows])
    np.testing.assert_array_equal(np.concatenate(list(table.iterate())), FEATURES)


def test_moments_are_those_of_all_views(tmp_path):
    for name, part in (("a", FEATURES[:3]), ("b", FEATURES[3:])):
        np.save(tmp_path / f"{name}.npy", part)
    tables = [FeatureTable((tmp_path / "a.npy",), 3), FeatureTable((tmp_path / "b.npy",), 7)]
    mean, variance = compute_moments(tables)
    np.testing.assert_allclose(mean, FEATURES.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, FEATURES.var(axis=0), rtol=1e-5)


def hold(entry, ready, release):
    with entry.lock():
        ready.set()
        release.wait(10)


def test_two_processes_do_not_write_an_entry_at_once(entry):
    context = get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(entry, ready, release))
    other.start()
    assert ready.wait(60)
    lock = entry.lock()
    with pytest.raises(TimeoutError):
        lock.acquire(timeout=0.1)
    release.set()
    lock.acquire(timeout=30)
    lock.release()
    other.join()


def fill(store, tap):
    entry = Entry(store, {"weights": "a", "tap": tap}, FEATURES.shape)
    entry.start()
    entry.write(0, FEATURES)
    return entry


def age(entry, seconds):
    os.utime(entry.folder / "about.json", (seconds, seconds))


def test_a_store_lists_what_it_holds_oldest_use_first(tmp_path):
    first, second = fill(tmp_path, "mixed1"), fill(tmp_path, "mixed2")
    age(first, 2000)
    age(second, 1000)
    listed = list_entries(tmp_path)
    assert [(entry.about["tap"], entry.films) for entry in listed] == [("mixed2", 10), ("mixed1", 10)]
    assert listed[0].size > FEATURES.nbytes
    second.mark_used()
    assert [entry.about["tap"] for entry in list_entries(tmp_path)] == ["mixed1", "mixed2"]


def test_a_full_store_loses_the_oldest_entries_but_none_in_use(tmp_path):
    entries = [fill(tmp_path, f"mixed{index}") for index in range(4)]
    for index, entry in enumerate(entries):
        age(entry, 1000 + index)
    size = list_entries(tmp_path)[0].size
    removed = shrink_store(tmp_path, 2 * size, keep=[entries[0].folder])
    assert [entry.about["tap"] for entry in removed] == ["mixed1", "mixed2"]
    assert {entry.about["tap"] for entry in list_entries(tmp_path)} == {"mixed0", "mixed3"}
    assert shrink_store(tmp_path, 2 * size, keep=[]) == []


def test_an_entry_that_is_being_written_is_not_removed(tmp_path):
    entry = fill(tmp_path, "mixed1")
    with entry.lock():
        assert not remove_entry(entry.folder)
    assert remove_entry(entry.folder)
    assert list_entries(tmp_path) == []
