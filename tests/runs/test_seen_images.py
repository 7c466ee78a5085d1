import numpy as np
import pytest

from pneumo_keras.errors import RunError
from pneumo_keras.runs.seen_images import load_seen_images


def test_what_a_run_has_seen_is_read_or_missing_or_damaged(tmp_path):
    path = tmp_path / "seen_images.npy"
    with pytest.raises(RunError, match="No such file"):
        load_seen_images(path)
    np.save(path, np.array([3, 5], np.uint64))
    seen = load_seen_images(path)
    assert seen.tolist() == [3, 5]
    np.save(path, np.array([3.0, 5.0]))
    with pytest.raises(RunError) as caught:
        load_seen_images(path)
    assert str(caught.value) == (
        f"{path} is damaged: it must hold hashes of images. Received: float64 (2,). Train again."
    )
    path.write_bytes(b"no array")
    with pytest.raises(RunError, match=r"is damaged: .*\. Train again\."):
        load_seen_images(path)
