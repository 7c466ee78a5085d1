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
