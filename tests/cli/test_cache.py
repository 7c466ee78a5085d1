import json

from pneumo_keras.features.hold import Hold


def test_the_cache_is_listed_and_cleared(invoke, small, own_cache):
    assert invoke("train", *small, "--run", "run").exit_code == 0
    lines = invoke("cache", "list").stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].split() == [
        "used",
        "MB",
        "films",
        "film",
        "set",
        "tap",
        "image",
        "view",
        "engine",
        "device",
    ]
    assert "60 of 60" in lines[1]
    assert "mixed10  75 px  plain" in lines[1]
    assert lines[-1].endswith(f"of features in {own_cache}")
    listed = json.loads(invoke("cache", "list", "--json").stdout)["features"]
    assert [entry["films"] for entry in listed] == [60, 30]
    assert invoke("cache", "clear", "--yes").stdout == f"{own_cache} is empty\n"
    assert invoke("cache", "list").stdout.startswith("0 entries, 0.0 MB")


def test_the_film_set_is_named_where_the_store_knows_it(invoke, small, own_cache):
    assert invoke("train", *small, "--run", "run").exit_code == 0
    for about in (own_cache / "features").glob("*/about.json"):
        about.write_text(json.dumps({**json.loads(about.read_text()), "title": "My films, training films"}))
    assert all(
        "My films, training films" in line for line in invoke("cache", "list").stdout.splitlines()[1:3]
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
        "Error: 1 entries of features stay: a job is using them. Try again later.\n",
    )
