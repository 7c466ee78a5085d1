import io
import zipfile

import numpy as np
import pytest
from pneumo_keras.storage.npy import load_npy, load_npz


def build_header(descr="'|u1'", order="False", shape="(3,)"):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"shape": "(1000000000000,)"}, "declares 1,000,000,000,000 bytes and holds 3"),
        ({"shape": f"({10**20}, {10**20})"}, "declares more than 10^30 bytes and holds 3"),
        ({"shape": f"({'9' * 5000},)"}, "is no plain array"),
        ({"shape": "(-3,)"}, "must be a plain array of numbers"),
        ({"shape": "(" * 900}, "is no plain array"),
        ({"descr": "'|O'"}, "holds Python objects, which are never loaded"),
        ({"descr": "[('a', '|O')]"}, "holds Python objects, which are never loaded"),
        ({"descr": "'|V3'", "shape": "(1,)"}, "must be a plain array of numbers"),
        ({"descr": "'|S3'", "shape": "(1,)"}, "must be a plain array of numbers"),
        ({"descr": "'<f8'"}, "declares 24 bytes and holds 3"),
        ({"descr": "__import__('os').system('false')"}, "is no plain array"),
        ({"order": "2"}, "is no plain array"),
    ],
)
def test_an_array_that_is_not_what_it_declares_is_refused(tmp_path, header, reason):
    content = build_header(**header) + b"abc"
    (tmp_path / "x.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    for load in (lambda: load_npy(tmp_path / "x.npy"), lambda: load_npz(tmp_path / "x.npz", ["x"])):
        with pytest.raises(ValueError, match=r"^x\.npy ") as caught:
            load()
        assert reason in str(caught.value)


def test_an_archive_must_hold_the_arrays_and_no_others(tmp_path):
    np.savez(tmp_path / "x.npz", a=1.0, b=2.0)
    with pytest.raises(ValueError, match="it must hold a and holds a, b"):
        load_npz(tmp_path / "x.npz", ["a"])
    np.savez(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="it must hold a and holds nothing"):
        load_npz(tmp_path / "x.npz", ["a"])


def test_no_pickle_is_ever_loaded(tmp_path):
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "x.npy").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match="Python objects"):
        load_npy(tmp_path / "x.npy")
