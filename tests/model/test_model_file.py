import io
import json
import tracemalloc
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest

from pneumo_keras.errors import ModelError
from pneumo_keras.model.classifier import Classifier, build_frozen_part, load_classifier
from pneumo_keras.model.head import build_decision, build_head
from tests.toy import build_toy_backbone

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """What a model file holds, by name."""
    moments = (np.zeros(6, np.float32), np.ones(6, np.float32))
    classifier = Classifier(
        build_frozen_part(build_toy_backbone(), data_size=28),
        build_head(6, seeds=(1, 2), moments=moments, hidden_units=4, dropout=0.5, outputs=2),
        build_decision(),
        flip_average=True,
    )
    path = tmp_path_factory.mktemp("model") / "model.keras"
    classifier.join().save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def refuse(tmp_path):
    """Loads a file of these members, in `model.keras`, and gives the reason for which it is refused."""

    def load(members):
        path = tmp_path / "model.keras"
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
            warnings.filterwarnings("ignore", message="Duplicate name")
            for name, content in members.items() if isinstance(members, dict) else members:
                archive.writestr(name, content)
        with pytest.raises(ModelError) as caught:
            load_classifier(path)
        start, end = f"{path} is damaged or was not written by pneumo-keras: ", ". Train again."
        assert str(caught.value).startswith(start) and str(caught.value).endswith(end)
        return str(caught.value)[len(start) : -len(end)]

    return load


@pytest.fixture
def change_config(members):
    def change(old, new):
        text = members[CONFIG].decode()
        assert old in text
        return {**members, CONFIG: text.replace(old, new, 1)}

    return change


@pytest.fixture
def change_weights(members):
    """The members with one array of weights replaced by what a function puts into the HDF5 file."""

    def change(put):
        buffer = io.BytesIO(members[WEIGHTS])
        with h5py.File(buffer, "r+") as file:
            arrays = []
            file.visititems(lambda name, one: arrays.append(name) if isinstance(one, h5py.Dataset) else None)
            name = next(one for one in arrays if file[one].ndim > 1)
            value = file[name][()]
            del file[name]
            put(file, name, value)
        return {**members, WEIGHTS: buffer.getvalue()}

    return change


@pytest.mark.parametrize(
    ("module", "name", "registered"),
    [
        ("keras.layers", "Lambda", None),
        ("keras.layers", "TorchModuleWrapper", None),
        ("os", "Activation", None),
        ("builtins", "eval", None),
        (None, "__lambda__", None),
        (None, "function", None),
        ("keras.layers", "Activation", "evil>Activation"),
        (7, "Activation", None),
        ("keras.layers", ["Activation"], None),
    ],
)
def test_a_part_that_no_classifier_has_is_refused_before_anything_is_built(
    members, refuse, monkeypatch, module, name, registered
):
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("it was built"))
    tree = json.loads(members[CONFIG])
    layer = {"module": module, "class_name": name, "config": {}, "registered_name": registered}
    tree["config"]["layers"].append(layer)
    assert "which is not part of a classifier" in refuse({**members, CONFIG: json.dumps(tree)})


def test_a_lambda_layer_never_runs(tmp_path):
    images = keras.Input((4,))
    model = keras.Model(images, keras.layers.Lambda(lambda x: x + 1)(images))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match=r"names keras\.layers\.Lambda, which is not part of a classifier"):
        load_classifier(tmp_path / "model.keras")


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "assets/x", "model.weights.npz", CONFIG])
def test_other_members_are_refused(members, refuse, name):
    found = refuse([*members.items(), (name, "x")])
    assert found.startswith("it must have config.json, metadata.json, model.weights.h5 and nothing else") or (
        found == "it holds 'config.json' more than once"
    )


def test_a_missing_member_is_refused(members, refuse):
    assert "nothing else" in refuse({CONFIG: members[CONFIG], WEIGHTS: members[WEIGHTS]})


@pytest.mark.parametrize("text", ["[" * 10**6, "{", "null", '{"class_name": 1}', "\xff"])
def test_a_description_that_is_none_is_refused(members, refuse, text):
    assert refuse({**members, CONFIG: text.encode("latin-1")})


def test_more_weights_than_the_file_holds_are_never_allocated(refuse, change_config):
    tracemalloc.start()
    try:
        reason = refuse(change_config('"filters": 6', '"filters": 600000000'))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "asks for more weights than" in reason
    assert peak < 2**27


def test_an_input_of_any_width_is_never_allocated(refuse, members):
    tree = json.loads(members[CONFIG])
    text = json.dumps(tree).replace("[null, 6]", "[null, 9000000000]")
    assert refuse({**members, CONFIG: text})


WEIGHTS_ELSEWHERE = {
    "external link": lambda file, name, _: file.__setitem__(name, h5py.ExternalLink("/etc/hostname", "/x")),
    "soft link": lambda file, name, _: file.__setitem__(name, h5py.SoftLink("/layers")),
    "group": lambda file, name, _: file.__setitem__(name, file["layers"]),
    "external storage": lambda file, name, value: file.create_dataset(
        name, value.shape, value.dtype, external=[("/etc/passwd", 0, value.nbytes)]
    ),
    "virtual": lambda file, name, value: file.create_virtual_dataset(
        name, h5py.VirtualLayout(value.shape, value.dtype)
    ),
    "endless": lambda file, name, _: file.create_dataset(name, (2**20, 2**20), "f4", chunks=(1, 1024)),
    "text": lambda file, name, _: file.create_dataset(name, data="text"),
    "records": lambda file, name, _: file.create_dataset(name, data=np.zeros(3, [("a", "f4")])),
}


@pytest.mark.parametrize("kind", WEIGHTS_ELSEWHERE)
def test_weights_that_are_no_plain_array_of_the_file_are_refused(refuse, change_weights, kind):
    assert refuse(change_weights(WEIGHTS_ELSEWHERE[kind]))


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(refuse, change_weights, odd):
    def put(file, name, value):
        value.flat[0] = odd
        file[name] = value

    assert "are not finite numbers" in refuse(change_weights(put))


def test_weights_that_are_cut_short_are_refused(members, refuse):
    assert refuse({**members, WEIGHTS: members[WEIGHTS][:5000]})


def test_an_untouched_file_is_taken(members, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert load_classifier(tmp_path / "model.keras").flip_average
