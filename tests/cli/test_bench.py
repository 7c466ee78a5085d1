import json


def test_a_bench_compares_the_engines(invoke, small):
    result = invoke("bench", *small, "--json")
    assert result.exit_code == 0
    engines = {figures["engine"]: figures for figures in json.loads(result.stdout)["engines"]}
    assert engines["keras"]["deviation"] == 0
    assert engines["jax"]["deviation"] < 1e-5
