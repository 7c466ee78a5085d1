import json


def test_sweep_prints_one_json_document(invoke, small, tmp_path):
    (tmp_path / "grid.toml").write_text("[training]\nlearning_rate = [1e-3, 1e-2]\n")
    swept = invoke("sweep", *small, "--grid", "grid.toml", "--folds", "3", "--json")
    assert swept.exit_code == 0
    document = json.loads(swept.stdout)
    assert len(document["combinations"]) == 2
    assert document["folder"].startswith("sweeps/grid-")
    assert document["combinations"][0]["mean_log_loss"] <= document["combinations"][1]["mean_log_loss"]


def test_a_sweep_that_fails_leaves_no_folder_and_a_taken_one_is_refused(invoke, small, tmp_path):
    (tmp_path / "grid.toml").write_text("[model]\ndropout = [2.0]\n")
    assert invoke("sweep", *small, "--grid", "grid.toml").exit_code == 1
    assert list((tmp_path / "sweeps").iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    result = invoke("-q", "sweep", *small, "--grid", "grid.toml", "--out", "out")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: --out must name a new or empty folder, since nothing is ever overwritten. out is taken: name "
        "another one, or delete it first.\n",
    )
