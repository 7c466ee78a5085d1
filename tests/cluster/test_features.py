import contextlib
import functools
import importlib.util
import os
import pickle
import signal
from dataclasses import replace

import numpy as np
import psutil
import pytest

from pneumo_keras.cluster.connection import open_cluster
from pneumo_keras.config import load_config
from pneumo_keras.engines.choice import build_runner
from pneumo_keras.errors import BackendError, ClusterError, DataError
from pneumo_keras.features.augmentation import AugmentationRanges
from pneumo_keras.features.extract import CHUNK, Extractor, FeatureJob
from pneumo_keras.features.shared import SharedStore
from pneumo_keras.features.store import Store
from pneumo_keras.features.views import PLAIN, build_perturbed_view
from pneumo_keras.recipes import cluster_features
from pneumo_keras.recipes.extraction import build_extractor
from tests.cluster.toy_images import DrawnImages
from tests.networks import build_network
from tests.toy import build_toy_backbone

# Ray warns of what it does itself, and JAX of the processes that Ray starts.
pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]
VIEW = build_perturbed_view(AugmentationRanges(rotation_degrees=15.0, gamma=1.2), seed=3)
KERAS = functools.partial(build_runner, engine="keras", precision="float32")


@pytest.fixture(scope="module")
def cluster():
    """One for all tests: each extraction would start its own."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.delenv("RAY_ADDRESS", raising=False)
        stack.enter_context(open_cluster())
        patch.setattr(cluster_features, "open_cluster", contextlib.nullcontext)
        patch.setattr(cluster_features, "CHUNKS_PER_TASK", 2)
        patch.setattr(cluster_features, "FEW", 3)
        yield


@pytest.fixture(scope="module")
def frozen():
    return build_toy_backbone(feature_layers=("mixed4", "mixed10"))


@pytest.fixture
def build(tmp_path, frozen):
    def build(folder, run_elsewhere=None, shared=None):
        store = Store(tmp_path / folder, 10**9)
        return Extractor(build_network(frozen), store, shared, run_elsewhere)

    return build


@pytest.fixture
def images(tmp_path):
    (tmp_path / "readers").mkdir()
    return DrawnImages(5 * CHUNK + 7, tmp_path / "readers")


SPREAD = functools.partial(cluster_features.run_on_cluster, engine="keras")


def list_readers(images):
    return {int(file.name) for file in images.folder.iterdir()}


def test_features_of_a_cluster_are_the_same_bytes_and_are_shared(cluster, build, images, tmp_path):
    spread = build("spread", SPREAD, SharedStore(str(tmp_path / "shared"))).extract(images, "images", VIEW)[:]
    assert os.getpid() not in list_readers(images)
    alone = build("alone").extract(images, "images", VIEW)[:]
    assert spread.tobytes() == alone.tobytes()
    readers = list_readers(images)
    again = build("other", None, SharedStore(str(tmp_path / "shared"))).extract(images, "images", VIEW)[:]
    assert again.tobytes() == alone.tobytes()
    assert list_readers(images) == readers  # and no image was read for it


def test_a_few_images_are_not_sent_away(build, images):
    few = replace(images, n=3 * CHUNK)
    build("spread", SPREAD).extract(few, "images")
    assert list_readers(images) == {os.getpid()}


def test_an_actor_that_is_killed_is_replaced_and_each_image_stands_once(cluster, build, images):
    slow, killed = replace(images, n=12 * CHUNK + 5, seconds=0.1), []

    def spread(job, chunks):
        with contextlib.closing(SPREAD(job, chunks)) as results:
            for number, features in enumerate(results):
                if number == 2:
                    killed.extend(list_readers(images))
                    os.kill(killed[0], signal.SIGKILL)
                yield features

    features = build("spread", spread).extract(slow, "images")[:]
    assert len(list_readers(images)) == 2
    assert not psutil.pid_exists(killed[0]) or psutil.Process(killed[0]).status() == "zombie"
    alone = build("alone").extract(replace(slow, seconds=0.0), "images")[:]
    assert features.tobytes() == alone.tobytes()


def test_images_that_an_actor_cannot_read_are_one_line_and_what_was_computed_stays(cluster, build, images):
    extractor = build("spread", SPREAD)
    with pytest.raises(DataError, match=r"^image 166 cannot be read$"):
        extractor.extract(replace(images, unreadable=5 * CHUNK), "images")
    (entry, _) = extractor._list_entries(images, PLAIN).values()
    assert entry.array.list_written() == [0, 1, 2, 3]


def test_a_feature_job_is_the_same_wherever_it_is_pickled_to(frozen, images):
    job = FeatureJob(build_network(frozen), ["mixed10"], images, PLAIN)
    other = pickle.loads(pickle.dumps(job))
    assert other.network.layers == job.network.layers
    for mine, its in zip(job.run([0, 5]), other.run([0, 5]), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_a_machine_that_computes_otherwise_is_refused():
    here = cluster_features.describe_computing("keras")
    assert {"backend", "device", "keras", "jax", "pneumo-keras", "numpy", "pillow"} <= set(here)
    cluster_features.check_alike(here, here)
    with pytest.raises(ClusterError) as caught:
        cluster_features.build_job(b"", "keras", {**here, "device": "H100"})
    rule = "All machines of a cluster must compute the same. Received: "
    assert str(caught.value).startswith(f"{rule}device H100 where the job was started, cpu on ")


def test_without_ray_one_line_says_what_to_install(frozen, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    with pytest.raises(BackendError, match=r"^compute\.cluster=ray needs the package ray\. Install it: uv"):
        build_extractor(load_config("demo", ["compute.cluster=ray"]), build_network(frozen))
