import re

import pytest
from starlette.testclient import TestClient

from pneumo_keras.app.server import build_server
from pneumo_keras.app.serving import list_names
from pneumo_keras.errors import DataError

ANSWER = {"probability": 0.9, "prediction": "pneumonia", "warning": ""}


async def evaluate(content):
    if content == b"broken":
        raise DataError("it is no PNG")
    return {**ANSWER, "bytes": len(content)}


@pytest.fixture
def client():
    server = build_server(
        evaluate,
        [b"first", b"second"],
        run="runs/<b>one</b>",
        notice="Drawn.",
        max_bytes=2**20,
        hosts=["127.0.0.1", "localhost"],
    )
    return TestClient(server, base_url="http://127.0.0.1")


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
    assert (broken.status_code, broken.json()) == (422, {"error": "it is no PNG"})


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


def test_other_names_other_ways_and_other_places_are_refused(client):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/images").status_code == 405
    assert client.get("/../pyproject.toml").status_code == 404


def test_pages_of_other_sites_are_refused(client):
    assert (
        client.post("/images", content=b"abc", headers={"origin": "http://evil.example"}).status_code == 403
    )
    assert client.post("/images", content=b"abc", headers={"origin": "http://127.0.0.1"}).status_code == 200


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
