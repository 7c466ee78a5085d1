from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bench import predict_rate
from tests.bench.measuring import Usage
from tests.bench.predict_rate import measure_predict, open_images, write_images


def test_images_of_an_npz_come_again_a_little_different(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    np.savez(tmp_path / "some.npz", train_images=images[:2], test_images=images[2:], test_labels=np.zeros(1))
    read = open_images(tmp_path / "some.npz", 5, 28)
    np.testing.assert_array_equal([read(index) for index in range(3)], images)
    np.testing.assert_array_equal(read(4)[:, 1:], images[1][:, :-1])


def test_images_are_written_once(tmp_path):
    read = open_images(None, 3, 64)
    paths = write_images(tmp_path / "folder", 3, read)
    with Image.open(paths[2]) as image:
        np.testing.assert_array_equal(image, read(2))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(paths[0])
    write_images(tmp_path / "folder", 3, read)
    with Image.open(paths[0]) as image:
        assert image.size == (8, 8)
    with pytest.raises(AssertionError, match="has other files"):
        write_images(tmp_path / "folder", 2, read)


def test_a_rate_leaves_out_the_first_tenth_of_the_rows(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(predict_rate.time, "perf_counter", lambda: now[0])

    def run(command, environment, watch):
        out = Path(command[command.index("--out") + 1])
        # The network starts for ten seconds, runs at 40 images a second, and the process ends slowly.
        for moment, rows in ((1.0, 0), (10.0, 5), (11.0, 20), (12.0, 60), (13.0, 100), (17.0, 100)):
            now[0] = moment
            out.write_text("row\n" * (rows + 1))
            watch()
        return Usage(17.0, 1.0, 1.0)

    monkeypatch.setattr(predict_rate, "run_measured", run)
    seen = []
    prediction = measure_predict("run", ["images"], 100, watch=seen.append)
    assert prediction.rate == 40 and prediction.text.count(b"\n") == 101
    assert seen == [0, 5, 20, 60, 100, 100, 100]
