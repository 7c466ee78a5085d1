import contextlib
import hashlib
import http.server
import logging
import threading

import pytest

from pneumo_keras.data import download
from pneumo_keras.data.download import Release, fetch_release
from pneumo_keras.errors import DownloadError

BODY = bytes(range(256)) * 1000
MD5 = hashlib.md5(BODY).hexdigest()
REMEDY = "Do without."


class Server:
    """Answers every request alike, counts them, and stops half way through while told to."""

    def __init__(self):
        self.body, self.status, self.length = BODY, 200, len(BODY)
        self.reason = self.location = None
        self.requests = 0
        self.half_sent, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/images.npz"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler):
        self.requests += 1
        handler.send_response(self.status, self.reason)
        if self.location is not None:
            handler.send_header("Location", self.location)
        if self.length is not None:
            handler.send_header("Content-Length", str(self.length))
        handler.end_headers()
        half = len(self.body) // 2
        handler.wfile.write(self.body[:half])
        handler.wfile.flush()
        self.half_sent.set()
        self.go_on.wait(10)
        with contextlib.suppress(ConnectionError):  # who asked may have hung up
            handler.wfile.write(self.body[half:])

    def close(self):
        self.go_on.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "medmnist"


def to_release(server, **facts):
    facts = {
        "title": "ImageSet",
        "name": "images.npz",
        "url": server.url,
        "md5": MD5,
        "most": 300_000,
    } | facts
    return Release(**facts)


def to_names(folder):
    """What lies in the folder."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def refuse(release, folder):
    with pytest.raises(DownloadError) as error:
        fetch_release(release, folder, remedy=REMEDY)
    assert to_names(folder) == []
    return str(error.value)


def test_a_release_arrives_whole(server, folder):
    assert fetch_release(to_release(server), folder, remedy=REMEDY) == folder / "images.npz"
    assert (folder / "images.npz").read_bytes() == BODY
    assert to_names(folder) == ["images.npz"]


def test_a_download_says_what_it_fetches_before_it_does(server, folder, caplog):
    caplog.set_level(logging.INFO, "pneumo_keras")
    fetch_release(to_release(server), folder, remedy=REMEDY)
    assert caplog.messages == [
        f"Downloading ImageSet (images.npz, at most 300,000 bytes, MD5 {MD5}) from {server.url} to {folder}"
    ]


def test_a_verified_copy_is_not_fetched_again(server, folder):
    for _ in range(2):
        fetch_release(to_release(server), folder, remedy=REMEDY)
    assert server.requests == 1


def test_a_file_is_not_there_before_it_is_whole(server, folder):
    server.go_on.clear()
    thread = threading.Thread(
        target=fetch_release, args=(to_release(server), folder), kwargs={"remedy": REMEDY}
    )
    thread.start()
    assert server.half_sent.wait(10)
    assert not (folder / "images.npz").exists()
    server.go_on.set()
    thread.join(10)
    assert (folder / "images.npz").read_bytes() == BODY


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"body": BODY[:-1] + b"x"}, "hash of downloaded file"),
        ({"status": 404}, "404"),
        ({"body": BODY * 2, "length": None}, "the server sends more than 300,000 bytes"),
        ({"body": BODY[: len(BODY) // 2]}, "bytes"),
        ({"status": 500, "reason": "\x1b[2J"}, "500"),
    ],
)
def test_what_is_not_the_file_is_refused_in_one_line(server, folder, facts, reason):
    for name, value in facts.items():
        setattr(server, name, value)
    text = refuse(to_release(server), folder)
    assert text.startswith(
        f"Cannot fetch ImageSet (images.npz, at most 300,000 bytes, MD5 {MD5}) from {server.url}"
    )
    assert reason in text and text.endswith(f". {REMEDY}")
    assert text.isprintable()


def test_no_more_than_the_stated_size_is_taken(server, folder):
    assert "more than 1,000 bytes" in refuse(to_release(server, bytes=1000), folder)


def test_no_network_is_told_in_one_line(server, folder):
    server.close()
    text = refuse(to_release(server), folder)
    assert "refused" in text and text.isprintable()


def test_a_silent_server_is_given_up(server, folder, monkeypatch):
    monkeypatch.setattr(download, "SECONDS_OF_SILENCE", 0.2)
    server.go_on.clear()
    assert "timed out" in refuse(to_release(server), folder)


def test_a_folder_that_cannot_be_made_is_told_in_one_line(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="Not a directory"):
        fetch_release(to_release(server), tmp_path / "file" / "medmnist", remedy=REMEDY)


def test_a_wrong_copy_is_replaced_and_stays_when_nothing_better_arrives(server, folder):
    folder.mkdir()
    (folder / "images.npz").write_bytes(b"other")
    server.status = 404
    with pytest.raises(DownloadError):
        fetch_release(to_release(server), folder, remedy=REMEDY)
    assert (folder / "images.npz").read_bytes() == b"other"
    server.status = 200
    assert fetch_release(to_release(server), folder, remedy=REMEDY).read_bytes() == BODY


def test_progress_is_shown_on_stderr(server, folder, capsys):
    fetch_release(to_release(server, bytes=len(BODY)), folder, remedy=REMEDY)
    assert capsys.readouterr().out == ""
