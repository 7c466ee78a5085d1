"""What the page is told of an image."""

import asyncio
import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pneumo_keras.data.decoding import DecodedImage, Decoders
from pneumo_keras.data.phantom import PhantomImages
from pneumo_keras.errors import DataError
from pneumo_keras.recipes.explain import ImageExplainer
from pneumo_keras.reporting.explanations import CAVEAT, LEGEND, SHOWN_EDGE, paint_evidence, to_limit

EXAMPLES, EXAMPLE_SIZE, EXAMPLE_SEED = 5, 256, 11
NOTICE = "They are synthetic: a program drew them."


class Service:
    """A run that evaluates one image after the other."""

    def __init__(self, explainer: ImageExplainer, decoders: Decoders) -> None:
        self._explainer, self._decoders = explainer, decoders
        self._turns = ThreadPoolExecutor(1, "explain")  # a client that is gone does not end what runs

    async def evaluate(self, content: bytes) -> dict[str, Any]:
        """What there is to say of the image of a file, ready for JSON; pictures as `data:` addresses.

        Raises:
            DataError: There is no image in it. Says why.
        """
        image = await asyncio.wrap_future(self._decoders.submit(content))
        if image.image is None:
            raise DataError(image.reason)
        return await asyncio.get_running_loop().run_in_executor(self._turns, self._describe, image)

    def warm_up(self) -> None:
        """Makes all programs ready, so that the first image does not wait for them."""
        size = self._explainer.preparation.size
        image = PhantomImages(2, size, EXAMPLE_SEED).read(slice(0, 1))[0]
        self._describe(DecodedImage("", image, shape=image.shape, shown=image))

    def _describe(self, image: DecodedImage) -> dict[str, Any]:
        one = self._explainer.explain(image)
        scored, evidence = one.scored, one.explanation.evidence
        limit = to_limit([evidence])
        return {
            "probability": scored.probability,
            "prediction": scored.prediction,
            "threshold": scored.threshold,
            "margin": scored.margin,
            "warning": scored.warning,
            "data_size": self._explainer.preparation.size,
            "image": encode_png(one.shown),
            "map": encode_png(paint_evidence(one.shown, evidence, limit=limit, edge=SHOWN_EDGE)),
            "limit": limit,
            "legend": " ".join(LEGEND.split()),
            "caveat": CAVEAT,
        }


def draw_examples() -> list[bytes]:
    """Phantom images to try, as PNG files."""
    images = PhantomImages(EXAMPLES, EXAMPLE_SIZE, EXAMPLE_SEED).read(slice(None))
    return [_to_png(image) for image in images]


def encode_png(image: UInt8[np.ndarray, "..."]) -> str:
    """A picture as the address of itself."""
    return f"data:image/png;base64,{base64.b64encode(_to_png(image)).decode()}"


def _to_png(image: UInt8[np.ndarray, "..."]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
