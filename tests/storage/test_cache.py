import os

import pytest

from pneumo_keras.storage.cache import KINDS, PREPARED, PROGRAMS, mark_used


def write(cache, kind, name, *, size=100, age=0.0):
    """A file of the cache, or one in a folder of that name where the name ends in a slash."""
    path = cache / kind.folder / name / "file" if name.endswith("/") else cache / kind.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for part in (path, path.parent) if name.endswith("/") else (path,):
        os.utime(part, (1e9 - age, 1e9 - age))


def list_names(cache, kind):
    return sorted(path.name for path in (cache / kind.folder).iterdir())


NAMES = {
    "features": ["a/", "b/", "c/"],
    "datasets": ["a/", "b/", "c/"],
    "hashes": ["a.npz", "b.npz", "c.npz"],
    "jax": ["a-1-cache", "b-1-cache", "c-1-cache"],
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.folder)
def test_what_was_used_longest_ago_goes_first_until_the_rest_fits(tmp_path, kind):
    for name, age in zip(NAMES[kind.folder], (2, 3, 1), strict=True):
        write(tmp_path, kind, name, age=age)
    items = sorted(kind.list_items(tmp_path).items())
    assert [(item.size, 1e9 - item.used) for _, item in items] == [(100, 2), (100, 3), (100, 1)]
    for limit, left in ((300, "abc"), (299, "ac"), (200, "ac"), (199, "c"), (99, "c")):
        kind.shrink(tmp_path, limit)
        assert "".join(name[0] for name in list_names(tmp_path, kind)) == left
    kind.shrink(tmp_path, 199, new=100)
    assert list_names(tmp_path, kind) == []


def test_what_belongs_together_goes_together(tmp_path):
    for name in ("folder-28-a/", ".folder-28-a.raw/", ".folder-28-a.lock", ".folder-28-b.partial/"):
        write(tmp_path, PREPARED, name, age=2)
    write(tmp_path, PREPARED, "folder-28-b/", age=1)
    assert set(PREPARED.list_items(tmp_path)) == {"folder-28-a", "folder-28-b"}
    PREPARED.shrink(tmp_path, 200)
    assert {path.name for path in (tmp_path / "datasets").iterdir()} >= {
        "folder-28-b",
        ".folder-28-b.partial",
    }
    assert not any("folder-28-a" in path.name for path in (tmp_path / "datasets").iterdir())
    for name in ("jit_run-1-cache", "jit_run-1-atime"):
        write(tmp_path, PROGRAMS, name)
    assert set(PROGRAMS.list_items(tmp_path)) == {"jit_run-1"}
    PROGRAMS.shrink(tmp_path, 200, new=1)
    assert list((tmp_path / "jax").iterdir()) == []


def test_what_is_marked_as_used_goes_last(tmp_path):
    write(tmp_path, PREPARED, "a/", age=9)
    write(tmp_path, PREPARED, "b/", age=1)
    mark_used(tmp_path / "datasets" / "a")
    mark_used(tmp_path / "datasets" / "nothing")
    PREPARED.shrink(tmp_path, 100)
    assert list_names(tmp_path, PREPARED) == ["a"]


def test_what_cannot_be_listed_is_left(tmp_path, monkeypatch):
    write(tmp_path, PREPARED, "a/")

    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pathlib.Path.rglob", refuse)
    PREPARED.shrink(tmp_path, 0)
    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    assert PREPARED.list_items(tmp_path) == {}
    PREPARED.shrink(tmp_path, 0)


def test_there_may_be_no_cache_and_none_that_can_be_written(tmp_path):
    for kind in KINDS:
        assert kind.list_items(tmp_path) == {}
        kind.shrink(tmp_path, 0)
        assert kind.clear(tmp_path)
    (tmp_path / "jax").touch()
    PROGRAMS.shrink(tmp_path, -1)
    assert PROGRAMS.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []
