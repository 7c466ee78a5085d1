import json
import os

import pytest

from pneumo_keras.bench import engines
from pneumo_keras.cli import machine as module
from pneumo_keras.storage.cache import KINDS


@pytest.fixture
def filled(own_cache):
    """What a training on 60 and 30 images leaves, without one."""
    for number, n in enumerate((60, 30)):
        about = {"title": "My images", "n": n, "d": 4, "feature_layer": "mixed10", "image_size": 75}
        about |= {"view": "plain", "engine": "openvino", "precision": "float32", "device": "cpu"}
        folder = own_cache / "features" / f"{number:032x}"
        folder.mkdir(parents=True)
        (folder / "about.json").write_text(json.dumps(about))
        os.utime(folder, (1e9 + number, 1e9 + number))
    for name in ("datasets/images-28/train", "hashes/a.npz", "jax/jit_run-1-cache"):
        (own_cache / name).parent.mkdir(parents=True)
        (own_cache / name).write_bytes(bytes(1000))
    return own_cache


def list_cache(invoke):
    return json.loads(invoke("cache", "list", "--json").stdout)


def test_the_cache_is_listed_and_cleared(invoke, filled):
    lines = invoke("cache", "list").stdout.splitlines()
    assert lines[0].split("  ")[0] == "used"
    assert ["0 of 60" in lines[1], "0 of 30" in lines[2]] == [True, True]
    assert all("My images  mixed10        75 px  plain  openvino float32  cpu" in line for line in lines[1:3])
    assert [line.split("  ")[0] for line in lines[-6:-1]] == ["kept", *(kind.title for kind in KINDS)]
    assert lines[-1] == f"All of it is in {filled}"
    document = list_cache(invoke)
    assert [(entry["n"], entry["images"]) for entry in document["features"]] == [(60, 0), (30, 0)]
    assert [(kind["kind"], kind["number"]) for kind in document["kinds"]] == [
        ("features", 2),
        ("prepared images", 1),
        ("hashes of images", 1),
        ("compiled programs", 1),
    ]
    assert all(kind["size"] > 0 and kind["used"] for kind in document["kinds"])
    assert invoke("cache", "clear", "--yes").stdout == f"{filled} is empty\n"
    assert {kind["number"] for kind in list_cache(invoke)["kinds"]} == {0}
    assert list(filled.iterdir()) == []


def test_the_features_of_a_training_are_listed(invoke, small, own_cache):
    assert invoke("train", *small, "--run", "run").exit_code == 0
    features = list_cache(invoke)["features"]
    assert [entry["images"] for entry in features] == [60, 30]


def test_nothing_that_lies_in_the_cache_keeps_it_from_being_listed_and_cleared(invoke, filled):
    next((filled / "features").glob("*/about.json")).write_bytes(b"\xff{")
    (filled / "features" / "file").touch()
    (filled / "features" / "\udcff").mkdir()
    os.mkfifo(filled / "features" / "pipe")
    assert invoke("cache", "list").exit_code == 0
    assert len(list_cache(invoke)["features"]) == 1
    assert invoke("cache", "clear", "--yes").exit_code == 0
    assert list(filled.iterdir()) == []


@pytest.mark.parametrize("part", ["features", "datasets", "hashes", "jax"])
def test_a_file_in_the_place_of_a_part_of_the_cache_goes(invoke, own_cache, part):
    (own_cache / part).touch()
    assert invoke("cache", "list").exit_code == 0
    assert invoke("cache", "clear", "--yes").exit_code == 0
    assert not (own_cache / part).exists()


def test_a_title_cannot_command_the_terminal(invoke, filled):
    for about in (filled / "features").glob("*/about.json"):
        about.write_text(json.dumps({**json.loads(about.read_text()), "title": "\x1b[31mred\n"}))
    text = invoke("cache", "list").stdout
    assert r"\x1b[31mred\n" in text and "\x1b" not in text


def test_what_cannot_be_removed_is_named(invoke, filled, monkeypatch):
    monkeypatch.setattr("pneumo_keras.storage.cache.remove", lambda path: path.name != "jax")
    result = invoke("cache", "clear", "--yes")
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {filled}/jax cannot be removed. Remove it yourself.\n",
    )


def test_a_file_may_be_of_any_time():
    assert module._to_time(0).startswith("19")
    assert module._to_time(1e18) == "unknown"


def test_a_bench_compares_the_engines(invoke, small, monkeypatch):
    monkeypatch.setattr(engines, "WINDOWS", 1)
    monkeypatch.setattr(engines, "SECONDS", 0.1)
    result = invoke("bench", *small, "--json")
    assert result.exit_code == 0
    found = {figures["engine"]: figures for figures in json.loads(result.stdout)["engines"]}
    assert found["keras"]["deviation"] == 0
    assert found["jax"]["deviation"] < 1e-5
