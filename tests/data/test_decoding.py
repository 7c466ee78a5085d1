import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data import decoding
from pneumo_keras.data.decoding import Decoders, decode_images
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.kinds import Limits
from pneumo_keras.errors import DataError

RANDOM = np.random.default_rng(0)


@pytest.fixture
def images(tmp_path):
    arrays = RANDOM.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    for index, image in enumerate(arrays):
        Image.fromarray(image).save(tmp_path / f"{index:02}.png")
    return tmp_path, arrays


def test_images_come_in_the_order_of_their_paths(images):
    folder, arrays = images
    paths = [str(folder / f"{index:02}.png") for index in range(40)]
    paths.insert(7, str(folder / "none.png"))
    paths.insert(20, "with\0null.png")
    decoded = list(decode_images(paths, preparation=Preparation(28), workers=2))
    assert [image.path for image in decoded] == paths
    reasons = {image.path: image.reason for image in decoded if image.image is None}
    assert reasons == {
        paths[7]: "No such file or directory",
        paths[20]: "embedded null byte",
    }
    np.testing.assert_array_equal([image.image for image in decoded if image.image is not None], arrays)
    assert decoded[0].shape == (28, 28)


def test_paths_are_drawn_as_they_are_needed(images):
    folder, _ = images
    drawn = []

    def draw():
        for index in range(1000):
            drawn.append(index)
            yield str(folder / f"{index % 40:02}.png")

    decoded = decode_images(draw(), preparation=Preparation(28), workers=1)
    next(decoded)
    assert len(drawn) <= decoding.AHEAD + 2
    decoded.close()


def signal_decoders(kind):
    for process in multiprocessing.active_children():
        assert process.pid
        os.kill(process.pid, kind)


def hang_or_die(path, preparation, limits, shown):
    """Does what the name of the file says; "once" only where no mark lies beside it."""
    mark, name = Path(f"{path}.mark"), Path(path).name
    first = not mark.exists()
    if "hang" in name:
        time.sleep(60)
    if "exit" in name:
        os._exit(0)
    if "killed" in name and (first or "once" not in name):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return decoding.DecodedImage(path, np.zeros((preparation.size,) * 2, np.uint8))


@pytest.mark.system
@pytest.mark.parametrize("workers", [1, 3])
def test_a_process_that_hangs_or_ends_costs_the_image_that_it_had(monkeypatch, tmp_path, workers):
    monkeypatch.setattr(decoding, "decode_file", hang_or_die)
    names = [
        "a",
        "killed",
        *"bcde",
        "hang",
        "f",
        "killed once",
        "exit",
        *"ghij",
    ]
    started = time.monotonic()
    with Decoders(Preparation(4), workers=workers, limits=Limits(seconds=1)) as decoders:
        decoded = list(decoders.decode(str(tmp_path / name) for name in names))
    assert [Path(image.path).name for image in decoded] == names
    assert {Path(image.path).name: image.reason for image in decoded if image.image is None} == {
        "killed": decoding.ENDED,
        "hang": "it took more than 1 s to decode",
        "exit": decoding.ENDED,
    }
    assert time.monotonic() - started < 40


@pytest.mark.system
def test_the_limit_of_time_counts_from_when_the_file_is_handed_over():
    with Decoders(Preparation(28), workers=1, limits=Limits(seconds=2)) as decoders:
        before = decoders.submit(b"nothing").result()
        signal_decoders(signal.SIGSTOP)
        assert decoders.submit(b"nothing").result(30).reason == "it took more than 2 s to decode"
        assert decoders.submit(b"nothing").result(30) == before


@pytest.mark.system
def test_decoders_that_stand_still_are_ended_with_the_block():
    with Decoders(Preparation(28), workers=1) as decoders:
        decoders.submit(b"nothing").result()
        signal_decoders(signal.SIGSTOP)
        waiting = [decoders.submit(b"nothing") for _ in range(3)]
    assert not multiprocessing.active_children()
    assert all(future.done() for future in waiting)


def end_at_once(link, work, limits):
    os._exit(3)


def test_processes_that_cannot_be_started_are_an_error_and_no_image_is_blamed(monkeypatch):
    monkeypatch.setattr(decoding, "_serve", end_at_once)
    with (
        Decoders(Preparation(28), workers=2) as decoders,
        pytest.raises(
            DataError, match="No process that decodes images can be started: it ended with status 3"
        ),
    ):
        list(decoders.decode(["a", "b", "c"]))


def end_until(link, work, limits):
    """Ends its process as often as its work says: a file to which each adds a letter."""
    mark = work.keywords["preparation"]
    mark.write_text(f"{mark.read_text()}x")
    if len(mark.read_text()) < decoding.STARTS:
        os._exit(5)
    link.send(None)
    link.send(decoding.DecodedImage(link.recv(), None, "done"))


@pytest.mark.system
def test_a_process_is_started_again_a_few_times(monkeypatch, tmp_path):
    mark = tmp_path / "mark"
    mark.touch()
    monkeypatch.setattr(decoding, "_serve", end_until)
    with Decoders(mark, workers=1) as decoders:
        assert decoders.submit("a").result().reason == "done"
    assert len(mark.read_text()) == decoding.STARTS


def write_as_a_codec_does(path, preparation, limits, shown):
    os.write(2, b"a warning of a codec")
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, []) == {signal.SIGINT}
    return decoding.DecodedImage(path, None, f"{blocked} {resource.getrlimit(resource.RLIMIT_AS)[0]}")


def test_a_process_keeps_its_limit_and_neither_writes_nor_is_interrupted(monkeypatch, capfd):
    monkeypatch.setattr(decoding, "decode_file", write_as_a_codec_does)
    with Decoders(Preparation(4), workers=1, limits=Limits(memory=2**39)) as decoders:
        assert decoders.submit("a").result().reason == f"True {2**39}"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("it took more than 30 s to decode", True),
        (decoding.ENDED, True),
        ("it takes too much memory to decode", True),
        ("it cannot be decoded: broken", False),
        ("", False),
    ],
)
def test_what_may_pass_is_known_by_its_reason(reason, expected):
    assert decoding.is_transient(reason) is expected


def test_memory_that_a_file_asks_for_is_not_given(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("L", (12_000, 12_000)).save(path)
    assert Path(path).stat().st_size < 500_000
    (decoded,) = decode_images([str(path)], preparation=Preparation(28), workers=1)
    assert decoded.reason == "it has 12,000 x 12,000 pixels, more than 50,000,000"


@pytest.mark.system
def test_decoders_that_somebody_ended_are_replaced_and_cost_no_image(images):
    folder, _ = images
    with Decoders(Preparation(28), workers=2) as decoders:
        for _ in range(2):
            decoded = list(decoders.decode(str(folder / f"{index:02}.png") for index in range(40)))
            assert all(image.image is not None for image in decoded)
            signal_decoders(signal.SIGKILL)
        assert decoders.submit(str(folder / "01.png")).result().image is not None


def test_decoders_that_were_closed_begin_nothing_new(images):
    folder, _ = images
    with Decoders(Preparation(28), workers=1) as decoders:
        pass
    with pytest.raises(RuntimeError):
        decoders.submit(str(folder / "00.png"))
    assert not multiprocessing.active_children()
