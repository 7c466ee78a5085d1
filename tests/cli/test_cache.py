import gc
import json
import os

import pytest
from pneumo_keras.storage.hold import Hold
from pneumo_keras.storage.kept import KINDS

from pneumo_keras.recipes import cache as recipe
from pneumo_keras.storage import kept


def test_the_cache_is_listed_and_cleared(invoke, small, own_cache):
    assert invoke("train", *small, "--run", "run").exit_code == 0
    lines = invoke("cache", "list").stdout.splitlines()
    assert len(lines) == 10
    assert lines[0].split() == [
        "used",
        "MB",
        "images",
        "image",
        "set",
        "feature_layer",
        "image",
        "view",
        "engine",
        "device",
    ]
    assert "60 of 60" in lines[1]
    assert "mixed10  75 px  plain" in lines[1]
    assert lines[-1] == f"All of it lies in {own_cache}"
    document = json.loads(invoke("cache", "list", "--json").stdout)
    assert [entry["images"] for entry in document["features"]] == [60, 30]
    assert [entry["kind"] for entry in document["kinds"]] == [kind.title for kind in KINDS]
    assert invoke("cache", "clear", "--yes").stdout == f"{own_cache} is empty\n"
    assert {entry["number"] for entry in json.loads(invoke("cache", "list", "--json").stdout)["kinds"]} == {0}


def test_every_kind_is_listed_with_its_number_its_size_and_its_last_use(invoke, small, own_cache):
    images = ["data", "phantom", "images.npz", "--train", "60", "--val", "30", "--test", "40"]
    assert invoke(*images).exit_code == 0
    source = ["--set", "data.source=pneumonia_mnist", "--set", "data.path=images.npz"]
    assert invoke("train", *small, *source, "--run", "run").exit_code == 0
    (own_cache / "jax").mkdir(exist_ok=True)
    (own_cache / "jax" / "jit_run-1-cache").write_bytes(bytes(1000))
    kinds = {kind["kind"]: kind for kind in json.loads(invoke("cache", "list", "--json").stdout)["kinds"]}
    numbers = {"features": 2, "prepared images": 2, "hashes of images": 2, "compiled programs": 1}
    assert {kind: about["number"] for kind, about in kinds.items()} == numbers
    assert all(about["size"] > 0 and about["used"] for about in kinds.values())
    table = invoke("cache", "list").stdout.splitlines()[-6:-1]
    assert [line.split("  ")[0] for line in table] == ["kept", *numbers]
    gc.collect()  # images that were in use
    assert invoke("cache", "clear", "--yes").exit_code == 0
    left = [path for path in own_cache.rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {"store.lock"}


def test_the_image_set_is_named_where_the_store_knows_it(invoke, small, own_cache):
    assert invoke("train", *small, "--run", "run").exit_code == 0
    for about in (own_cache / "features").glob("*/about.json"):
        about.write_text(json.dumps({**json.loads(about.read_text()), "title": "My images, training images"}))
    assert all(
        "My images, training images" in line for line in invoke("cache", "list").stdout.splitlines()[1:3]
    )


def test_a_cache_in_use_stays(invoke, small, own_cache):
    assert invoke("train", *small, "--run", "run").exit_code == 0
    store = own_cache / "features"
    held = Hold(store)
    held.add([next(store.glob("*/about.json")).parent.name])
    result = invoke("cache", "clear", "--yes")
    held.release()
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: A job is using 1 entry of features, which cannot be removed now. Try again later.\n",
    )


def test_nothing_that_lies_in_the_cache_keeps_it_from_being_listed_used_and_cleared(invoke, small, own_cache):
    assert invoke("train", *small, "--run", "run").exit_code == 0
    next((own_cache / "features").glob("*/about.json")).write_bytes(b"\xff{")
    (own_cache / "features" / "file").touch()
    (own_cache / "features" / "\udcff").mkdir()
    os.mkfifo(own_cache / "features" / "pipe")
    listed = invoke("cache", "list")
    assert (listed.exit_code, len(listed.stdout.splitlines())) == (0, 9)
    assert len(json.loads(invoke("cache", "list", "--json").stdout)["features"]) == 1
    again = invoke("train", *small, "--run", "again")
    assert again.exit_code == 0
    assert "Traceback" not in again.stderr
    assert len(json.loads(invoke("cache", "list", "--json").stdout)["features"]) == 2
    assert invoke("cache", "clear", "--yes").exit_code == 0
    assert {path.name for path in (own_cache / "features").iterdir()} == {"holds", "store.lock"}


@pytest.mark.parametrize("part", ["features", "datasets", "hashes", "jax"])
def test_a_file_in_the_place_of_a_part_of_the_cache_goes(invoke, own_cache, part):
    (own_cache / part).touch()
    assert invoke("cache", "list").exit_code == 0
    assert invoke("cache", "clear", "--yes").exit_code == 0
    assert not (own_cache / part).exists()


def test_a_title_cannot_command_the_terminal(invoke, small, own_cache):
    assert invoke("train", *small, "--run", "run").exit_code == 0
    about, _ = (own_cache / "features").glob("*/about.json")
    about.write_text(json.dumps({**json.loads(about.read_text()), "title": "\x1b[31mred\n"}))
    text = invoke("cache", "list").stdout
    assert r"\x1b[31mred\n" in text and "\x1b" not in text


@pytest.mark.parametrize("refusal", ["features", "the rest"])
def test_what_cannot_be_removed_is_named(invoke, own_cache, monkeypatch, refusal):
    (own_cache / "features").mkdir()
    (own_cache / "datasets").mkdir()
    if refusal == "features":
        (own_cache / "features" / "holds").touch()
        expected = f"{own_cache}/features cannot be emptied: "
    else:
        monkeypatch.setattr(kept, "remove", lambda path: path.name != "a-cache")
        (own_cache / "jax").mkdir()
        (own_cache / "jax" / "a-cache").touch()
        expected = f"{own_cache}/jax/a-cache cannot be removed. Remove it yourself."
    result = invoke("cache", "clear", "--yes")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {expected}")
    assert len(result.stderr.splitlines()) == 1


def test_a_file_may_be_of_any_time():
    assert recipe._to_time(0).startswith("19")
    assert recipe._to_time(1e18) == "unknown"
