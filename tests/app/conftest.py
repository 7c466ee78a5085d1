import socket
import threading

import pytest

from pneumo_keras.app.server import build_uvicorn, open_server
from pneumo_keras.runs.run import load_run


@pytest.fixture(scope="module")
def address(trained_toy_run):
    """Where its page is served meanwhile."""
    with (
        open_server(load_run(trained_toy_run), host="127.0.0.1", max_bytes=2**20) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        serving = build_uvicorn(server)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving.should_exit = True
        thread.join(10)
