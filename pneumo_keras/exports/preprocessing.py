"""What the model does to images before the backbone and to log odds behind the head, read from its parts."""

from dataclasses import dataclass
from typing import Any

import keras

from pneumo_keras.model.classifier import FrozenPart
from pneumo_keras.model.reading import list_operations, to_refusal


@dataclass(frozen=True)
class Resize:
    """Antialiased bilinear resizing.

    Attributes:
        height: To be made, in pixels.
        width: To be made, in pixels.
    """

    height: int
    width: int


@dataclass(frozen=True)
class Scaling:
    """Value * slope + offset."""

    slope: float
    offset: float


@dataclass(frozen=True)
class Preprocessing:
    """From images (n, height, width, 1), 0..255, of any size, to what the backbone sees.

    Attributes:
        resizes: In their order, at least one.
        scaling: Of the grey levels.
        channels: In which they stand, all alike.
    """

    resizes: tuple[Resize, ...]
    scaling: Scaling
    channels: int

    @property
    def data_size(self) -> int:
        """Height to which images are brought first, in pixels."""
        return self.resizes[0].height


def read_preprocessing(frozen: FrozenPart) -> Preprocessing:
    """Reads resizing and scaling.

    Raises:
        ModelError: They hold something else.
    """
    resizes = tuple(read_resize(operation) for operation in list_operations(frozen.resize))
    if not resizes:
        raise to_refusal(frozen.resize, "must resize", part="preprocessing")
    rescale, copy = read_kinds(frozen.scale, ("Rescaling", "Concatenate"), part="scaling of images")
    return Preprocessing(resizes, Scaling(float(rescale.scale), float(rescale.offset)), len(copy.input))


def read_resize(operation: Any) -> Resize:
    """One resizing.

    Raises:
        ModelError: It is another operation, or resizes otherwise.
    """
    is_resize = type(operation).__name__ == "Resize"
    if not is_resize or operation.interpolation != "bilinear" or not operation.antialias:
        raise to_refusal(operation, "must resize antialiased and bilinear", part="preprocessing")
    return Resize(*operation.size)


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
