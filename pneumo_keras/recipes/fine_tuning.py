"""Blocks of the network that learn, too, once the head is fitted: those from `training.unfreeze_from` on."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import keras

from pneumo_keras.config import Config
from pneumo_keras.features.extract import Extractor, ViewedImages
from pneumo_keras.features.views import PLAIN, list_evaluated_views
from pneumo_keras.model.backbone import CutBackbone, cut_backbone
from pneumo_keras.model.classifier import FrozenPart
from pneumo_keras.recipes.adapters import list_fitted_views, to_fit_config
from pneumo_keras.recipes.images import Split
from pneumo_keras.recipes.network import build_extractor
from pneumo_keras.training.batches import Batches
from pneumo_keras.training.checkpoint import Checkpoint
from pneumo_keras.training.fit import History, fit

log = logging.getLogger("pneumo_keras")


@dataclass(frozen=True)
class FineTuning:
    """What lets blocks of the network learn.

    Attributes:
        cut: A copy of the network, cut in two below them.
        lower: Images -> activations at the cut.
    """

    cut: CutBackbone
    lower: Extractor


def prepare_fine_tuning(
    config: Config, extractor: Extractor, splits: Mapping[str, Split], block: str
) -> FineTuning:
    """Cuts the network below a block and checks that the features of all parts will find room.

    Args:
        config: The settings.
        extractor: Of the frozen network.
        splits: The images.
        block: The lowest that learns.

    Raises:
        SettingsError: They take more than the limit of the store.
        DataError: They take more than the disk has.
    """
    log.info("Blocks from %s on learn after the head: what comes from below them is computed once", block)
    cut = cut_backbone(extractor.frozen.backbone, block)
    lower = build_extractor(config, replace(extractor.frozen, backbone=cut.lower))
    train, val = splits["train"].images, splits["val"].images
    fitted, evaluated = list_fitted_views(config), [PLAIN, *list_evaluated_views(config.model.flip_average)]
    first: list[ViewedImages] = [(train, fitted), (val, evaluated)]
    last: list[ViewedImages] = [(train, fitted[:1]), (val, evaluated)]
    before, after = (
        [entry for view in extractor.list_entries(wanted) for entry in view] for wanted in (first, last)
    )
    # Where the features of the fitted network will lie is known when it is.
    after = [replace(entry, about={**entry.about, "network": "to be fitted"}) for entry in after]
    lower.check_space([(train, fitted), (val, [PLAIN])], [*before, *after])
    return FineTuning(cut, lower)


def fine_tune(
    config: Config,
    tuning: FineTuning,
    head: keras.Model,
    splits: Mapping[str, Split],
    class_weights: dict[int, float],
    checkpoint: Checkpoint,
) -> tuple[FrozenPart, History]:
    """Fits the blocks above the cut together with the head, from where the head's own fit left it.

    Weights do not decay: that would draw those of the network away from what they were.

    Returns:
        The whole network, frozen again, and what happened. Both parts are as they were where no epoch had a
        lower validation loss.

    Raises:
        TrainingError: The loss is NaN or infinite.
        RunError: The checkpoint cannot be used.
    """
    training, lower, upper = config.training, tuning.lower, tuning.cut.upper
    train, val = splits["train"], splits["val"]
    below = f"below {training.unfreeze_from}"
    views = [lower.extract(train.images, f"{train.title}, {below}", v) for v in list_fitted_views(config)]
    validation = [lower.extract(val.images, f"{val.title}, {below}")]
    size = training.unfrozen_batch_size
    history = fit(
        keras.Model(upper.input, head(upper.output), name="unfrozen"),
        Batches(views, train.images.labels, batch_size=size, seed=config.seed),
        Batches(validation, val.images.labels, batch_size=size, seed=None),
        replace(
            to_fit_config(training),
            optimizer="adamw",
            schedule="plateau",
            epochs=training.unfrozen_epochs,
            learning_rates=[training.unfrozen_learning_rate],
            weight_decays=[0.0],
            rate_setting="training.unfrozen_learning_rate",
        ),
        class_weights=class_weights,
        checkpoint=checkpoint,
        fitted_before=True,
    )
    tuning.cut.whole.trainable = False
    (kept,) = history.kept_epochs
    if kept:
        log.info("Kept epoch %d of these: the one with the lowest validation loss", kept)
    else:
        log.warning(
            "No epoch had a lower validation loss than the frozen network with its head, and these are kept: "
            "lower training.unfrozen_learning_rate, or leave training.unfreeze_from unset"
        )
    return replace(lower.frozen, backbone=tuning.cut.whole), history


def join_histories(head: History, blocks: History) -> History:
    """Both fits in a row: phase 1 is that of the head, phase 2 that with the blocks above the cut."""
    tuned, count = blocks.kept_epochs != [0], len(head.epochs)
    first = [{**row, "kept": 0 if tuned else row["kept"], "phase": 1} for row in head.epochs]
    second = [{**row, "epoch": row["epoch"] + count, "phase": 2} for row in blocks.epochs]
    kept = [epoch + count for epoch in blocks.kept_epochs] if tuned else head.kept_epochs
    return History([*first, *second], kept, blocks.finite)
