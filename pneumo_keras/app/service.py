"""What the page is told of a film."""

import asyncio
import base64
import concurrent.futures
import io
from typing import Any

import numpy as np
import pebble
from jaxtyping import UInt8
from PIL import Image

from pneumo_keras.data.decoding import DecodedFilm, ShownFilm, show_film
from pneumo_keras.data.phantom import PhantomFilms
from pneumo_keras.data.pictures import Limits
from pneumo_keras.errors import DataError
from pneumo_keras.model.attribution import Explainer
from pneumo_keras.recipes.scoring import Scorer
from pneumo_keras.reporting.explanations import CAVEAT, LEGEND, SHOWN_EDGE, paint_evidence, to_limit

EXAMPLES, EXAMPLE_SIZE, EXAMPLE_SEED = 5, 256, 11
NOTICE = "They are synthetic: a program drew them."


class Service:
    """A run that judges one film after the other.

    Attributes:
        limits: What a film's file may cost.
    """

    def __init__(
        self, scorer: Scorer, explainer: Explainer, pool: pebble.ProcessPool, limits: Limits
    ) -> None:
        self._scorer, self._explainer, self._pool, self.limits = scorer, explainer, pool, limits
        self._turn = asyncio.Lock()

    async def judge(self, content: bytes) -> dict[str, Any]:
        """What there is to say of the film of a file, ready for JSON; pictures as `data:` addresses.

        Raises:
            DataError: There is no film in it. Says why.
        """
        arguments = content, self._scorer.film_size, SHOWN_EDGE, self.limits
        try:
            film = await asyncio.wrap_future(
                self._pool.schedule(show_film, arguments, timeout=self.limits.seconds)
            )
        except concurrent.futures.TimeoutError as error:
            raise DataError(f"it took more than {self.limits.seconds:g} s to decode") from error
        except pebble.ProcessExpired as error:
            raise DataError("its decoder crashed") from error
        async with self._turn:
            return await asyncio.to_thread(self._describe, film)

    def warm_up(self) -> None:
        """Makes all programs ready, so that the first film does not wait for them."""
        size = self._scorer.film_size
        image = PhantomFilms(2, size, EXAMPLE_SEED).read(slice(0, 1))[0]
        self._describe(ShownFilm(image, image, image.shape))

    def _describe(self, film: ShownFilm) -> dict[str, Any]:
        (scored,) = self._scorer.score([DecodedFilm("", film.image, shape=film.shape)])
        evidence = self._explainer.explain(film.image).evidence
        limit = to_limit([evidence])
        return {
            "probability": scored.probability,
            "verdict": scored.verdict,
            "threshold": scored.threshold,
            "margin": scored.margin,
            "warning": scored.warning,
            "film_size": self._scorer.film_size,
            "film": encode_png(film.shown),
            "map": encode_png(paint_evidence(film.shown, evidence, limit=limit, edge=SHOWN_EDGE)),
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
