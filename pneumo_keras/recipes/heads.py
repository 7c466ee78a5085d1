"""Heads fitted on the frozen network's features."""

import logging
from collections.abc import Sequence

import keras
import numpy as np

from pneumo_keras.arrays import Labels
from pneumo_keras.config import Config
from pneumo_keras.data.films import LabelledFilms, count_classes
from pneumo_keras.errors import TrainingError
from pneumo_keras.features.augmentation import build_augmentation
from pneumo_keras.features.extract import Extractor
from pneumo_keras.features.store import SLICE, FeatureTable
from pneumo_keras.features.views import PLAIN, View, build_augmented_views
from pneumo_keras.model.classifier import build_online_model
from pneumo_keras.model.head import build_head, build_standardisation
from pneumo_keras.recipes.films import name_split
from pneumo_keras.recipes.judging import list_judged_views
from pneumo_keras.seeds import derive_seeds
from pneumo_keras.training.batches import FilmTable, ShuffledBatches, Table
from pneumo_keras.training.fit import History, compute_class_weights, fit
from pneumo_keras.training.moments import compute_moments

log = logging.getLogger("pneumo_keras")

IN_MEMORY = 128 * 2**20  # bytes of training features that are held and not read again in every epoch


def fit_cached(
    config: Config, extractor: Extractor, films: dict[str, LabelledFilms], class_weights: dict[int, float]
) -> tuple[keras.Model, History]:
    """Fits the head on features that passed the frozen network once."""
    judged = [PLAIN, *list_judged_views(config)]
    extractor.check_room([(films["train"], list_fitted_views(config)), (films["val"], judged)])
    views = extract_views(config, extractor, films["train"], "train")
    validation = extractor.extract(films["val"], name_split(config, "val"))[:]
    head = build_heads(config, extractor.backbone, views, list_member_seeds(config))
    small = sum(view.size for view in views) <= IN_MEMORY
    batches = build_batches(config, [view[:] for view in views] if small else views, films["train"])
    history = fit_model(config, head, batches, (validation, films["val"].labels), class_weights)
    return head, history


def fit_online(
    config: Config, extractor: Extractor, films: dict[str, LabelledFilms], class_weights: dict[int, float]
) -> tuple[keras.Model, History]:
    """Fits the whole model, with fresh augmentation in every epoch."""
    views = (
        [extractor.extract(films["train"], name_split(config, "train"))] if config.model.standardise else []
    )
    head = build_heads(config, extractor.backbone, views, list_member_seeds(config))
    model = build_online_model(
        extractor.resize,
        build_augmentation_for(config),
        extractor.scale,
        extractor.backbone,
        head,
    )
    batches = build_batches(config, [FilmTable(films["train"])], films["train"])
    validation = (films["val"].read(slice(None))[..., None], films["val"].labels)
    return head, fit_model(config, model, batches, validation, class_weights)


def weigh_classes(films: LabelledFilms) -> dict[int, float]:
    """Balanced class weights of the training films."""
    class_weights = compute_class_weights(films.labels)
    counts = count_classes(films.labels)
    log.info(
        "Training films: %d normal (class weight %.4f), %d pneumonia (class weight %.4f)",
        counts[0],
        class_weights[0],
        counts[1],
        class_weights[1],
    )
    return class_weights


def extract_views(
    config: Config, extractor: Extractor, films: LabelledFilms, split: str
) -> list[FeatureTable]:
    """Features of films to train on, plain and augmented, as the settings ask."""
    return [extractor.extract(films, name_split(config, split), view) for view in list_fitted_views(config)]


def list_fitted_views(config: Config) -> list[View]:
    """How films are seen that are trained on in cached mode."""
    augmentation = config.augmentation
    settings = augmentation.model_dump(exclude={"views", "plain"})
    augmented = build_augmented_views(augmentation.views, **settings, seed=config.seed)
    return [PLAIN, *augmented] if augmentation.plain else augmented


def build_augmentation_for(config: Config) -> keras.Sequential:
    """The random variation of films that the settings ask for."""
    augmentation = config.augmentation
    return build_augmentation(
        rotation_degrees=augmentation.rotation_degrees,
        horizontal_flip=augmentation.horizontal_flip,
        brightness=augmentation.brightness,
        contrast=augmentation.contrast,
        seed=config.seed,
    )


def build_heads(
    config: Config, backbone: keras.Model, views: Sequence[FeatureTable], seeds: Sequence[int]
) -> keras.Model:
    """The heads that the settings ask for, standardised by the features of the views."""
    model = config.model
    return build_head(
        backbone.output_shape[-1],
        standardisation=build_standardisation(*compute_moments(views)) if model.standardise else None,
        hidden_units=model.hidden_units,
        dropout=model.dropout,
        outputs=model.outputs,
        seeds=seeds,
    )


def list_member_seeds(config: Config) -> list[int]:
    """A seed for each head that is fitted; one head alone has the run's."""
    return [config.seed, *derive_seeds(config.seed, count=config.training.members - 1)]


def build_batches(config: Config, views: Sequence[Table], films: LabelledFilms) -> ShuffledBatches:
    """Training batches in the size and order that the settings ask for."""
    return ShuffledBatches(views, films.labels, batch_size=config.training.batch_size, seed=config.seed)


def fit_model(
    config: Config,
    model: keras.Model,
    batches: ShuffledBatches,
    validation: tuple[np.ndarray, Labels],
    class_weights: dict[int, float],
) -> History:
    """Fits with the optimiser and the schedule that the settings ask for.

    Raises:
        TrainingError: The loss is no longer a number.
    """
    training = config.training
    history = fit(
        model,
        batches,
        validation,
        class_weights=class_weights,
        epochs=training.epochs,
        learning_rates=[training.learning_rate] * training.members,
        weight_decays=[training.weight_decay] * training.members,
        plateau_factor=training.plateau_factor,
        plateau_patience=training.plateau_patience,
        # What is small for a head is large for a network.
        validation_batch=SLICE if training.mode == "cached" else training.batch_size,
    )
    if not history.finite.all():
        raise TrainingError(
            "The loss is no longer a number. Lower training.learning_rate, or check model.weights."
        )
    best = ", ".join(map(str, history.best_epochs))
    log.info("Kept epoch %s: for each head the one with its lowest validation loss", best)
    return history
