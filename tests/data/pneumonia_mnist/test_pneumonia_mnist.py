import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pneumo_keras.data.films import count_classes
from pneumo_keras.data.pneumonia_mnist import load_pneumonia_mnist, to_unofficial_line
from pneumo_keras.data.pneumonia_mnist.catalog import CLASS_COUNTS, Release
from pneumo_keras.data.pneumonia_mnist.source import Source
from pneumo_keras.errors import DataError

SHARED = Path(__file__).parents[4] / "shared" / "data" / "pneumoniamnist.npz"
needs_shared = pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED} is missing")

LOAD = """
import json, logging, sys
from pathlib import Path
from pneumo_keras.data.download import Release
from pneumo_keras.data.pneumonia_mnist import load_pneumonia_mnist
log = logging.getLogger("pneumo_keras")
log.addHandler(logging.StreamHandler())
log.setLevel(logging.INFO)
order = json.loads(sys.argv[1])
path = Path(order["path"]) if order["path"] else None
cache, release = Path(order["cache"]), Release(**order["release"])
splits = load_pneumonia_mnist(("train", "val"), size=28, path=path, cache=cache, release=release)
if splits["train"].images.shape != (12, 28, 28) or logging.root.handlers:
    sys.exit(1)
sys.exit(3 if {"tensorflow", "torch", "keras", "jax", "medmnist"} & set(sys.modules) else 0)
"""


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def to_release(npz, url="http://127.0.0.1:9/films.npz"):
    md5 = hashlib.md5(npz.read_bytes()).hexdigest()
    return Release("Films", "films.npz", url, md5, npz.stat().st_size)


def start_loading(release, *, path, cache, modules="."):
    order = {"path": path and str(path), "cache": str(cache), "release": vars(release)}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", LOAD, json.dumps(order)],
        env=os.environ | {"PYTHONPATH": str(modules)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def serve():
    """Serves a folder over HTTP; the list collects the request lines."""
    servers, requests = [], []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_):
            requests.append(self.requestline)

    def start(folder):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_only_the_asked_splits_come_back(write_npz, cache):
    splits = load_pneumonia_mnist(("val", "train"), size=28, path=write_npz(), cache=cache)
    assert {split: len(films) for split, films in splits.items()} == {"val": 6, "train": 12}


def test_the_test_films_are_not_opened_unless_asked_for(write_npz, cache):
    path = write_npz(test_images=np.zeros(3), test_labels=np.array(["no label"]))
    assert list(load_pneumonia_mnist(("train", "val"), size=28, path=path, cache=cache)) == ["train", "val"]
    with pytest.raises(DataError, match="the films of split 'test' must be uint8"):
        load_pneumonia_mnist(("test",), size=28, path=path, cache=cache)


def test_an_unknown_split_is_refused(cache):
    with pytest.raises(DataError) as error:
        load_pneumonia_mnist(("train", "validation"), size=28, path=None, cache=cache)
    assert str(error.value) == "A split must be one of train, val, test. Received: validation."


def test_the_official_file_needs_no_words(write_npz, cache, caplog):
    path = write_npz()
    load_pneumonia_mnist(("val",), size=28, path=path, cache=cache, release=to_release(path))
    assert caplog.messages == []


def test_another_file_is_used_with_its_counts_told_every_time(write_npz, cache, caplog):
    path = write_npz()
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    for _ in range(2):
        load_pneumonia_mnist(("train", "val"), size=28, path=path, cache=cache)
    line = (
        f"{path} is not the official PneumoniaMNIST at 28 px (its MD5 is {md5}, the official one "
        "28209eda62fecd6e6a2d98b1501bb15f) and is used as it is: train 4 normal, 8 pneumonia; val "
        "2 normal, 4 pneumonia. It holds 12, 6 films there, the official one 4,708, 524: results "
        "are not comparable with published ones."
    )
    assert caplog.messages == [line, line]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


PARTIAL = (
    " It is the popular partial copy with 3,882 training films (388 normal): results are not "
    "comparable with published ones."
)


@pytest.mark.parametrize(("train", "ending"), [((1214, 3494), ""), ((388, 3494), PARTIAL)])
def test_the_popular_partial_copy_is_named(train, ending):
    source = Source(Path("films.npz"), "", "", is_official=False)
    release = Release("Films", "films.npz", "", "")
    line = to_unofficial_line(source, release, CLASS_COUNTS | {"train": train})
    assert line.endswith(f"; test 234 normal, 390 pneumonia.{ending}")


def test_loading_is_silent_and_imports_no_framework(write_npz, cache, tmp_path):
    path = write_npz()
    for name in ("tensorflow", "torch"):  # there to be imported, should anything try
        (tmp_path / "stubs" / name).mkdir(parents=True)
        (tmp_path / "stubs" / name / "__init__.py").write_text("")
    loading = start_loading(to_release(path), path=path, cache=cache, modules=tmp_path / "stubs")
    assert (*loading.communicate(timeout=60), loading.returncode) == ("", "", 0)


def test_two_processes_at_once_download_and_prepare_once(write_npz, cache, home, serve):
    path = write_npz()
    url, requests = serve(path.parent)
    release = to_release(path, f"{url}/films.npz")
    both = [start_loading(release, path=None, cache=cache) for _ in range(2)]
    heard = [loading.communicate(timeout=60) for loading in both]
    assert [loading.returncode for loading in both] == [0, 0]
    line = (
        f"Downloading Films (films.npz, {release.bytes:,} bytes, MD5 {release.md5}) from "
        f"{release.url} to {home}/.medmnist\n"
    )
    assert sorted(heard) == [("", ""), ("", line)]
    assert requests == ["GET /films.npz HTTP/1.1"]
    assert len([path for path in (cache / "datasets").iterdir() if path.suffix != ".lock"]) == 2


@pytest.mark.real_data
@needs_shared
def test_the_shared_copy_has_the_official_counts(cache, caplog):
    splits = load_pneumonia_mnist(("train", "val", "test"), size=28, path=SHARED, cache=cache)
    raw = np.load(SHARED)
    for split, films in splits.items():
        assert count_classes(films.labels) == CLASS_COUNTS[split]
        assert np.array_equal(films.images, raw[f"{split}_images"])
        assert np.array_equal(films.labels, raw[f"{split}_labels"][:, 0])
    assert caplog.messages[0].endswith("; test 234 normal, 390 pneumonia.")
