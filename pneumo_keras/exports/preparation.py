"""What happens to films before the backbone and to log odds behind the head, read from the classifier."""

from dataclasses import dataclass
from typing import Any

import keras

from pneumo_keras.exports.resizing import KERNELS
from pneumo_keras.model.classifier import FrozenPart
from pneumo_keras.model.reading import list_operations, to_refusal


@dataclass(frozen=True)
class Resize:
    """Antialiased resizing.

    Attributes:
        kernel: A name in `resizing.KERNELS`.
        height: To be made, in pixels.
        width: To be made, in pixels.
    """

    kernel: str
    height: int
    width: int


@dataclass(frozen=True)
class Clip:
    """Grey levels brought into a range."""

    lowest: float
    highest: float


@dataclass(frozen=True)
class Scaling:
    """Value * slope + offset."""

    slope: float
    offset: float


@dataclass(frozen=True)
class Preparation:
    """From films (n, height, width, 1), 0..255, of any size, to what the backbone sees.

    Attributes:
        steps: In their order; the first one resizes.
        scaling: Of the grey levels.
        channels: In which they stand, all alike.
    """

    steps: tuple[Resize | Clip, ...]
    scaling: Scaling
    channels: int

    @property
    def film_size(self) -> int:
        """Height to which films are brought first, in pixels."""
        return next(step.height for step in self.steps if isinstance(step, Resize))


def read_preparation(frozen: FrozenPart) -> Preparation:
    """Reads resizing and scaling.

    Raises:
        ModelError: They hold something else.
    """
    steps = tuple(read_step(operation) for operation in list_operations(frozen.resize))
    if not steps or not isinstance(steps[0], Resize):
        raise to_refusal(frozen.resize, "must resize first", part="preparation of films")
    rescale, copy = read_kinds(frozen.scale, ("Rescaling", "Concatenate"), part="scaling of films")
    return Preparation(steps, Scaling(float(rescale.scale), float(rescale.offset)), len(copy.input))


def read_step(operation: Any) -> Resize | Clip:
    """One operation on grey levels.

    Raises:
        ModelError: It is none that is known.
    """
    kind = type(operation).__name__
    if kind == "Clip":
        return Clip(float(operation.x_min), float(operation.x_max))
    if kind != "Resize" or operation.interpolation not in KERNELS or not operation.antialias:
        rule = f"must clip, or resize antialiased and {' or '.join(KERNELS)}"
        raise to_refusal(operation, rule, part="preparation of films")
    return Resize(operation.interpolation, *operation.size)


def read_decision(decision: keras.Model) -> Scaling:
    """Reads the calibration of the mean log odds, before the sigmoid.

    Raises:
        ModelError: The decision holds something else.
    """
    _, calibration, last = read_kinds(decision, ("Mean", "Rescaling", "Activation"), part="decision")
    if last.activation is not keras.activations.sigmoid:
        raise to_refusal(last, "must be sigmoid", last.activation.__name__, part="decision")
    return Scaling(float(calibration.scale), float(calibration.offset))


def read_kinds(model: keras.Model, kinds: tuple[str, ...], *, part: str) -> list[Any]:
    """The operations of a model, one of each kind in this order.

    Raises:
        ModelError: There are others.
    """
    operations = list_operations(model)
    found = tuple(type(operation).__name__ for operation in operations)
    if found != kinds:
        raise to_refusal(model, f"must hold {', '.join(kinds)}", ", ".join(found), part=part)
    return operations
