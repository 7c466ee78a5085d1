import functools
import http.server
import random
import threading
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest

from pneumo_keras.errors import DownloadError, ModelError
from pneumo_keras.model import backbone as module
from pneumo_keras.model.backbone import (
    IMAGENET,
    build_backbone,
    count_operations,
    cut_backbone,
    fetch_imagenet,
    select_feature_layers,
)
from pneumo_keras.model.fingerprint import compute_fingerprint, describe_feature_layers
from tests.damage import mutate
from tests.toy import SIZE, build_branched_backbone, build_toy_backbone


def hash_feature_layers(backbone):
    return {name: layer.fingerprint for name, layer in describe_feature_layers(backbone).items()}


def count_features(backbone):
    return {name: layer.d for name, layer in describe_feature_layers(backbone).items()}


@pytest.fixture(scope="module")
def network():
    return build_backbone("none", image_size=75, feature_layers=["mixed2", "mixed0"])


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.slow
def test_feature_layers_are_the_pooled_blocks_in_the_order_asked_for(network):
    assert count_features(network) == {"mixed2": 288, "mixed0": 256}
    images = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype(np.float32)
    both = network.predict_on_batch(images)
    np.testing.assert_array_equal(
        both[:, 288:], select_feature_layers(network, ["mixed0"]).predict_on_batch(images)
    )
    block = keras.Model(network.input, network.get_layer("mixed2").output).predict_on_batch(images)
    np.testing.assert_allclose(both[:, :288], block.mean(axis=(1, 2)), rtol=1e-4, atol=1e-9)


@pytest.mark.slow
def test_nothing_above_the_highest_feature_layer_is_kept_and_nothing_learns(network):
    assert "mixed3" not in [layer.name for layer in network.layers]
    assert network.trainable_variables == []
    assert network.output_shape == (None, 544)


@pytest.mark.slow
def test_weights_come_back_from_a_keras_3_file(tmp_path, whole):
    path = tmp_path / "inception.weights.h5"
    whole.save_weights(path)
    loaded = build_backbone(str(path), image_size=75, feature_layers=["mixed10"])
    for mine, theirs in zip(loaded.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope="module")
def whole():
    keras.utils.set_random_seed(1)
    return keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(75, 75, 3))


@pytest.mark.slow
@pytest.mark.parametrize("feature_layer", ["mixed0", "mixed4", "mixed9"])
def test_the_lower_part_of_a_file_is_the_lower_part_of_its_network(tmp_path, whole, feature_layer):
    whole.save_weights(tmp_path / "inception.weights.h5")
    loaded = build_backbone(
        str(tmp_path / "inception.weights.h5"), image_size=75, feature_layers=[feature_layer]
    )
    part = keras.Model(whole.input, whole.get_layer(feature_layer).output)
    assert len(loaded.weights) == len(part.weights) < len(whole.weights)
    for mine, theirs in zip(loaded.weights, part.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_a_file_that_lacks_layers_below_the_feature_layer_is_refused(tmp_path, whole):
    path = tmp_path / "part.weights.h5"
    keras.Model(whole.input, whole.get_layer("mixed2").output).save_weights(path)
    build_backbone(str(path), image_size=75, feature_layers=["mixed2"])
    with pytest.raises(ModelError, match="has another network or is damaged"):
        build_backbone(str(path), image_size=75, feature_layers=["mixed3"])


@pytest.mark.slow
def test_a_random_network_has_the_same_weights_whatever_is_asked_of_it(network):
    random.seed(1)
    low = build_backbone("none", image_size=75, feature_layers=["mixed0"])
    random.seed(1)
    high = build_backbone("none", image_size=75, feature_layers=["mixed1"])
    for mine, theirs in zip(low.weights, high.weights, strict=False):
        np.testing.assert_array_equal(mine, theirs)
    assert not np.array_equal(low.weights[0], network.weights[0])


def test_one_feature_layer_is_listed_as_well():
    assert count_features(build_toy_backbone(feature_layers=["mixed4"])) == {"mixed4": 6}


def test_a_missing_weights_file_gets_one_line(tmp_path):
    path = tmp_path / "none.weights.h5"
    with pytest.raises(ModelError) as caught:
        build_backbone(str(path), image_size=75, feature_layers=["mixed0"])
    assert str(caught.value) == (
        'Setting \'model.weights\' must be "imagenet", "none" or a weights file, and there is no such '
        f"file. Received: {path}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["damaged", "another architecture"])
def test_a_foreign_weights_file_gets_one_line(tmp_path, kind):
    path = tmp_path / "foreign.weights.h5"
    if kind == "damaged":
        path.write_bytes(b"\x89HDF\r\n\x1a\n and then nothing")
    else:
        build_toy_backbone().save_weights(path)
    with pytest.raises(ModelError, match="has another network or is damaged") as caught:
        build_backbone(str(path), image_size=75, feature_layers=["mixed0"])
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"Received: {path}")


@pytest.fixture
def toy_weights(tmp_path):
    """A toy backbone and the file of its weights."""
    toy = build_toy_backbone()
    path = tmp_path / "toy.weights.h5"
    toy.save_weights(path)
    return toy, path


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_weights_file_gets_one_line_or_loads(toy_weights, seed):
    toy, path = toy_weights
    lot = np.random.default_rng(seed)
    if seed % 2:
        mutate(path, lot)
    else:  # within its header
        content = bytearray(path.read_bytes())
        content[lot.integers(200)] ^= 1 << lot.integers(8)
        path.write_bytes(content)
    try:
        module._load_weights(toy, path)
    except ModelError as error:
        message = str(error)
    else:
        return
    assert message.startswith("Setting 'model.weights' must name ")
    assert message.endswith(f"Received: {path}")
    assert "\n" not in message


@pytest.mark.parametrize(("value", "index"), [(np.nan, 0), (np.inf, 3), (-np.inf, -1)])
def test_weights_that_are_not_finite_get_one_line(toy_weights, value, index):
    toy, path = toy_weights
    weights = toy.get_weights()
    weights[index].flat[-1] = value
    toy.set_weights(weights)
    toy.save_weights(path)
    with pytest.raises(ModelError) as caught:
        module._load_weights(toy, path)
    assert str(caught.value) == (
        "Setting 'model.weights' must name weights that are finite numbers, and those of "
        f"'{toy.weights[index].path}' are not: the file is damaged. Received: {path}"
    )


def test_no_network_says_what_from_where_how_large_and_what_to_do(keras_home, monkeypatch):
    monkeypatch.setattr(module, "IMAGENET", replace(IMAGENET, url="http://127.0.0.1:9/inception.h5"))
    with pytest.raises(DownloadError) as caught:
        fetch_imagenet()
    text = str(caught.value)
    assert text.startswith(
        "Cannot fetch InceptionV3's ImageNet weights "
        "(inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5, 87,910,968 bytes, "
        "MD5 bcbd6486424b2319ff4ef7d526e38f63) from http://127.0.0.1:9/inception.h5 into "
        f"{keras_home}/models: Connection refused. "
    )
    assert text.endswith(
        f". Put the file at {keras_home}/models/{IMAGENET.name}, or name a copy with --set "
        "model.weights=FILE; --config demo needs no download."
    )
    assert "\n" not in text


def test_a_download_with_another_checksum_is_refused(keras_home, server, monkeypatch):
    folder, url = server
    (folder / "inception.h5").write_bytes(b"something else")
    monkeypatch.setattr(module, "IMAGENET", replace(IMAGENET, url=f"{url}/inception.h5"))
    with pytest.raises(DownloadError, match="expected md5:bcbd6486"):
        fetch_imagenet()
    assert not (keras_home / "models" / IMAGENET.name).exists()


def test_a_whole_download_is_kept_for_the_next_time(keras_home, server, monkeypatch):
    folder, url = server
    (folder / "inception.h5").write_bytes(b"weights")
    md5 = "63f4f1e9b725370f459720575cd5f953"
    monkeypatch.setattr(module, "IMAGENET", replace(IMAGENET, url=f"{url}/inception.h5", md5=md5))
    assert fetch_imagenet().read_bytes() == b"weights"
    (folder / "inception.h5").unlink()
    assert fetch_imagenet() == keras_home / "models" / IMAGENET.name


@pytest.mark.slow
def test_the_imagenet_file_is_the_one_keras_names():
    from keras.src.applications import inception_v3

    assert IMAGENET.url == inception_v3.WEIGHTS_PATH_NO_TOP
    assert IMAGENET.url.endswith(f"/{IMAGENET.name}")  # the name under which Keras looks for it


@pytest.mark.slow
def test_a_legacy_weights_file_loads(tmp_path, whole):
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    with h5py.File(tmp_path / "legacy.h5", "w") as file:
        save_weights_to_hdf5_group(file, whole)
    loaded = build_backbone(str(tmp_path / "legacy.h5"), image_size=75, feature_layers=["mixed10"])
    np.testing.assert_array_equal(loaded.weights[-1], whole.weights[-1])


def test_operations_of_the_toy_counted_by_hand():
    first = 2 * (3 * 3 * 3) * 6 * (8 * 8)
    second = 2 * (3 * 3 * 6) * 6 * (4 * 4)
    assert count_operations(build_toy_backbone()) == first + second
    assert count_operations(build_toy_backbone(feature_layers=("mixed4",))) == first


@pytest.mark.slow
def test_inception_has_the_operations_of_the_literature():
    network = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))
    assert count_operations(network) == pytest.approx(2 * 5.7e9, rel=0.01)


FEATURE_LAYERS = ("mixed10", "mixed0", "mixed4")
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, SIZE, SIZE, 3)).astype(np.float32)


def build_branches(feature_layers=FEATURE_LAYERS):
    backbone = build_branched_backbone(feature_layers=feature_layers)
    rng = np.random.default_rng(1)
    for variable in backbone.weights:
        variable.assign(variable + rng.uniform(0, 0.5, variable.shape))
    return backbone


@pytest.mark.parametrize(
    ("block", "feature_layers"),
    [
        ("mixed0", {"cut": 4 * 4 * 4}),
        ("mixed4", {"cut": 4 * 4 * 7}),
        ("mixed10", {"cut": 4 * 4 * 7, "mixed0": 7}),
    ],
)
def test_both_parts_together_give_the_features_of_the_whole(block, feature_layers):
    backbone = build_branches()
    cut = cut_backbone(backbone, block)
    assert count_features(cut.lower) == feature_layers
    features = cut.upper.predict_on_batch(cut.lower.predict_on_batch(IMAGES))
    np.testing.assert_allclose(features, backbone.predict_on_batch(IMAGES), rtol=1e-6)


def test_the_whole_is_a_copy():
    backbone = build_branches()
    cut = cut_backbone(backbone, "mixed4")
    assert compute_fingerprint(cut.whole) == compute_fingerprint(backbone)
    assert cut.whole.name == backbone.name
    assert count_features(cut.whole) == count_features(backbone)
    before = backbone.get_weights()
    for variable in cut.whole.weights:
        variable.assign(variable + 1)
    for mine, theirs in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_convolutions_above_the_cut_learn_and_nothing_else():
    cut = cut_backbone(build_branches(), "mixed4")
    learning = {id(variable) for variable in cut.upper.trainable_variables}
    convolutions = [layer for layer in cut.whole.layers if isinstance(layer, keras.layers.Conv2D)]
    below = {layer.name for layer in cut.lower.layers}
    assert learning == {id(layer.kernel) for layer in convolutions if layer.name not in below}
    assert len(learning) == 6
    assert not cut.lower.trainable_variables
    assert not cut.whole.trainable_variables


def test_activations_are_addressed_by_what_lies_below_them():
    backbone = build_branches()
    addresses = hash_feature_layers(cut_backbone(backbone, "mixed10").lower)
    assert addresses["mixed0"] == hash_feature_layers(backbone)["mixed0"]
    *_, highest = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    highest.kernel.assign(highest.kernel + 1)
    assert hash_feature_layers(cut_backbone(backbone, "mixed10").lower) == addresses
    lowest = next(layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D))
    lowest.kernel.assign(lowest.kernel + 1)
    assert hash_feature_layers(cut_backbone(backbone, "mixed10").lower)["cut"] != addresses["cut"]


@pytest.fixture(scope="module")
def inception():
    return build_backbone("none", image_size=75, feature_layers=("mixed2", "mixed10", "mixed7"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "feature_layers", "learning"),
    [
        ("mixed0", {"cut": 7 * 7 * 192}, 89),
        ("mixed3", {"cut": 7 * 7 * 288}, 68),
        ("mixed8", {"cut": 3 * 3 * 768, "mixed2": 288}, 24),
        ("mixed10", {"cut": 2048, "mixed2": 288, "mixed7": 768}, 9),
    ],
)
def test_inception_v3_is_cut_between_its_blocks(inception, block, feature_layers, learning):
    cut = cut_backbone(inception, block)
    assert count_features(cut.lower) == feature_layers
    assert len(cut.upper.trainable_variables) == learning


@pytest.mark.slow
def test_both_parts_of_inception_v3_give_its_features(inception):
    cut = cut_backbone(inception, "mixed8")
    images = np.random.default_rng(0).uniform(-1, 1, (1, 75, 75, 3)).astype(np.float32)
    features = cut.upper.predict_on_batch(cut.lower.predict_on_batch(images))
    np.testing.assert_allclose(features, inception.predict_on_batch(images), rtol=1e-5, atol=1e-6)
