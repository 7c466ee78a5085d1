"""Heads fitted on the frozen network's features."""

import logging
import os
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from pneumo_keras.config import Config
from pneumo_keras.config.settings import AugmentationSettings, PerturbationSettings
from pneumo_keras.data.images import count_classes
from pneumo_keras.distributed.data_parallel import DataParallel, find_devices
from pneumo_keras.distributed.process_group import ProcessGroup
from pneumo_keras.features.augmentation import AugmentationRanges
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.store import SLICE, FeatureTable
from pneumo_keras.features.views import PLAIN, SeenImages, View, build_augmented_views, build_perturbed_view
from pneumo_keras.model.classifier import FrozenPart, build_online_model
from pneumo_keras.model.fingerprint import compute_fingerprint
from pneumo_keras.model.head import Moments, build_head
from pneumo_keras.recipes.images import Split
from pneumo_keras.runtime.seeds import derive_seeds
from pneumo_keras.training.batches import Batches, Table
from pneumo_keras.training.checkpoint import Checkpoint
from pneumo_keras.training.fit import Descent, History, compute_class_weights, fit
from pneumo_keras.training.moments import compute_moments

log = logging.getLogger("pneumo_keras")

WORKERS = 8  # threads that vary images ahead of an online fit, at most
IN_MEMORY = 2**30  # bytes of features of a split that are held and not read again in every epoch


def weigh_classes(split: Split) -> dict[int, float]:
    """Balanced class weights of the training images."""
    class_weights = compute_class_weights(split.images.labels)
    counts = count_classes(split.images.labels)
    log.info(
        "Training images: %d normal (class weight %.4f), %d pneumonia (class weight %.4f)",
        counts[0],
        class_weights[0],
        counts[1],
        class_weights[1],
    )
    return class_weights


def fit_heads(
    config: Config,
    extractor: Extractor,
    splits: Mapping[str, Split],
    class_weights: dict[int, float],
    checkpoint: Checkpoint,
    group: ProcessGroup | None = None,
) -> tuple[keras.Model, History]:
    """Fits the heads on cached features, or on images with fresh augmentation in every epoch.

    What a checkpoint says of an earlier attempt is not done again. With a group, this is its first process.
    """
    cached = config.training.mode == "cached"
    fitted_on = list_fitted_views(config)
    evaluated = list_evaluated_views(config.model.flip_average)
    extractor.check_room([(splits["train"].images, fitted_on), (splits["val"].images, [PLAIN, *evaluated])])
    views = [extractor.extract(splits["train"].images, splits["train"].title, view) for view in fitted_on]
    width: int = extractor.frozen.backbone.output_shape[-1]
    moments = compute_moments(views) if config.model.standardise else None
    if group:
        moments = share_moments(config, width, moments, group)
    head = build_heads(config, width, moments, list_member_seeds(config))
    if cached:
        validation = extractor.extract(splits["val"].images, splits["val"].title)
        inputs, evaluated_on = hold_small(views), hold_small([validation])
        fitted = fit_model(config, head, inputs, evaluated_on, splits, class_weights, head, checkpoint, SLICE)
        return head, fitted
    return head, fit_online(config, extractor.frozen, head, splits, class_weights, checkpoint, group)


def fit_online(
    config: Config,
    frozen: FrozenPart,
    head: keras.Model,
    splits: Mapping[str, Split],
    class_weights: dict[int, float],
    checkpoint: Checkpoint | None,
    group: ProcessGroup | None,
) -> History:
    """Fits the head in the whole model, on images that are varied anew in every epoch.

    All devices that JAX has share each step, and those of the group.

    Raises:
        SettingsError: A batch cannot be shared evenly.
    """
    model = build_online_model(frozen, head)
    # A view for each epoch: images take turns, so that each is varied anew every time.
    fresh = build_augmented_views(
        config.training.epochs, to_ranges(config.augmentation), seed=config.augmentation.seed
    )
    images = [SeenImages(splits["train"].images, view, frozen) for view in fresh]
    evaluated_on = [SeenImages(splits["val"].images, PLAIN, frozen)]
    # What is small for a head is large for a network.
    size = config.training.batch_size
    devices = find_devices(group)
    if devices is None:
        return fit_model(config, model, images, evaluated_on, splits, class_weights, head, checkpoint, size)
    share = devices.to_share(size)
    log.info("%d images a step over %d devices: %d each", size, devices.count, size // devices.count)
    with devices.scope():
        history = fit_model(
            config, model, images, evaluated_on, splits, class_weights, head, checkpoint, size, devices, share
        )
    if group:
        group.check_same("weights", {"weights after the fit": compute_fingerprint(head)})
        group.shutdown()
    return history


def share_moments(
    config: Config, d: int, moments: tuple[Moments, Moments] | None, group: ProcessGroup
) -> tuple[Moments, Moments] | None:
    """The moments of the first process, which alone extracts features, in all of them."""
    if not config.model.standardise:
        return None
    data = group.broadcast("moments", b"".join(part.tobytes() for part in moments or ()))
    mean, variance = np.frombuffer(data, np.float64).reshape(2, d)
    return mean, variance


def list_fitted_views(config: Config) -> list[View]:
    """How images are seen that are trained on: in online mode, for moments and OOD detector alone."""
    augmentation = config.augmentation
    augmented = build_augmented_views(augmentation.views, to_ranges(augmentation), seed=augmentation.seed)
    return [PLAIN, *augmented] if augmentation.plain else augmented


def list_evaluated_views(flip_average: bool, view: View = PLAIN) -> list[View]:
    """How images are seen that are scored; log odds are averaged over them."""
    return [view, view.mirror()] if flip_average else [view]


def list_perturbed_views(config: Config, *, flip_average: bool) -> list[View]:
    """How images are seen that heads are tried on."""
    return list_evaluated_views(
        flip_average, build_perturbed_view(to_ranges(config.perturbation), seed=config.perturbation.seed)
    )


def to_ranges(settings: AugmentationSettings | PerturbationSettings) -> AugmentationRanges:
    """How far images vary."""
    return AugmentationRanges(**settings.model_dump(exclude={"views", "plain", "seed"}))


def to_descent(config: Config) -> Descent:
    """The optimiser and the schedule that the settings ask for."""
    training = config.training
    return Descent(
        optimizer=training.optimizer,
        schedule=training.schedule,
        epochs=training.epochs,
        plateau_factor=training.plateau_factor,
        plateau_patience=training.plateau_patience,
    )


def build_heads(
    config: Config, d: int, moments: tuple[Moments, Moments] | None, seeds: Sequence[int]
) -> keras.Model:
    """The heads that the settings ask for.

    Args:
        config: The settings.
        d: Number of features.
        moments: Mean and variance to standardise by; None leaves features as they are.
        seeds: Of the members.
    """
    model = config.model
    return build_head(
        d,
        moments=moments,
        hidden_units=model.hidden_units,
        dropout=model.dropout,
        outputs=model.outputs,
        seeds=seeds,
    )


def list_member_seeds(config: Config) -> list[int]:
    """A seed for each head that is fitted; one head alone has the run's."""
    return [config.seed, *derive_seeds(config.seed, count=config.training.members - 1)]


def hold_small(views: Sequence[FeatureTable]) -> list[Table]:
    """The same features in memory where they are small."""
    small = sum(view.size for view in views) <= IN_MEMORY
    return [view[:] if small else view for view in views]


def fit_model(
    config: Config,
    model: keras.Model,
    inputs: Sequence[Table],
    validation: Sequence[Table],
    splits: Mapping[str, Split],
    class_weights: dict[int, float],
    head: keras.Model,
    checkpoint: Checkpoint | None,
    at_once: int,
    devices: DataParallel | None = None,
    share: slice | None = None,
) -> History:
    """Fits with the optimiser and the schedule that the settings ask for.

    Args:
        config: The settings.
        model: From inputs to log odds (n, members).
        inputs: The training images in each view.
        validation: The validation images in the one that is evaluated.
        splits: Whose labels these are.
        class_weights: Of the loss.
        head: The part of the model that learns.
        checkpoint: Where the fit is kept, and goes on from.
        at_once: Validation images that pass the model together.
        devices: That share each step, if more than one does it.
        share: This process's rows of each batch of them.

    Raises:
        TrainingError: The loss is no longer a number.
        RunError: The checkpoint cannot be used.
    """
    training = config.training
    history = fit(
        model,
        Batches(
            inputs,
            splits["train"].images.labels,
            batch_size=training.batch_size,
            seed=config.seed,
            share=share,
            # Cached features are there when asked for; images must be varied.
            workers=1 if training.mode == "cached" else min(WORKERS, os.cpu_count() or 1),
        ),
        Batches(validation, splits["val"].images.labels, batch_size=at_once, seed=None, share=share),
        class_weights=class_weights,
        learning_rates=[training.learning_rate] * training.members,
        weight_decays=[training.weight_decay] * training.members,
        descent=to_descent(config),
        head=head,
        checkpoint=checkpoint,
        devices=devices,
    )
    if training.schedule == "plateau":
        kept = ", ".join(map(str, history.kept_epochs))
        log.info("Kept epoch %s: for each head the one with its lowest validation loss", kept)
    return history
