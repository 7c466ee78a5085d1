import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pneumo_keras.features.objects import Objects


@pytest.fixture
def bucket(monkeypatch):
    """Objects on a driver that remembers listings and takes the version of an object first, as s3fs does."""
    listings, read, ls = {}, MemoryFileSystem.cat_file, MemoryFileSystem.ls

    def list_once(files, path, detail=True):
        if path not in listings:
            listings[path] = ls(files, path, detail)
        return listings[path]

    def read_version(files, path, version=None, start=None, end=None):
        assert version is None
        return read(files, path, start, end)

    monkeypatch.setattr(MemoryFileSystem, "ls", list_once)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", read_version)
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda files, path: listings.pop(path, None))
    yield Objects("memory://bucket/deep")
    fsspec.filesystem("memory").store.clear()


def test_objects_are_read_as_far_as_asked_for(bucket):
    bucket.make_folder("a")
    bucket.write("a/x", b"0123456789")
    assert (bucket.read("a/x", 4), bucket.read("a/x", 10), bucket.read("a/x", 20)) == (
        b"0123",
        b"0123456789",
        b"0123456789",
    )
    with pytest.raises(FileNotFoundError):
        bucket.read("a/y", 4)


def test_what_others_wrote_meanwhile_is_listed(bucket):
    assert bucket.list_sizes("a") == {}
    bucket.write("a/x", b"0123")
    assert bucket.list_sizes("a") == {"x": 4}
    Objects("memory://bucket/deep").write("a/y", b"01")
    Objects("memory://bucket/deep").write("a/x", b"012")
    assert bucket.list_sizes("a") == {"x": 3, "y": 2}


def test_folders_are_no_objects(tmp_path):
    folder = Objects(str(tmp_path))
    folder.make_folder("a/inside")
    folder.write("a/x", b"0")
    assert folder.list_sizes("a") == {"x": 1}
    assert [path.name for path in (tmp_path / "a").iterdir() if path.is_file()] == ["x"]


def test_a_path_is_taken_as_it_is(tmp_path):
    odd = tmp_path / "a::b ?#%"
    Objects(str(odd)).make_folder("f")
    assert (odd / "f").is_dir()
