import contextlib
import gc
import hashlib
import http.server
import logging
import os
import threading
import time

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
    return Release(**{"title": "ImageSet", "name": "images.npz", "url": server.url, "md5": MD5} | facts)


def to_names(folder):
    """What lies in the folder, but for the lock."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


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
        f"Downloading ImageSet (images.npz, 256,000 bytes, MD5 {MD5}) from {server.url} to {folder}"
    ]


def test_a_server_that_states_no_length_is_no_matter(server, folder, caplog):
    caplog.set_level(logging.INFO, "pneumo_keras")
    server.length = None
    fetch_release(to_release(server), folder, remedy=REMEDY)
    assert "(images.npz, size not stated, MD5" in caplog.text


def test_a_file_is_not_there_before_it_is_whole(server, folder):
    server.go_on.clear()
    thread = threading.Thread(target=fetch_release, args=(to_release(server), folder), kwargs={"remedy": ""})
    thread.start()
    assert server.half_sent.wait(10)
    assert not (folder / "images.npz").exists()
    server.go_on.set()
    thread.join(10)
    assert (folder / "images.npz").read_bytes() == BODY


def test_two_at_once_fetch_once(server, folder):
    server.go_on.clear()
    fetch = {
        "target": fetch_release,
        "args": (to_release(server), folder),
        "kwargs": {"remedy": ""},
    }
    threads = [threading.Thread(**fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert server.half_sent.wait(10)
    server.go_on.set()
    for thread in threads:
        thread.join(10)
    assert server.requests == 1
    assert (folder / "images.npz").read_bytes() == BODY


def test_a_truncated_transfer_is_refused(server, folder):
    server.length = 300_000
    assert refuse(to_release(server), folder) == (
        f"Cannot fetch ImageSet (images.npz, size not stated, MD5 {MD5}) from {server.url} into "
        f"{folder}: IncompleteRead(256000 bytes read, 44000 more expected). Do without."
    )


def test_a_wrong_checksum_is_refused(server, folder):
    release = to_release(server, md5="0" * 32)
    assert refuse(release, folder) == (
        f"Cannot fetch ImageSet (images.npz, size not stated, MD5 {'0' * 32}) from {server.url} into "
        f"{folder}: the MD5 must be {'0' * 32} but is {MD5}. Do without."
    )


def test_a_missing_page_is_refused(server, folder):
    server.status = 404
    assert refuse(to_release(server), folder) == (
        f"Cannot fetch ImageSet (images.npz, size not stated, MD5 {MD5}) from {server.url} into "
        f"{folder}: the server answered 404 Not Found. Do without."
    )


def test_no_network_is_told_in_one_line(server, folder):
    server.close()
    assert refuse(to_release(server, bytes=256_000), folder) == (
        f"Cannot fetch ImageSet (images.npz, 256,000 bytes, MD5 {MD5}) from {server.url} into "
        f"{folder}: Connection refused. Do without."
    )


def test_a_folder_that_cannot_be_made_is_told_in_one_line(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError) as error:
        fetch_release(to_release(server), tmp_path / "file" / "folder", remedy=REMEDY)
    assert str(error.value).endswith(f"into {tmp_path}/file/folder: Not a directory. Do without.")


def test_a_silent_server_is_given_up(server, folder, monkeypatch):
    monkeypatch.setattr(download, "SECONDS_OF_SILENCE", 0.2)
    server.go_on.clear()
    assert refuse(to_release(server), folder).endswith(f"into {folder}: timed out. Do without.")


def test_who_may_read_a_download_is_for_the_umask_to_say(server, folder):
    mask = os.umask(0o027)
    try:
        fetch_release(to_release(server), folder, remedy=REMEDY)
    finally:
        os.umask(mask)
    assert (folder / "images.npz").stat().st_mode & 0o777 == 0o640


def test_a_verified_copy_needs_neither_network_nor_a_folder_to_write_to(server, folder, monkeypatch):
    fetch_release(to_release(server), folder, remedy=REMEDY)
    monkeypatch.delattr(download, "wait_for_lock")
    assert fetch_release(to_release(server), folder, remedy=REMEDY) == folder / "images.npz"
    assert server.requests == 1


def test_progress_is_shown_on_stderr(server, folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fetch_release(to_release(server), folder, remedy=REMEDY)
    heard = capsys.readouterr()
    assert heard.out == ""
    assert "Downloading images.npz" in heard.err


def test_a_wrong_copy_is_replaced(server, folder):
    folder.mkdir()
    (folder / "images.npz").write_bytes(b"wrong")
    fetch_release(to_release(server), folder, remedy=REMEDY)
    assert (folder / "images.npz").read_bytes() == BODY


def test_a_wrong_copy_stays_when_nothing_better_arrives(server, folder):
    server.status = 404
    folder.mkdir()
    (folder / "images.npz").write_bytes(b"wrong")
    with pytest.raises(DownloadError):
        fetch_release(to_release(server), folder, remedy=REMEDY)
    assert (folder / "images.npz").read_bytes() == b"wrong"


@pytest.mark.parametrize("bytes_", [256_000, None])
def test_an_endless_body_is_cut_right_behind_the_bound(endless, folder, bytes_):
    release = to_release(endless, bytes=bytes_, most=256_000)
    assert refuse(release, folder).endswith(
        f"into {folder}: the server sends more than 256,000 bytes. {REMEDY}"
    )
    assert endless.sent < 50_000_000  # no more than the sockets of any system hold


def test_a_drip_ends_in_proportion_to_the_size(endless, folder, monkeypatch):
    monkeypatch.setattr(download, "SECONDS_OF_SILENCE", 0.5)
    monkeypatch.setattr(download, "SLOWEST", 1000.0)
    endless.at_once, endless.pause = 1, 0.05
    started = time.monotonic()
    text = refuse(to_release(endless, bytes=1000), folder)
    assert text.endswith(f"into {folder}: it took longer than 2 s. {REMEDY}")
    assert 1.4 < time.monotonic() - started < 5


def test_a_drip_of_headers_ends(endless, folder, monkeypatch):
    monkeypatch.setattr(download, "SECONDS_OF_SILENCE", 0.5)
    endless.at_once, endless.pause, endless.drips_headers = 1, 0.05, True
    assert refuse(to_release(endless), folder).endswith(f"into {folder}: it took longer than 1 s. {REMEDY}")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # urllib3's, where it refuses a length
@pytest.mark.parametrize("length", ["9" * 5000, "\u00b2", "-5", "1e3", "", "5, 6", "0x10", "9" * 18])
def test_a_length_that_is_none_leaves_all_of_a_file_or_nothing(server, folder, length):
    server.length = length
    with contextlib.suppress(DownloadError):
        fetch_release(to_release(server), folder, remedy=REMEDY)
        assert (folder / "images.npz").read_bytes() == BODY
    gc.collect()
    assert to_names(folder) in ([], ["images.npz"])


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/images", "https://example.com/images", "http://10.0.0.1/images",
     "http://[::ffff:1.2.3.4]/", "http://[", "//example.com/images", "gopher:x", "http://localhost.example.com/"],
)  # fmt: skip
def test_a_redirect_to_another_kind_of_address_is_not_followed(server, folder, target):
    server.status, server.location = 302, target
    text = refuse(to_release(server), folder)
    reasons = ("another kind of address", "it must be a public address of https", "Invalid IPv6 URL")
    assert any(f"{reason}. {REMEDY}" in text for reason in reasons)
    assert "\n" not in text
    assert server.requests == 1


def test_a_redirect_on_the_same_machine_is_followed(server, folder):
    other = Server()
    server.status, server.location = 302, other.url
    try:
        fetch_release(to_release(server), folder, remedy=REMEDY)
    finally:
        other.close()
    assert (folder / "images.npz").read_bytes() == BODY


def test_redirects_end(server, folder):
    server.status, server.location = 302, server.url
    assert refuse(to_release(server), folder).endswith(f"the server sends on more than 10 times. {REMEDY}")
    assert server.requests == 11


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://zenodo.org/images", "public"),
        ("https://8.8.8.8/images", "public"),
        ("http://127.0.0.1:80/images", "this machine"),
        ("https://[::1]/images", "this machine"),
        ("http://localhost/images", "this machine"),
        ("http://zenodo.org/images", None),
        ("https://10.1.2.3/images", None),
        ("https://169.254.169.254/latest", None),
        ("file:///images", None),
        ("https:///images", None),
        ("", None),
    ],
)
def test_addresses_are_of_two_kinds(url, kind):
    if kind:
        assert download._classify(url) == kind
    else:
        with pytest.raises(OSError, match="it must be a public address of https"):
            download._classify(url)


def test_what_a_server_says_cannot_command_a_terminal(server, folder):
    server.status, server.reason = 404, "Not \x1b[31mfound"
    assert f"{folder}: the server answered 404 Not \\x1b[31mfound. " in refuse(to_release(server), folder)


def test_a_second_checksum_counts_where_there_is_one(server, folder):
    right, wrong = hashlib.sha256(BODY).hexdigest(), "0" * 64
    text = refuse(to_release(server, sha256=wrong), folder)
    assert f"the SHA256 must be {wrong} but is {right}" in text
    assert fetch_release(to_release(server, sha256=right), folder, remedy=REMEDY).is_file()


def test_no_room_is_told_in_one_line_and_leaves_nothing_behind(server, folder, monkeypatch):
    def fill_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pneumo_keras.storage.files.os.fsync", fill_disk)
    assert refuse(to_release(server), folder).endswith(f"into {folder}: No space left on device. {REMEDY}")


class EndlessServer:
    """Sends one byte after another, or as many as it can, and counts them."""

    def __init__(self):
        self.at_once, self.pause, self.drips_headers, self.sent = 1 << 16, 0.0, False, 0
        self.stopped = threading.Event()
        endless = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Drip: ")
                if not endless.drips_headers:
                    self.wfile.write(b"none\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    while not endless.stopped.wait(endless.pause):
                        self.wfile.write(b"x" * endless.at_once)
                        self.wfile.flush()
                        endless.sent += endless.at_once

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/images.npz"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def endless():
    server = EndlessServer()
    yield server
    server.stopped.set()
    server.http.shutdown()
    server.http.server_close()
