"""What the page is told of a film."""

import asyncio
import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pneumo_keras.data.decoding import DecodedFilm, Decoders
from pneumo_keras.data.phantom import PhantomFilms
from pneumo_keras.errors import DataError
from pneumo_keras.recipes.explain import FilmExplainer
from pneumo_keras.reporting.explanations import CAVEAT, LEGEND, SHOWN_EDGE, paint_evidence, to_limit

EXAMPLES, EXAMPLE_SIZE, EXAMPLE_SEED = 5, 256, 11
NOTICE = "They are synthetic: a program drew them."


class Service:
    """A run that judges one film after the other."""

    def __init__(self, explainer: FilmExplainer, decoders: Decoders) -> None:
        self._explainer, self._decoders = explainer, decoders
        self._turns = ThreadPoolExecutor(1, "explain")  # a client that is gone does not end what runs

    async def judge(self, content: bytes) -> dict[str, Any]:
        """What there is to say of the film of a file, ready for JSON; pictures as `data:` addresses.

        Raises:
            DataError: There is no film in it. Says why.
        """
        film = await asyncio.wrap_future(self._decoders.submit(content))
        if film.image is None:
            raise DataError(film.reason)
        return await asyncio.get_running_loop().run_in_executor(self._turns, self._describe, film)

    def warm_up(self) -> None:
        """Makes all programs ready, so that the first film does not wait for them."""
        size = self._explainer.preparation.size
        image = PhantomFilms(2, size, EXAMPLE_SEED).read(slice(0, 1))[0]
        self._describe(DecodedFilm("", image, shape=image.shape, shown=image))

    def _describe(self, film: DecodedFilm) -> dict[str, Any]:
        one = self._explainer.explain(film)
        scored, evidence = one.scored, one.explanation.evidence
        limit = to_limit([evidence])
        return {
            "probability": scored.probability,
            "verdict": scored.verdict,
            "threshold": scored.threshold,
            "margin": scored.margin,
            "warning": scored.warning,
            "film_size": self._explainer.preparation.size,
            "film": encode_png(one.shown),
            "map": encode_png(paint_evidence(one.shown, evidence, limit=limit, edge=SHOWN_EDGE)),
            "limit": limit,
            "legend": " ".join(LEGEND.split()),
            "caveat": CAVEAT,
        }


def draw_examples() -> list[bytes]:
    """Phantom films to try, as PNG files."""
    films = PhantomFilms(EXAMPLES, EXAMPLE_SIZE, EXAMPLE_SEED).read(slice(None))
    return [_to_png(film) for film in films]


def encode_png(image: UInt8[np.ndarray, "..."]) -> str:
    """A picture as the address of itself."""
    return f"data:image/png;base64,{base64.b64encode(_to_png(image)).decode()}"


def _to_png(image: UInt8[np.ndarray, "..."]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
