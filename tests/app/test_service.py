import asyncio
import io
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.app.server import Service
from pneumo_keras.data.decoding import Decoders
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.kinds import Limits
from pneumo_keras.errors import DataError
from pneumo_keras.recipes.explain import ImageExplainer


@pytest.fixture
def png():
    file = io.BytesIO()
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_a_decoder_that_hangs_costs_one_upload_and_no_more_than_its_limit_of_time(monkeypatch, png):
    monkeypatch.setattr(Service, "_describe", lambda self, image: image.shape)

    async def evaluate_twice(service):
        assert await service.evaluate(png) == (30, 40)
        while len(decoders._idle) < 2:  # until both processes have started
            await asyncio.sleep(0.01)
        process = multiprocessing.active_children()[0]
        assert process.pid
        os.kill(process.pid, signal.SIGSTOP)
        answers = asyncio.gather(service.evaluate(png), service.evaluate(png), return_exceptions=True)
        return await asyncio.wait_for(answers, 20)

    with Decoders(Preparation(28), workers=2, limits=Limits(seconds=2)) as decoders:
        answers = asyncio.run(evaluate_twice(Service(object.__new__(ImageExplainer), decoders)))
    (refused,) = (answer for answer in answers if answer != (30, 40))
    assert isinstance(refused, DataError) and str(refused) == "it took more than 2 s to decode"


PROGRAM = """
import asyncio, socket
from pneumo_keras.app.server import build_server, build_uvicorn

async def evaluate(content):
    await asyncio.sleep(60)

page = build_server(evaluate, [], run="", notice="", max_bytes=2**20, hosts=[])
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    build_uvicorn(page).run(sockets=[listener])
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_page_ends_soon_whatever_its_clients_do(kind):
    upload = b"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\nabc"
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout and program.stderr
        port = int(program.stdout.readline())
        requests = [upload % 100_000, upload % 3, b"GET / HTTP/1.1\r\nHost: loc", b""]
        clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request)
        time.sleep(0.5)
        started = time.monotonic()
        program.send_signal(kind)
        assert program.wait(10) == -kind
        assert time.monotonic() - started < 5
        errors = program.stderr.read()
        assert "ASGI" not in errors and "running task" not in errors
        for client in clients:
            client.close()
