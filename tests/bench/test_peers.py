import pytest

from pneumo_keras.config.settings import FeatureLayer
from tests.bench import peers
from tests.bench.peer_networks import parse_throughput, to_block
from tests.bench.peers import PEERS, find_missing, list_rows, start_peers

NETWORK = {"weights": "none", "image_size": 75, "feature_layers": ["mixed0"], "batch": 2}


def test_feature_layers_have_torchvisions_names():
    names = [to_block(layer) for layer in FeatureLayer.__args__]
    blocks = "5b 5c 5d 6a 6b 6c 6d 6e 7a 7b 7c"
    assert " ".join(names) == " ".join(f"Mixed_{block}" for block in blocks.split())


def test_the_throughput_of_benchmark_app_is_read():
    assert parse_throughput("[ INFO ] Latency:\n[ INFO ] Throughput:   460.62 FPS\n") == 460.62
    with pytest.raises(ValueError, match="No throughput in: nothing"):
        parse_throughput("nothing")


def test_a_peer_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda module: module if module == "tensorflow" else None)
    assert find_missing(PEERS["keras-jax"]) == find_missing(PEERS["keras-tensorflow"]) == ""
    assert find_missing(PEERS["torch-float32"]) == "torch"
    processes, reasons = start_peers(["torch-float32"], NETWORK)
    assert (processes, reasons) == ({}, {"torch-float32": "not installed (torch)"})


def test_ratios_of_the_table_are_those_of_the_rounds():
    rates = {"jax-float32": [20.0, 40.0, 60.0], "keras-jax": [10.0, 10.0, 20.0]}
    assert list_rows(rates, {"onnxruntime": "not installed (onnxruntime)"}, "keras-jax") == [
        ("stock Keras on JAX", "10.0 (10.0 to 20.0)", "1.00 (1.00 to 1.00)"),
        ("ONNX Runtime float32", "not installed (onnxruntime)", "-"),
        ("**engine jax float32**", "40.0 (20.0 to 60.0)", "3.00 (2.00 to 4.00)"),
    ]


@pytest.mark.system
def test_peers_do_the_same_work_in_processes_of_their_own():
    names = ["keras-jax", "onnxruntime", "benchmark-float32", "openvino-float32"]
    processes, reasons = start_peers(names, NETWORK)
    try:
        assert reasons == {}
        assert len({process.operations for process in processes.values()}) == 1
        assert all(process.measure(0.1) > 0 for process in processes.values())
    finally:
        for process in processes.values():
            process.end()


@pytest.mark.system
def test_a_peer_that_cannot_be_built_is_told():
    processes, reasons = start_peers(["keras-jax"], {**NETWORK, "weights": "absent.h5"})
    assert processes == {} and "there is no such file" in reasons["keras-jax"]
