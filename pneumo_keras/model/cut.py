"""A network cut in two below one of its blocks: what stays as it was, and what learns."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from pneumo_keras.model.backbone import FLAT, join_feature_layers, list_ends
from pneumo_keras.model.initial import draw_nothing, replace_draws
from pneumo_keras.model.reading import list_operations

CUT = "cut"
"""The feature layer of the lower part that is not pooled."""


@dataclass(frozen=True)
class CutBackbone:
    """A copy of a backbone in two parts that share its layers.

    Attributes:
        whole: Images (n, size, size, 3) -> features (n, d), as the backbone was.
        lower: Images -> activations (n, a): what crosses the cut, flat, and then the pooled feature layers below it.
        upper: Activations -> features. Its convolutions learn. Its BatchNorm does not, neither statistics
            nor offsets: that alone keeps it in inference mode, since a model that is fitted calls all that
            is in it with `training=True`, whatever was said before.
    """

    whole: keras.Model
    lower: keras.Model
    upper: keras.Model


def cut_backbone(backbone: keras.Model, block: str) -> CutBackbone:
    """Cuts a copy of a backbone right below a block.

    Args:
        backbone: Images (n, size, size, 3) -> features (n, d), frozen.
        block: Name of the layer in which the block ends: `mixed8`.
    """
    whole: Any = copy_model(backbone)
    trunks = find_trunks(whole)
    below: Any = trunks[id(whole.get_layer(block).output)][-2].output
    ends = [layer.output for layer in list_ends(whole).values()]
    untouched = [end for end in ends if all(layer.output is not below for layer in trunks[id(end)])]
    flat = keras.layers.Flatten(name=f"{CUT}{FLAT}")(below)
    lower = join_feature_layers(whole.input, [flat, *untouched])
    above = keras.Model([below, *untouched], whole.output, name="above")
    for layer in above.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    return CutBackbone(whole, lower, _flatten_inputs(above))


def copy_model(model: keras.Model) -> keras.Model:
    """The same network with weights of its own."""
    with replace_draws(draw_nothing):
        copy: Any = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.trainable = model.trainable
    return copy


def find_trunks(model: Any) -> dict[int, Sequence[Any]]:
    """For the id of each tensor the layers that all ways from the images to it pass, the nearest one last."""
    trunks: dict[int, Sequence[Any]] = {id(model.input): []}
    for layer in list_operations(model):
        ways = [trunks[id(source)] for source in keras.tree.flatten(layer.input)]
        steps = itertools.takewhile(lambda step: len(set(map(id, step))) == 1, zip(*ways, strict=False))
        trunks[id(layer.output)] = [*(step[0] for step in steps), layer]
    return trunks


def _flatten_inputs(above: Any) -> keras.Model:
    """The upper part on activations that lie side by side in one row an image."""
    shapes = [one.shape[1:] for one in above.inputs]
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    activations: Any = keras.Input((ends[-1],), name="activations")
    parts = [activations[:, start:end] for start, end in itertools.pairwise([0, *ends])]
    parts[0] = keras.layers.Reshape(shapes[0])(parts[0])
    return keras.Model(activations, above(parts), name="upper")
