"""The page as its clients meet it: bytes on sockets."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from pneumo_keras.app import connections, uploads
from pneumo_keras.app.middleware import SECURITY_HEADERS
from pneumo_keras.app.server import build_server
from pneumo_keras.app.serving import PageServer, list_names

MAX_BYTES = 2**20


async def evaluate(content):
    if content == b"fail":
        raise ZeroDivisionError
    return {"bytes": len(content)}


@contextlib.contextmanager
def serve_page():
    page = build_server(
        evaluate, [b"first"], run="one", notice="", max_bytes=MAX_BYTES, hosts=list_names("127.0.0.1")
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = PageServer(page)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def port():
    with serve_page() as port:
        yield port


@pytest.fixture
def connect(port):
    with contextlib.ExitStack() as stack:

        def connect(*parts):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            for part in parts:
                client.sendall(part)
            return client

        yield connect


def read_answers(client):
    """All that is answered until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := client.recv(2**16):
            received += part
    return received


def to_request(line, *headers, host: str | None = "127.0.0.1", body=b""):
    lines = [line, *([f"Host: {host}"] if host is not None else []), *headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def to_upload(content, *headers):
    return to_request("POST /images HTTP/1.1", f"Content-Length: {len(content)}", *headers, body=content)


def answer_other(connect):
    """Waits until another request is answered: what was sent before it has arrived."""
    assert parse(read_answers(connect(to_request("GET / HTTP/1.1"))))[0] == 200


def parse(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


UNFINISHED = b"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nbegun"
BEGUN_HEAD = b"GET / HTTP/1.1\r\nHost: loc"

HOSTS = {
    "127.0.0.1": 200,
    "127.0.0.1:9": 200,
    "LocalHost:65535": 200,
    "localhost:": 200,
    "[::1]": 200,
    "[0:0:0::0:1]:80": 200,
    "": 400,
    " ": 400,
    ":80": 400,
    "[": 400,
    "[::1": 400,
    "::1": 400,
    "[::1]x": 400,
    "[127.0.0.1]": 400,
    "[::zz]": 400,
    "[1:2]": 400,
    "localhost:80:80": 400,
    "localhost:8o": 400,
    "localhost:123456": 400,
    "localhost, evil.example": 400,
    "user@localhost": 400,
    "localhost/": 400,
    "http://localhost": 400,
    "localhost.evil.example": 400,
    "evil.example": 400,
    "evil.example:80": 400,
    "127.0.0.1.": 400,
    "127.1": 400,
    "[::ffff:127.0.0.1]": 400,
    "localhost\u00e9": 400,
    "%6cocalhost": 400,
    "a" * 3000: 400,
    None: 400,
}
PATHS = [
    "/",
    "/images",
    "/images/",
    "/examples/0.png",
    "/none",
    "//evil.example/",
    "http://evil.example/images/",
]


def check_headers(answer):
    _, headers, _ = parse(answer)
    for name, value in SECURITY_HEADERS.items():
        expected = "default-src 'none'" if name == "Content-Security-Policy" else value
        assert headers[name.lower()].startswith(expected.lower()), answer[:500]
    assert "location" not in headers
    assert b"Traceback" not in answer


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_is_checked_before_anything_else(connect, host, caplog):
    for path in PATHS if HOSTS[host] == 400 else ["/"]:
        answer = read_answers(connect(to_request(f"GET {path} HTTP/1.1", host=host)))
        assert parse(answer)[0] == HOSTS[host], path
        check_headers(answer)
    assert not caplog.records


ORIGINS = {
    "http://127.0.0.1": 200,
    "HTTP://127.0.0.1": 200,
    "https://127.0.0.1": 200,
    "null": 403,
    "http://evil.example": 403,
    "http://127.0.0.1:81": 403,
    "http://localhost": 403,
    "chrome-extension://abc": 403,
    "http://[::1]": 403,
    "http://[::1": 400,
    "http://": 400,
    "127.0.0.1": 400,
    "": 400,
    "http://127.0.0.1/": 400,
    "http://127.0.0.1 http://evil.example": 400,
    "http://user@127.0.0.1": 400,
    "\u00ff": 400,
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_origin_is_checked(connect, origin, caplog):
    answer = read_answers(connect(to_upload(b"abc", f"Origin: {origin}")))
    assert parse(answer)[0] == ORIGINS[origin]
    check_headers(answer)
    assert not caplog.records


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (to_request("GET / HTTP/1.1"), 200),
        (to_request("GET / HTTP/1.0"), 200),
        (to_request("GET / HTTP/1.0", host=None), 400),
        (to_request("HEAD / HTTP/1.1"), 200),
        (to_request("OPTIONS / HTTP/1.1"), 405),
        (to_request("OPTIONS * HTTP/1.1"), 404),
        (to_request("TRACE / HTTP/1.1"), 405),
        (to_request("DELETE /images HTTP/1.1"), 405),
        (to_request("GET /images HTTP/1.1"), 405),
        (to_request("GET /images/ HTTP/1.1"), 404),
        (to_request("POST /images/ HTTP/1.1", "Content-Length: 3", body=b"abc"), 404),
        (to_request("GET /examples/0.png HTTP/1.1"), 200),
        (to_request("GET /examples/00.png HTTP/1.1"), 404),
        (to_request(f"GET /examples/{'9' * 5000}.png HTTP/1.1"), 404),
        (to_request(f"GET /{'a' * 60_000} HTTP/1.1"), 404),
        (to_request("GET /%00%ff%2e%2e/ HTTP/1.1"), 404),
        (to_request("GET /../pyproject.toml HTTP/1.1"), 404),
        (to_request(f"GET /{'a' * 200_000} HTTP/1.1"), 400),
        (to_request("GET / HTTP/1.1", f"X: {'a' * 200_000}"), 400),
        (to_request("GET / HTTP/1.1", "Host: localhost"), 400),
        (to_request("GET / HTTP/1.1", "Origin: http://127.0.0.1", "Origin: http://127.0.0.1"), 400),
        (to_request("GET / HTTP/1.1", "Connection: upgrade", "Upgrade: websocket"), 200),
        (to_request("GET / HTTP/1.1", "Connection: upgrade, HTTP2-Settings", "Upgrade: h2c"), 200),
        (to_upload(b""), 200),
        (to_upload(b"abc", "Content-Length: 4"), 400),
        (to_upload(b"abc", "Transfer-Encoding: gzip"), 400),
        (to_request("POST /images HTTP/1.1", "Content-Length: -3", body=b"abc"), 400),
        (to_request("POST /images HTTP/1.1", f"Content-Length: {'9' * 19}", body=b"abc"), 422),
        (to_request("POST /images HTTP/1.1", "Transfer-Encoding: chunked", body=b"zz\r\n"), 400),
        (
            to_request("POST /images HTTP/1.1", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
            200,
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (bytes(range(256)) + b"\r\n\r\n", 400),
    ],
)
def test_every_answer_has_the_headers_of_security(connect, request_, status, caplog):
    answer = read_answers(connect(request_))
    assert parse(answer)[0] == status
    check_headers(answer)
    assert not caplog.records


def test_a_failure_of_the_page_is_told_and_logged(connect, caplog):
    answer = read_answers(connect(to_upload(b"fail")))
    status, _, body = parse(answer)
    assert (status, json.loads(body)) == (
        500,
        {"error": "the page failed: its program says why where it was started"},
    )
    check_headers(answer)


def test_what_is_too_large_is_refused_before_it_is_asked_for(connect):
    head = to_request("POST /images HTTP/1.1", f"Content-Length: {MAX_BYTES + 1}", "Expect: 100-continue")
    assert read_answers(connect(head)).startswith(b"HTTP/1.1 422 ")
    head = to_request("POST /images HTTP/1.1", "Content-Length: 3", "Expect: 100-continue")
    client = connect(head)
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"abc")
    assert read_answers(client).endswith(b'{"bytes":3}')


def test_requests_in_a_row_are_answered_in_a_row(connect):
    one = to_upload(b"ab").replace(b"Connection: close\r\n", b"")
    answer = read_answers(connect(one * 20 + to_upload(b"abc")))
    assert answer.count(b'{"bytes":2}') == 20
    assert answer.endswith(b'{"bytes":3}')


def test_clients_that_do_not_finish_keep_nobody_waiting_and_lose_their_turn(connect, monkeypatch):
    monkeypatch.setattr(uploads, "PATIENCE", 3.0)
    slow = [connect(UNFINISHED) for _ in range(20)] + [connect(BEGUN_HEAD) for _ in range(20)]
    started = time.monotonic()
    assert read_answers(connect(to_upload(b"abc"))).endswith(b'{"bytes":3}')
    assert time.monotonic() - started < 2
    stopped = threading.Event()

    def drip():
        while not stopped.wait(0.1):
            for client in slow[:10]:
                with contextlib.suppress(OSError):
                    client.sendall(b"more")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        answers = [read_answers(client) for client in slow[:20]]
    finally:
        stopped.set()
        thread.join()
    assert time.monotonic() - started < 10
    assert {parse(answer)[0] for answer in answers[10:]} == {408}
    for answer in filter(None, answers):  # a reset may come before it, to who still writes
        assert parse(answer)[0] == 408
        check_headers(answer)


def test_what_uploads_hold_together_is_bounded(connect, monkeypatch):
    monkeypatch.setattr(uploads, "PATIENCE", 3.0)
    slow = [connect(UNFINISHED) for _ in range(uploads.UPLOADS)]
    answer_other(connect)
    monkeypatch.setattr(uploads, "PATIENCE", 0.1)
    assert parse(read_answers(connect(to_upload(b"abc"))))[0] == 503
    for client in slow:
        client.close()
    monkeypatch.setattr(uploads, "PATIENCE", 10.0)
    assert parse(read_answers(connect(to_upload(b"abc"))))[0] == 200
    monkeypatch.setattr(uploads, "WHOLE_UPLOADS", 0)
    assert parse(read_answers(connect(to_upload(b"abc"))))[0] == 503


def test_connections_that_stand_still_are_dropped(connect, monkeypatch):
    monkeypatch.setattr(connections, "STILL_SECONDS", 0.5)
    clients = [connect(), connect(BEGUN_HEAD), connect(b"G"), connect(to_upload(b"abc")[:-1])]
    started = time.monotonic()
    assert [read_answers(client) for client in clients[:3]] == [b""] * 3
    assert time.monotonic() - started < 5
    clients[3].sendall(b"c")
    assert read_answers(clients[3]).endswith(b'{"bytes":3}')


def test_no_more_connections_than_some_are_kept(connect, monkeypatch):
    monkeypatch.setattr(connections, "CONNECTIONS", 5)
    busy = [connect(UNFINISHED) for _ in range(3)]
    answer_other(connect)
    waiting = [connect(BEGUN_HEAD) for _ in range(4)]
    assert [read_answers(client) for client in waiting[:2]] == [b"", b""]
    assert read_answers(connect(to_upload(b"abc"))).endswith(b'{"bytes":3}')
    assert read_answers(waiting[2]) == b""
    waiting[3].close()
    for client in busy:
        client.sendall(b"x" * 99_995)
        assert client.recv(15) == b"HTTP/1.1 200 OK"


def test_a_storm_of_clients_that_go_at_once_keeps_nobody_out(connect):
    for _ in range(5):
        for _ in range(300):
            connect(UNFINISHED).close()
        assert read_answers(connect(to_upload(b"abc"))).endswith(b'{"bytes":3}')


PROGRAM = """
import asyncio, socket, sys
from pneumo_keras.app.server import build_server
from pneumo_keras.app.serving import PageServer

async def evaluate(content):
    await asyncio.sleep(60)

page = build_server(evaluate, [bytes(50_000_000)], run="", notice="", max_bytes=2**20, hosts=[])
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    PageServer(page).run(sockets=[listener])
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_page_ends_at_once_whatever_its_clients_do(kind):
    with (
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as program,
        contextlib.ExitStack() as stack,
    ):
        assert program.stdout and program.stderr
        port = int(program.stdout.readline())
        requests = [
            UNFINISHED,
            BEGUN_HEAD,
            b"",
            to_upload(b"abc"),
            to_request("GET /examples/0.png HTTP/1.1"),
        ]
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in requests
        ]
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request)
        assert clients[-1].recv(5) == b"HTTP/"  # and it reads no further
        started = time.monotonic()
        program.send_signal(kind)
        for client, status in zip(clients, [503, None, None, 503], strict=False):
            answer = read_answers(client)
            assert (parse(answer)[0] if answer else None) == status
        assert time.monotonic() - started < 3
        assert program.wait(10) == -kind
        said = program.stderr.read()
    assert "ASGI" not in said
    assert "running task" not in said
