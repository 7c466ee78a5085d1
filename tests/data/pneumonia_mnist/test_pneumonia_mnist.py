import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pneumo_keras.data.images import count_classes
from pneumo_keras.data.pneumonia_mnist import needs_download, open_images
from pneumo_keras.data.pneumonia_mnist.catalog import CLASS_COUNTS, Release, describe_difference
from pneumo_keras.data.sources import DataOptions
from pneumo_keras.errors import DataError

SHARED = Path(__file__).parents[4] / "shared" / "data" / "pneumoniamnist.npz"
needs_shared = pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED} is missing")

LOAD = """
import json, logging, sys
from pathlib import Path
from pneumo_keras.data.download import Release
from pneumo_keras.data.pneumonia_mnist import open_images
from pneumo_keras.data.sources import DataOptions
log = logging.getLogger("pneumo_keras")
log.addHandler(logging.StreamHandler())
log.setLevel(logging.INFO)
order = json.loads(sys.argv[1])
path = Path(order["path"]) if order["path"] else None
cache, release = Path(order["cache"]), Release(**order["release"])
data = open_images(DataOptions(path, 28, (2, 2, 2), cache), release)
splits = {split: data.open_split(split) for split in ("train", "val")}
if splits["train"].read(slice(None)).shape != (12, 28, 28) or logging.root.handlers:
    sys.exit(1)
sys.exit(3 if {"tensorflow", "torch", "keras", "jax", "medmnist"} & set(sys.modules) else 0)
"""


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def to_release(npz, url="http://127.0.0.1:9/images.npz"):
    md5 = hashlib.md5(npz.read_bytes()).hexdigest()
    return Release("Images", "images.npz", url, md5, 10**6, npz.stat().st_size)


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


def to_options(path, cache, size=28):
    return DataOptions(path, size, (2, 2, 2), cache)


def test_the_test_images_are_not_opened_unless_asked_for(write_npz, cache):
    path = write_npz(test_images=np.zeros(3), test_labels=np.array(["no label"]))
    data = open_images(to_options(path, cache))
    assert [len(data.open_split(split)) for split in ("val", "train")] == [6, 12]
    with pytest.raises(DataError, match="the images of split 'test' must be uint8"):
        data.open_split("test")


def test_the_official_file_needs_no_words(write_npz, cache, caplog):
    path = write_npz()
    data = open_images(to_options(path, cache), to_release(path))
    data.open_split("val")
    assert caplog.messages == []
    assert data.card.notice == ""


def test_the_card_of_the_official_file_says_what_is_published_of_it(write_npz, cache):
    path = write_npz("a copy of it.npz")
    card = open_images(to_options(path, cache), replace(to_release(path), name="pneumoniamnist_64.npz")).card
    assert card.title == "PneumoniaMNIST, 28 px"
    assert card.description == "Chest images of children, published by MedMNIST."
    assert card.licence == "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
    assert "kermany2018" in card.citation
    assert (card.synthetic, card.medmnist_name) == (False, "pneumoniamnist_64")
    assert card.files == {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    assert (
        "Normal images are 25.8 % of the official training and validation images, but 37.5 % of the test "
        "images: scores and thresholds do not carry over unchanged."
    ) in card.limits
    assert "children of 1 to 5 years from one hospital" in card.limits[0]


def test_the_card_of_another_file_claims_nothing_of_it(write_npz, cache):
    path = write_npz("mine.npz")
    card = open_images(to_options(path, cache)).card
    assert card.title == "mine.npz, 28 px"
    assert card.description == "The user's own images, mine.npz. What they show is unknown."
    assert (card.licence, card.citation, card.synthetic, card.medmnist_name) == ("", "", False, None)
    assert card.files == {"mine.npz": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert card.notice.startswith("mine.npz is not the official file of PneumoniaMNIST at 28 px, and is used")
    assert "results are not comparable with published ones. Its MD5 is " in card.notice
    said = " ".join((card.description, card.notice, *card.limits))
    assert "children" not in said and "hospital." not in said and str(path.parent) not in said


def test_another_file_is_used_with_its_counts_told_every_time(write_npz, cache, caplog):
    path = write_npz()
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    for _ in range(2):
        data = open_images(to_options(path, cache))
        data.open_split("train"), data.open_split("test")
    line = (
        f"{path.name} is not the official file of PneumoniaMNIST at 28 px, and is used as it is: train "
        "4 normal, 8 pneumonia; val 2 normal, 4 pneumonia. The class counts of the official file are others "
        "(train 1,214 normal, 3,494 pneumonia; val 135 normal, 389 pneumonia): results are not comparable "
        f"with published ones. Its MD5 is {md5}, that of the official file 28209eda62fecd6e6a2d98b1501bb15f."
    )
    assert caplog.messages == [line, line]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


COPY = (
    "Those are the class counts of the official file, so it may be a copy in another order, but its results "
    "are not results on the official file."
)
PARTIAL = (
    "It is the popular partial copy with 3,882 training images (388 normal): results are not "
    "comparable with published ones."
)


@pytest.mark.parametrize(("train", "ending"), [((1214, 3494), COPY), ((388, 3494), PARTIAL)])
def test_a_copy_and_the_popular_partial_one_are_named(train, ending):
    counts = {"train": train, "val": CLASS_COUNTS["val"]}
    line = describe_difference("images.npz", "", Release("Images", "images.npz", "", "", 0), counts)
    assert f"; val 135 normal, 389 pneumonia. {ending} Its MD5 is " in line


def test_only_without_a_file_a_download_is_needed(write_npz, cache, home):
    path = write_npz()
    assert not needs_download(to_options(path, cache))
    assert needs_download(to_options(None, cache, size=64))
    (home / ".medmnist").mkdir()
    (home / ".medmnist" / "pneumoniamnist_64.npz").write_bytes(b"")
    assert not needs_download(to_options(None, cache, size=64))
    assert needs_download(to_options(None, cache))


def test_a_path_that_leads_nowhere_is_not_downloaded(cache):
    assert not needs_download(to_options(Path("none.npz"), cache))


def test_loading_is_silent_and_imports_no_framework(write_npz, cache, tmp_path):
    path = write_npz()
    for name in ("tensorflow", "torch"):  # there to be imported, should anything try
        (tmp_path / "stubs" / name).mkdir(parents=True)
        (tmp_path / "stubs" / name / "__init__.py").write_text("")
    loading = start_loading(to_release(path), path=path, cache=cache, modules=tmp_path / "stubs")
    assert (*loading.communicate(timeout=60), loading.returncode) == ("", "", 0)


@pytest.mark.system
def test_two_processes_at_once_prepare_once(write_npz, cache, home, serve):
    path = write_npz()
    url, requests = serve(path.parent)
    release = to_release(path, f"{url}/images.npz")
    both = [start_loading(release, path=None, cache=cache) for _ in range(2)]
    for loading in both:
        assert loading.communicate(timeout=60)[0] == ""
    assert [loading.returncode for loading in both] == [0, 0]
    assert set(requests) == {"GET /images.npz HTTP/1.1"}
    assert len(list((cache / "datasets").glob("pneumonia_mnist-*"))) == 2


@pytest.mark.real_data
@needs_shared
def test_the_shared_copy_has_the_official_counts(cache, caplog):
    data = open_images(to_options(SHARED, cache))
    raw = np.load(SHARED)
    for split in ("train", "val", "test"):
        images = data.open_split(split)
        assert count_classes(images.labels) == CLASS_COUNTS[split]
        assert np.array_equal(images.read(slice(None)), raw[f"{split}_images"])
        assert np.array_equal(images.labels, raw[f"{split}_labels"][:, 0])
    assert COPY in caplog.messages[0]
