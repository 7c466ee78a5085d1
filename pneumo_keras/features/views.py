"""Views: the ways of seeing films before they pass the frozen network."""

from dataclasses import dataclass, field
from typing import Any

import keras

from pneumo_keras.features.augmentation import Vary, build_augmentation, build_variation


@dataclass(frozen=True)
class View:
    """One way of seeing the films: as they are, or varied.

    Attributes:
        vary: Applied to the enlarged films; None for the plain view.
        name: Of the view, in messages; empty for the plain one.
        key: Starts the random draws, together with the number of the chunk; empty without any.
        about: What tells this view from others.
    """

    vary: Vary | None = None
    name: str = ""
    key: tuple[int, ...] = ()
    about: dict[str, Any] = field(default_factory=lambda: {"view": "plain"})


PLAIN = View()
MIRRORED = View(
    vary=lambda images, *_: keras.ops.flip(images, axis=2), name="mirrored", about={"view": "mirrored"}
)


def build_augmented_views(
    count: int,
    *,
    rotation_degrees: float,
    horizontal_flip: bool,
    brightness: float,
    contrast: float,
    seed: int,
) -> list[View]:
    """Views that vary films at random, each with draws of its own.

    Args:
        count: Of the views.
        rotation_degrees: See `build_augmentation`, like all that follow.
        horizontal_flip: See there.
        brightness: See there.
        contrast: See there.
        seed: Of all draws.
    """
    settings: dict[str, Any] = {
        "rotation_degrees": rotation_degrees,
        "horizontal_flip": horizontal_flip,
        "brightness": brightness,
        "contrast": contrast,
        "seed": seed,
    }
    vary = build_variation(build_augmentation(**settings))
    return [
        View(
            vary=vary,
            name=f"augmented view {index} of {count}",
            key=(seed, index),
            about={"view": index, **settings},
        )
        for index in range(1, count + 1)
    ]
