import asyncio
import io
import multiprocessing
import os
import signal

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.app.service import Service
from pneumo_keras.data.decoding import Decoders
from pneumo_keras.data.images import Preparation
from pneumo_keras.data.pictures import Limits
from pneumo_keras.errors import DataError
from pneumo_keras.recipes.explain import ImageExplainer


@pytest.fixture
def png():
    file = io.BytesIO()
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_a_decoder_that_stands_still_costs_one_upload_and_no_more_than_its_limit_of_time(monkeypatch, png):
    monkeypatch.setattr(Service, "_describe", lambda self, image: image.shape)

    async def evaluate_twice(service):
        assert await service.evaluate(png) == (30, 40)
        (process,) = multiprocessing.active_children()
        assert process.pid
        os.kill(process.pid, signal.SIGSTOP)
        answers = asyncio.gather(service.evaluate(png), service.evaluate(png), return_exceptions=True)
        return await asyncio.wait_for(answers, 20)

    with Decoders(Preparation(28), workers=2, limits=Limits(seconds=2)) as decoders:
        answers = asyncio.run(evaluate_twice(Service(object.__new__(ImageExplainer), decoders)))
    (refused,) = (answer for answer in answers if answer != (30, 40))
    assert isinstance(refused, DataError) and str(refused) == "it took more than 2 s to decode"
