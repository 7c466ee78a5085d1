import json


def test_config_show_prints_every_setting(invoke):
    result = invoke("config", "show", "demo", "--set", "training.epochs=3")
    assert result.exit_code == 0
    assert "# passes over the training images; integer >= 1, <= 10,000\nepochs = 3\n" in result.stdout
    assert "[augmentation]\n" in result.stdout
    assert "# path = ...\n" in result.stdout


def test_config_show_prints_one_json_document(invoke):
    shown = json.loads(invoke("config", "show", "demo", "--set", "training.epochs=3", "--json").stdout)
    assert (shown["training.epochs"]["value"], shown["training.epochs"]["default"]) == (3, 10)
    assert shown["training.mode"]["enum"] == ["cached", "online"]


def test_config_list_names_the_configurations(invoke):
    lines = invoke("config", "list").stdout.splitlines()
    assert {"default", "reference", "demo"} <= {line.split()[0] for line in lines}
    assert [line for line in lines if not line.endswith(".")] == []  # a whole sentence of each


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
