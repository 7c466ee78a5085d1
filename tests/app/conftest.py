import socket
import threading

import pytest

from pneumo_keras.app.serving import PageServer, open_server
from pneumo_keras.config import load_config
from pneumo_keras.recipes import network
from pneumo_keras.recipes.train import train_run
from pneumo_keras.runs.folder import RunFolder
from tests.small import SMALL
from tests.toy import build_toy_backbone


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the toy network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "build_backbone", build_toy_backbone)
        patch.setenv("PNEUMO_KERAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = RunFolder(tmp_path_factory.mktemp("runs") / "one")
        train_run(load_config("demo", SMALL), folder)
    return folder


@pytest.fixture(scope="module")
def address(run):
    """Where its page is served meanwhile."""
    with (
        open_server(run, host="127.0.0.1", max_bytes=2**20) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        serving = PageServer(server)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving.should_exit = True
        thread.join(10)
