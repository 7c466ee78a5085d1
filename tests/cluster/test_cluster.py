"""One cluster for all: two cores of this machine. It takes seconds to start."""

import builtins
import contextlib
import functools
import itertools
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pneumo_keras.cli import main
from pneumo_keras.cluster import connection, ordered_map
from pneumo_keras.cluster.connection import describe_cluster, open_cluster
from pneumo_keras.cluster.ordered_map import Stage, Worker, map_in_order
from pneumo_keras.data.decoding import DecodedImage
from pneumo_keras.data.phantom import PhantomImages
from pneumo_keras.errors import ClusterError, RunError
from pneumo_keras.recipes import extraction
from pneumo_keras.recipes import predict as predict_recipe
from pneumo_keras.recipes.predict import build_scorer, predict_on_cluster
from pneumo_keras.runs.folder import RunFolder
from pneumo_keras.runs.run import load_run
from pneumo_keras.runtime import backend
from tests.cluster import toys
from tests.cluster.scale import start_nodes

pytestmark = [
    pytest.mark.system,
    # What Ray warns of while it makes its own settings and starts its own processes.
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray"),
    # JAX, of processes that Ray starts. Whoever asks a cluster has no JAX but here.
    pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning"),
]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        before = signal.getsignal(signal.SIGTERM)
        with open_cluster():
            assert signal.getsignal(signal.SIGTERM) is before
            yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the real network, which actors build by themselves, with images beside it."""
    folder = tmp_path_factory.mktemp("cluster")
    images = folder / "images"
    images.mkdir()
    for index, image in enumerate(PhantomImages(70, 28, 5).read(slice(None))):
        Image.fromarray(image).save(images / f"{index:02}.png")
    (images / "07.png").write_text("no image")
    (images / "40.png").write_bytes(b"")
    settings = ["data.phantom_images=[40,20,20]", "training.epochs=2", "compute.engine=jax"]
    changed = [part for setting in settings for part in ("--set", setting)]
    call(folder, "-q", "train", "--config", "demo", *changed, "--run", "run")
    return folder


def call(folder, *arguments, code="from pneumo_keras.__main__ import start; start()", **variables):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_actor_that_is_killed_changes_nothing(cluster):
    stages = [Stage(functools.partial(toys.build_doubling, 0.005)), Stage(toys.build_naming, whole=True)]
    results = map_in_order(range(200), stages)
    first = next(results)
    os.kill(first[1], signal.SIGKILL)
    results = [first, *results]
    assert [number for number, _ in results] == [2 * number for number in range(200)]
    assert len({process for _, process in results}) > 1


def test_the_cluster_is_told_of(cluster):
    assert describe_cluster().startswith("1 machine, ")


def test_whoever_waits_is_told(cluster, caplog, monkeypatch):
    monkeypatch.setattr(ordered_map, "WAIT_SECONDS", 0.01)
    with caplog.at_level("INFO", "pneumo_keras"):
        assert list(map_in_order(range(3), [Stage(toys.build_doubling)])) == [0, 2, 4]
    (line,) = [record.message for record in caplog.records if record.name == "pneumo_keras"]
    assert line.startswith("No result yet: the cluster has ")


def test_no_items_are_no_work(cluster):
    assert list(map_in_order([], [Stage(toys.build_naming)])) == []


def test_what_a_stage_refuses_is_raised_where_its_results_are_used(cluster):
    stages = [Stage(functools.partial(toys.build_refusing, 5)), Stage(toys.build_doubling)]
    results = map_in_order(range(9), stages, block=2)
    assert list(itertools.islice(results, 5)) == [0, 2, 4, 6, 8]
    with pytest.raises(RunError, match="item 5"):
        next(results)


def test_a_stage_that_cannot_be_made_says_why(cluster):
    with pytest.raises(RunError, match="no stage"):
        list(map_in_order(range(9), [Stage(toys.build_broken), Stage(toys.build_doubling)]))


def test_an_item_that_kills_all_its_actors_ends_in_one_line(cluster):
    stage = Stage(functools.partial(toys.build_dying, 25), whole=True)
    with (
        pytest.raises(
            ClusterError,
            match=r"^Ray failed, usually out of memory: its logs have the reason\. Received: .*actor",
        ),
        connection._explain_ray(pytest.importorskip("ray")),
    ):
        list(map_in_order(range(30), [stage], block=4))


def test_the_same_rows_with_and_without_a_cluster(cluster, run, monkeypatch):
    plain = call(run, "-q", "predict", "run", "images")
    assert plain.stderr == "Error: 2 of 70 files could not be scored. Their rows have the reason.\n"
    monkeypatch.chdir(run)
    monkeypatch.setattr(connection, "open_cluster", contextlib.nullcontext)
    spread = CliRunner().invoke(main, ["-q", "predict", "run", "images", "--cluster", "ray"])
    assert (spread.stdout, spread.stderr) == (plain.stdout, plain.stderr)
    assert spread.exit_code == plain.returncode == 1
    assert len(plain.stdout.splitlines()) == 71


@pytest.mark.slow
def test_the_same_rows_on_two_nodes(run):
    plain = call(run, "-q", "predict", "run", "images")
    with start_nodes(2) as variables:
        spread = call(run, "-q", "predict", "run", "images", "--cluster", "ray", **variables)
    assert (spread.stdout, spread.stderr) == (plain.stdout, plain.stderr)


def test_decoders_are_as_many_as_the_cluster_has_room_for(run, monkeypatch):
    """And not as many as the caller has cores or images, where their names are given."""
    asked = []

    def predict(*_, workers, **__):
        asked.append(workers)
        yield from ()

    monkeypatch.chdir(run)
    monkeypatch.setattr(connection, "open_cluster", contextlib.nullcontext)
    monkeypatch.setattr(predict_recipe, "predict_on_cluster", predict)
    for options in [], ["--workers", "3"]:
        CliRunner().invoke(main, ["-q", "predict", "run", "images/00.png", "--cluster", "ray", *options])
    assert asked == [None, 3]


def test_a_run_that_workers_cannot_read_is_named(cluster, run, tmp_path):
    with pytest.raises(RunError, match=f"must be the folder of a run.*{tmp_path} is none"):
        list(predict_on_cluster(replace(load_run(run / "run"), folder=RunFolder(tmp_path)), ["image.png"]))


def test_a_working_folder_that_is_not_shared_is_named(tmp_path):
    worker = Worker(toys.build_doubling, str(tmp_path / "gone"), threads="1")
    with pytest.raises(ClusterError, match="working folder must be there on every machine"):
        raise next(worker._work(iter([]))).error


def test_without_a_cluster_nothing_of_ray_is_imported(run):
    code = (
        "import sys; from pneumo_keras.cli import main\n"
        "from pneumo_keras.cluster import connection, ordered_map\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "print({'ray', 'pyarrow'} & set(sys.modules))"
    )
    done = call(run, "-q", "predict", "run", "images/00.png", code=code)
    assert done.stdout.splitlines()[-1] == "set()"


def test_whoever_asks_a_cluster_loads_no_network():
    code = "import sys, pneumo_keras.recipes.predict; print({'keras', 'jax'} & set(sys.modules))"
    assert call(ROOT, code=code).stdout == "set()\n"


def test_without_the_extra_one_line_says_what_to_install(run, monkeypatch):
    monkeypatch.chdir(run)
    find = backend.importlib.util.find_spec
    monkeypatch.setattr(
        backend.importlib.util, "find_spec", lambda name: None if name == "ray" else find(name)
    )
    done = CliRunner().invoke(main, ["-q", "predict", "run", "images", "--cluster", "ray"])
    assert (done.exit_code, done.stderr) == (
        1,
        "Error: --cluster ray needs the package ray. Install it: uv sync --extra cluster, or pip install "
        "'ray[data]'\n",
    )


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("127.0.0.1:1", "must name the head of a running Ray cluster. Received: 127.0.0.1:1 (.*refused"),
        ("ray://127.0.0.1:10001", "must be host:port of a cluster's head"),
        ("nowhere", "must be host:port of a cluster's head"),
        ("127.0.0.1:99999", "must name the head of a running Ray cluster"),
        ("no.such.host.invalid:6379", "must name the head of a running Ray cluster"),
    ],
)
def test_an_address_without_a_cluster_is_one_line(monkeypatch, address, line):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=line.replace("(", r"\(", 1)), open_cluster():
        pass


def test_an_address_where_somebody_listens_is_left_to_ray():
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection._check_head(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("AuthenticationError", "Token authentication is on,\nbut no token was found"),
        ("Exception", "The current node timed out during startup."),
        ("RuntimeError", "Failed to connect to GCS"),
    ],
)
def test_whatever_ray_raises_at_its_start_is_one_line(monkeypatch, kind, said):
    ray = pytest.importorskip("ray")

    def refuse(**_):
        raise getattr(ray.exceptions, kind, getattr(builtins, kind, None))(said)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with (
        pytest.raises(ClusterError, match=f"Received: local: {' '.join(said.split())}"),
        open_cluster(),
    ):
        pass


def test_what_ray_raises_is_one_line_and_a_bug_of_a_stage_is_none():
    ray = pytest.importorskip("ray")
    within = ray.exceptions.RayTaskError("work", "", ray.exceptions.RaySystemError("the store is gone"))
    for error in (ray.exceptions.RaySystemError("the store\nis gone"), within):
        with pytest.raises(ClusterError, match=r"^Ray failed, ") as caught, connection._explain_ray(ray):
            raise error
        assert len(str(caught.value).splitlines()) == 1
    for bug in (ValueError("a bug"), ray.exceptions.RayTaskError("work", "", ValueError("a bug"))):
        with pytest.raises(type(bug)) as caught, connection._explain_ray(ray):
            raise bug
        assert caught.value is bug


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["jax", "keras", "openvino"])
def test_a_score_does_not_depend_on_the_images_of_its_batch(run, monkeypatch, engine):
    choose = extraction.choose_engine
    monkeypatch.setattr(extraction, "choose_engine", lambda _, *rest: choose(engine, *rest))
    scorer = build_scorer(load_run(run / "run"))
    assert scorer.padded == (engine != "openvino")
    arrays = PhantomImages(70, 28, 5).read(slice(None))
    images = [DecodedImage(str(index), pixels, shape=(28, 28)) for index, pixels in enumerate(arrays)]
    scores = {image.path: image.probability for image in scorer.score(images)}
    shuffled = np.random.default_rng(0).permutation(len(images))
    for order in (range(1, 70), range(69, -1, -1), shuffled, [3], [50]):
        for image in scorer.score([images[index] for index in order]):
            assert image.probability == scores[image.path]
