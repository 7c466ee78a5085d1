import os
from multiprocessing import get_context

import filelock
import numpy as np
import pytest
from pneumo_keras.features.entry import Entry, load_entry

from pneumo_keras.errors import DataError
from pneumo_keras.features.store import FeatureTable
from tests.damage import mutate

FEATURES = np.random.default_rng(0).normal(3, 2, (70, 4)).astype(np.float32)


@pytest.fixture
def entry(tmp_path):
    return Entry(tmp_path / "features", {"network": "a", "feature_layer": "mixed1"}, FEATURES.shape)


@pytest.fixture
def whole(entry):
    entry.start()
    entry.mark_used("training images")
    for chunk in range(entry.array.count):
        write(entry, chunk)
    return entry


def write(entry, chunk):
    rows = entry.array.get_rows(chunk)
    entry.write(chunk, FEATURES[rows.start : rows.stop])


def test_chunks_come_back_as_they_were_written(entry):
    entry.start()
    write(entry, 0)
    assert entry.count_done() == 32
    write(entry, 2)
    assert (entry.count_done(), entry.array.find_missing()) == (38, [1])
    write(entry, 1)
    np.testing.assert_array_equal(FeatureTable({"mixed1": entry.array.file}, 70)[:], FEATURES)


def test_a_started_entry_keeps_what_it_has(entry):
    entry.start()
    write(entry, 0)
    entry.start()
    assert entry.count_done() == 32
    np.testing.assert_array_equal(np.load(entry.array.file)[:32], FEATURES[:32])


def test_other_content_has_another_address(entry):
    assert Entry(entry.store, {**entry.about, "feature_layer": "mixed2"}, entry.shape).name != entry.name
    assert Entry(entry.store, entry.about, (71, 4)).name != entry.name
    assert Entry(entry.store, dict(reversed(entry.about.items())), entry.shape).name == entry.name


def test_an_entry_says_what_it_is_and_whose_images_they_are(entry):
    entry.start()
    entry.mark_used("training images")
    entry.mark_used("the same images, better named")
    found = load_entry(entry.folder)
    assert (found.title, found.n, found.images) == ("the same images, better named", 70, 0)
    assert found.about.items() >= entry.about.items()
    assert found.size > entry.size == FEATURES.nbytes


@pytest.mark.parametrize("seed", range(12))
def test_what_it_says_to_be_is_what_its_name_says(whole, seed):
    mutate(whole.folder / "about.json", np.random.default_rng(seed))
    with pytest.raises(DataError) as caught:
        load_entry(whole.folder)
    assert str(caught.value).startswith(f"Features in {whole.folder} are damaged (")
    assert str(caught.value).endswith("). Remove them with: pneumo-keras cache clear")
    assert "\n" not in str(caught.value)
    assert whole.array.find_missing() == []
    whole.mark_used("training images")
    assert load_entry(whole.folder).images == 70


NESTED = '{"title": "a", "n": 70, "d": 4, "network": ' + "[" * 5000 + "]" * 5000 + "}"


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
        '{"title": "a", "n": -1, "d": 4}',
        "\x00\xff",
        NESTED,
    ],
)
def test_a_damaged_entry_gets_one_line(entry, text):
    entry.start()
    (entry.folder / "about.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError) as caught:
        load_entry(entry.folder)
    assert str(caught.value).startswith(f"Features in {entry.folder} are damaged (")
    assert str(caught.value).endswith("). Remove them with: pneumo-keras cache clear")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_about_json_may_be_anything(whole, kind):
    path = whole.folder / "about.json"
    path.unlink()
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(DataError, match=r"about\.json is no file"):
        load_entry(whole.folder)
    whole.mark_used("training images")
    assert load_entry(whole.folder).title == "training images"


def test_a_file_in_its_place_goes(entry):
    entry.store.mkdir()
    entry.folder.touch()
    entry.start()
    assert entry.folder.is_dir()


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
    with pytest.raises(filelock.Timeout):
        filelock.FileLock(entry.folder / "writing.lock").acquire(timeout=0.1)
    release.set()
    with entry.lock():
        pass
    other.join()
