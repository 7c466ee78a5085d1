import json

from pneumo_keras.recipes import bench_maps


def test_a_bench_compares_the_engines(invoke, small):
    result = invoke("bench", *small, "--json")
    assert result.exit_code == 0
    engines = {figures["engine"]: figures for figures in json.loads(result.stdout)["engines"]}
    assert engines["keras"]["deviation"] == 0
    assert engines["jax"]["deviation"] < 1e-5


def test_the_maps_of_a_run_are_measured(invoke, small, monkeypatch):
    monkeypatch.setattr(bench_maps, "PHANTOMS", 12)
    monkeypatch.setattr(bench_maps, "DELETED", 5)
    assert invoke("-q", "train", *small, "--run", "run").exit_code == 0
    document = json.loads(invoke("-q", "bench", "--maps", "run", "--json").stdout)
    deletion, pointing = document["deletion"], document["pointing"]
    assert deletion["images"] == 5 and 0 <= pointing["hits"] <= 1
    lines = invoke("-q", "bench", "--maps", "run").stdout.splitlines()
    assert lines[0].startswith(
        "5 validation images of synthetic phantoms, 28 px, all with pneumonia; 10 % of each"
    )
    assert lines[3].split()[-2:] == [f"{deletion['highest']:+.2f}", f"{deletion['errors'][0]:.2f}"]
    assert lines[-1].startswith(
        f"On {pointing['images']} phantom images the map's highest point lies on an opacity"
    )
    assert invoke("-q", "bench", "--maps", "nowhere").exit_code == 1
