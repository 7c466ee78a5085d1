import os

import numpy as np
import pytest

from pneumo_keras.data.seal import SEAL, BrokenSealError, check_seal, write_seal


@pytest.fixture
def sealed(tmp_path):
    files = [tmp_path / "a.json", tmp_path / "part" / "b.npy"]
    files[1].parent.mkdir()
    for file in files:
        file.write_bytes(file.name.encode() * 10)
    write_seal(tmp_path, files, address="here")
    return tmp_path


def test_what_was_sealed_passes_and_strangers_do_not_matter(sealed):
    (sealed / "stranger").touch()
    check_seal(sealed, address="here")


def test_a_folder_in_another_s_place_does_not_pass(sealed):
    with pytest.raises(BrokenSealError, match="its seal is broken"):
        check_seal(sealed, address="there")


@pytest.mark.parametrize("name", ["a.json", "part/b.npy", SEAL])
@pytest.mark.parametrize("seed", range(5))
def test_one_flipped_bit_is_found(sealed, name, seed):
    content = bytearray((sealed / name).read_bytes())
    at = np.random.default_rng(seed).integers(len(content))
    content[at] ^= 1 << seed
    (sealed / name).write_bytes(content)
    with pytest.raises(BrokenSealError):
        check_seal(sealed, address="here")


@pytest.mark.parametrize("name", ["a.json", "part/b.npy", SEAL])
@pytest.mark.parametrize("kind", ["gone", "folder", "pipe", "empty"])
def test_what_is_no_file_is_found_and_not_waited_for(sealed, name, kind):
    path = sealed / name
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "empty":
            path.touch()
    with pytest.raises(BrokenSealError):
        check_seal(sealed, address="here")
