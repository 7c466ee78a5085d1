import json
from multiprocessing import get_context

import numpy as np
import pytest

from pneumo_keras.errors import DataError
from pneumo_keras.features.entry import Entry, load_entry
from pneumo_keras.features.store import FeatureTable

FEATURES = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)


@pytest.fixture
def entry(tmp_path):
    return Entry(tmp_path / "features", {"network": "a", "tap": "mixed1"}, FEATURES.shape)


def test_chunks_come_back_as_they_were_written(entry):
    entry.start()
    entry.write(0, FEATURES[:4])
    assert entry.count_done() == 4
    entry.write(4, FEATURES[4:])
    assert entry.count_done() == 10
    np.testing.assert_array_equal(FeatureTable({"mixed1": entry.file}, 10)[:], FEATURES)


def test_a_started_entry_keeps_what_it_has(entry):
    entry.start()
    entry.write(0, FEATURES[:4])
    entry.start()
    assert entry.count_done() == 4
    np.testing.assert_array_equal(np.load(entry.file)[:4], FEATURES[:4])


def test_other_content_has_another_address(entry):
    assert Entry(entry.store, {**entry.about, "tap": "mixed2"}, entry.shape).name != entry.name
    assert Entry(entry.store, entry.about, (11, 4)).name != entry.name
    assert Entry(entry.store, dict(reversed(entry.about.items())), entry.shape).name == entry.name


def test_an_entry_says_what_it_is_and_whose_films_they_are(entry):
    entry.start()
    entry.mark_used("training films")
    entry.mark_used("the same films, better named")
    found = load_entry(entry.folder)
    assert (found.title, found.n, found.films) == ("the same films, better named", 10, 0)
    assert found.about.items() >= entry.about.items()
    assert found.size > entry.size == FEATURES.nbytes


@pytest.mark.parametrize("damage", ["done.json is cut off", "done.json is a list", "features are cut off"])
def test_a_damaged_entry_is_written_anew(entry, damage):
    entry.start()
    entry.write(0, FEATURES)
    if damage == "features are cut off":
        entry.file.write_bytes(entry.file.read_bytes()[:100])
    else:
        (entry.folder / "done.json").write_text("{" if damage == "done.json is cut off" else "[1]")
    assert entry.count_done() == 0
    entry.start()
    entry.write(0, FEATURES)
    assert entry.count_done() == 10
    np.testing.assert_array_equal(np.load(entry.file), FEATURES)


@pytest.mark.parametrize("name", ["about.json", "done.json"])
@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"films": "many"}', "\x00\xff"])
def test_a_damaged_entry_gets_one_line(entry, name, text):
    entry.start()
    entry.mark_used("training films")
    (entry.folder / name).write_text(text, encoding="latin-1")
    with pytest.raises(DataError) as caught:
        load_entry(entry.folder)
    assert str(caught.value).startswith(f"Features in {entry.folder} are damaged (")
    assert str(caught.value).endswith("). Remove them with: pneumo-keras cache clear")
    assert "\n" not in str(caught.value)


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


def test_done_json_is_about_this_entry(entry):
    entry.start()
    entry.write(0, FEATURES[:3])
    assert json.loads((entry.folder / "done.json").read_text()) == {"films": 3}
