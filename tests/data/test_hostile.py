import resource
import time

import pytest

from pneumo_keras.data.decoding import decode_images
from pneumo_keras.data.images import Preparation
from tests.data.hostile import write_hostile_files


@pytest.mark.system
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom says of the odd tags that they are odd
def test_every_hostile_file_is_an_image_or_a_reason(tmp_path):
    folder = tmp_path / "hostile"
    folder.mkdir()
    n = write_hostile_files(folder, 150)
    started = time.monotonic()
    paths = map(str, folder.iterdir())  # named, so that none is passed over
    decoded = list(decode_images(paths, preparation=Preparation(28), workers=2))
    assert len(decoded) == len({image.path for image in decoded}) == n
    assert all((image.image is None) == bool(image.reason) for image in decoded)
    reasons = {image.path.removeprefix(f"{folder}/"): image.reason for image in decoded}
    assert reasons["pipe.png"] == reasons["endless.png"] == "it is not an ordinary file"
    assert reasons["nowhere.png"] == "No such file or directory"
    assert reasons["empty.png"] == "the file is empty"
    assert reasons["inflating.dcm"] == "it takes too much memory to decode"
    assert reasons["new\nline.png"].startswith("it is not a PNG")
    assert reasons["bomb.png"] == "it has more than 50,000,000 pixels"
    assert reasons["text bomb.png"] == "it cannot be decoded: it is too large once decompressed"
    for bomb in ("bomb.png", "text bomb.png", "deep.dcm", "itself.png"):
        assert reasons[bomb]
    assert time.monotonic() - started < 120
    # In kilobytes: of the largest decoder so far, which had to undo 49 million pixels.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 3 * 2**20
