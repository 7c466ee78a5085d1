import re

import pytest
from starlette.testclient import TestClient

from pneumo_keras.app.server import SECURITY_HEADERS, build_server, list_names
from pneumo_keras.errors import DataError

ANSWER = {"probability": 0.9, "prediction": "pneumonia", "warning": ""}


async def evaluate(content):
    if content == b"broken":
        raise DataError("it is not a PNG")
    if content == b"fail":
        raise ZeroDivisionError
    return {**ANSWER, "bytes": len(content)}


@pytest.fixture
def client():
    server = build_server(
        evaluate,
        [b"first", b"second"],
        run="runs/<b>one</b>",
        notice="Drawn.",
        max_bytes=2**20,
        hosts=list_names("127.0.0.1"),
    )
    return TestClient(server, base_url="http://127.0.0.1", raise_server_exceptions=False)


def test_the_page_names_the_run_and_fetches_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "<h1>runs/&lt;b&gt;one&lt;/b&gt;</h1>" in page.text
    assert "not a medical device" in page.text
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", page.text) == [
        "data:,",
        "examples/0.png",
        "examples/1.png",
    ]
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "script-src 'sha256-" in policy and "http" not in policy
    assert page.headers["cache-control"] == "no-store"


def test_an_image_is_evaluated_and_a_broken_one_gets_its_reason(client):
    assert client.post("/images", content=b"abc").json() == {**ANSWER, "bytes": 3}
    broken = client.post("/images", content=b"broken")
    assert (broken.status_code, broken.json()) == (422, {"error": "it is not a PNG"})


def test_what_is_too_large_is_not_read_to_its_end(client):
    sent = []

    def send():
        for _ in range(1000):
            sent.append(1)
            yield b"\0" * 2**18

    refused = client.post("/images", content=send())
    assert (refused.status_code, refused.json()) == (422, {"error": "the file has more than 1 MB"})
    assert client.post("/images", content=b"\0" * 2**20).status_code == 200


def test_examples_are_pictures_and_there_are_no_more_of_them(client):
    assert client.get("/examples/1.png").content == b"second"
    assert client.get("/examples/1.png").headers["content-type"] == "image/png"
    assert client.get("/examples/2.png").status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:9"}, 200),
        ({"host": "LocalHost:65535"}, 200),
        ({"host": "[0:0:0::0:1]:80", "origin": "http://[0:0:0::0:1]:80"}, 200),
        ({"host": ""}, 400),
        ({"host": "[::1"}, 400),
        ({"host": "evil.example"}, 400),
        ({"host": "localhost.evil.example"}, 400),
        ({"host": "127.1"}, 400),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"origin": "https://127.0.0.1"}, 200),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:81"}, 403),
        ({"origin": "http://localhost"}, 403),
    ],
)
def test_other_hosts_and_pages_of_other_sites_are_refused(client, headers, status):
    for answer in (client.get("/", headers=headers), client.post("/images", content=b"abc", headers=headers)):
        assert answer.status_code == status


def test_every_answer_has_the_headers_of_security(client, caplog):
    answers = {
        200: client.get("/"),
        400: client.get("/", headers={"host": "evil.example"}),
        404: client.get("/../pyproject.toml"),
        405: client.get("/images"),
        422: client.post("/images", content=b"broken"),
        500: client.post("/images", content=b"fail"),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name].startswith(value.split(";")[0])
    assert answers[500].json() == {"error": "the page failed: the log of its program has the reason"}
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", ("localhost", "127.0.0.1", "::1", "127.0.0.1")),
        ("::1", ("localhost", "127.0.0.1", "::1", "::1")),
        ("0.0.0.0", ()),
        ("192.168.1.5", ("192.168.1.5",)),
        ("images.example", ("images.example",)),
    ],
)
def test_the_page_goes_by_the_names_of_its_address(host, names):
    assert list_names(host) == names
