"""From images to features: each view passes the frozen network once, then comes from the cache.

A feature job takes chunks of images through the network, here or wherever it is pickled to; an `Extractor`
requests jobs where features are missing.
"""

import contextlib
import importlib.metadata
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import pneumo_keras
from pneumo_keras import BACKEND
from pneumo_keras.arrays import Features, ImageBatch, pad
from pneumo_keras.data.images import ImageSet
from pneumo_keras.engines.runner import Runner
from pneumo_keras.errors import ModelError
from pneumo_keras.features.shared import SharedStore
from pneumo_keras.features.store import CHUNK, Entry, FeatureTable, Store
from pneumo_keras.features.views import PLAIN, View
from pneumo_keras.model.inference import PooledLayer, scale_images
from pneumo_keras.runtime.code_fingerprint import fingerprint_code
from pneumo_keras.runtime.prefetch import Prefetch
from pneumo_keras.runtime.progress import show_progress
from pneumo_keras.storage.cache import mark_used
from pneumo_keras.storage.printable import to_amount

log = logging.getLogger("pneumo_keras")

# What computes for a backend or an engine, of which another version may compute differently.
PACKAGES = {
    "jax": ("jax", "jaxlib"),
    "tensorflow": ("tensorflow",),
    "torch": ("torch",),
    "openvino": ("openvino", "onnx"),
}

# The modules that compute features, of which another version may compute others. A test compares the list
# with what these modules import.
COMPUTING = (
    *("arrays", "runtime.backend", "runtime.invocation", "runtime.private_apis", "runtime.prefetch"),
    "data.image_preparation",
    *("engines.choice", "engines.graph", "engines.jax", "engines.onnx", "engines.openvino"),
    *("engines.runner", "engines.table"),
    *("features.augmentation", "features.extract", "features.views"),
    *("model.inference", "model.layers"),
)

ViewedImages = tuple[ImageSet, Sequence[View]]
"""Images, and the views in which they are seen."""


@dataclass(frozen=True)
class FrozenNetwork:
    """The frozen network on an engine.

    Attributes:
        image_size: Edge of its images in pixels.
        layers: Its feature layers in their order.
        build_runner: Starts it up to some of them: batches of CHUNK images -> features.
        build_map_runner: Starts it up to the maps of all: batches of one image -> values, as `Explainer` has.
        about: What computes: engine, precision, backend, device.
    """

    image_size: int
    layers: Mapping[str, PooledLayer]
    build_runner: Callable[[Sequence[str]], Runner]
    build_map_runner: Callable[[], Runner]
    about: Mapping[str, Any]

    @property
    def feature_count(self) -> int:
        """The number of features of an image."""
        return sum(layer.d for layer in self.layers.values())


@dataclass
class FeatureJob:
    """The computation of the features of images in one view, at some feature layers.

    `waited` counts the seconds for which the network has waited for images.
    """

    network: FrozenNetwork
    feature_layers: Sequence[str]
    images: ImageSet
    view: View
    waited: float = field(default=0.0, init=False)

    def run(self, chunks: Iterable[int]) -> Generator[Features, None, None]:
        """The features of chunks of images, each of CHUNK rows: at the end the last image is repeated."""
        batches = Prefetch(self._prepare(chunks))
        try:
            with threadpool_limits(1):  # or products would wait for the cores that the network uses
                yield from self._runner(batches)
        finally:
            self.waited += batches.waited

    @cached_property
    def _runner(self) -> Runner:
        return self.network.build_runner(self.feature_layers)

    def _prepare(self, chunks: Iterable[int]) -> Iterator[ImageBatch]:
        for chunk in chunks:
            first = CHUNK * chunk
            rows = np.arange(first, first + CHUNK).clip(max=len(self.images) - 1)
            images = pad(self.images.read(slice(first, first + CHUNK)), CHUNK)
            yield scale_images(self.view.enlarge(images, rows, self.network.image_size))


@dataclass(frozen=True)
class Extractor:
    """Everything between images and features.

    Attributes:
        network: Images -> features.
        store: The store of this machine.
        shared: The store of several machines, if there is one.
        run_elsewhere: Runs a job over chunks on several machines; None where it runs on this one.
    """

    network: FrozenNetwork
    store: Store
    shared: SharedStore | None = None
    run_elsewhere: Callable[[FeatureJob, Sequence[int]], Generator[Features, None, None]] | None = None
    _opened: dict[tuple[str, ...], FeatureTable] = field(default_factory=dict, init=False, repr=False)

    def extract(self, images: ImageSet, name: str, view: View = PLAIN) -> FeatureTable:
        """Features of the images in one view, from the cache where they are there; `name` is for messages."""
        entries = self._list_entries(images, view)
        address = tuple(entry.name for entry in entries.values())
        if address not in self._opened:
            self._opened[address] = self._open(entries, images, name, view)
        return self._opened[address]

    def list_entries(self, wanted: Sequence[ViewedImages]) -> list[list[Entry]]:
        """For each view of each set of images the entries of its features, a feature layer each."""
        return [list(self._list_entries(images, view).values()) for images, views in wanted for view in views]

    def check_space(self, wanted: Sequence[ViewedImages], others: Iterable[Entry] = ()) -> None:
        """Checks before any work that all these features fit, together with `others`.

        It also logs how many images will pass the network.

        Raises:
            SettingsError: They take more than the limit of the store.
            DataError: They take more than the disk has.
        """
        views = self.list_entries(wanted)
        self.store.check_space([*others, *(entry for entries in views for entry in entries)])
        missing = {entries[0].name: max(map(self._count_missing, entries)) for entries in views}
        if images := sum(missing.values()):
            log.info("To pass the network: %s, each view counted", to_amount(images, "image"))

    def _count_missing(self, entry: Entry) -> int:
        """Images whose features were never written; damage is detected on reading."""
        missing = entry.shape[0] - entry.array.count_done()
        return 0 if missing and self.shared and self.shared.has(entry) else missing

    def _list_entries(self, images: ImageSet, view: View) -> dict[str, Entry]:
        seen = {**view.about, "images": images.fingerprint()}
        return {
            layer: Entry(self.store.folder, {**about, **seen}, (len(images), d))
            for layer, (d, about) in self._layers.items()
        }

    @cached_property
    def _layers(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """By feature layer the number of its features, and what they depend on besides images and view."""
        network = self.network
        shared = {
            **network.about,
            "image_size": network.image_size,
            "versions": list_versions(network.about["engine"]),
        }
        return {
            name: (layer.d, {**shared, "feature_layer": name, "network": layer.fingerprint})
            for name, layer in network.layers.items()
        }

    def _open(self, entries: dict[str, Entry], images: ImageSet, name: str, view: View) -> FeatureTable:
        title = f"{name}, {view.name}" if view.name else name
        incomplete = {layer: entry for layer, entry in entries.items() if entry.array.find_missing()}
        computed: set[str] = set()
        if incomplete:
            with self.store.writing(incomplete.values(), name):
                computed = self._fill(incomplete, entries, images, title, view)
        else:
            log.info("Features of %s: from the cache", title)
        for layer, entry in entries.items():
            mark_used(entry.folder)
            if self.shared and (layer in computed or not self.shared.has(entry)):
                self.shared.put(entry)
        return FeatureTable({layer: entry.array.file for layer, entry in entries.items()}, len(images))

    def _fill(
        self,
        incomplete: dict[str, Entry],
        entries: dict[str, Entry],
        images: ImageSet,
        title: str,
        view: View,
    ) -> set[str]:
        """Computes the chunks that are missing in some of the entries; other jobs may have done so meanwhile.

        Returns:
            The feature layers of which some were computed.
        """
        missing: dict[str, set[int]] = {}
        for layer, entry in incomplete.items():
            missing[layer] = set(entry.array.find_missing())
            if self.shared and missing[layer]:
                self.shared.fetch(entry, title)
                missing[layer] = set(entry.array.find_missing())
            if damaged := len(missing[layer].intersection(entry.array.list_written())):
                log.warning(
                    "Features of %s: %d of %d chunks of %s are damaged and are recomputed",
                    title,
                    damaged,
                    entry.array.count,
                    layer,
                )
        if not any(missing.values()):
            log.info("Features of %s: computed by another job", title)
            return set()
        # A part of an entry is computed together with the rest, or its last digits might be others.
        begun = any(len(missing[layer]) < entry.array.count for layer, entry in incomplete.items())
        computed = entries if begun else incomplete
        job = FeatureJob(self.network, list(computed), images, view)
        started = time.monotonic()
        self._compute(job, computed, missing, title)
        seconds = time.monotonic() - started
        waited = f", of which the network waited for images {100 * job.waited / seconds:.1f} %"
        log.info("Features of %s: computed in %.1f s%s", title, seconds, "" if self.run_elsewhere else waited)
        return {layer for layer, chunks in missing.items() if chunks}

    def _compute(
        self, job: FeatureJob, entries: dict[str, Entry], missing: dict[str, set[int]], title: str
    ) -> None:
        """Passes chunks of images through the network and writes each where it is missing."""
        chunks = sorted(set[int]().union(*missing.values()))
        columns = np.cumsum([entry.shape[1] for entry in entries.values()])[:-1]
        n = len(job.images)
        counts = {chunk: min(CHUNK, n - CHUNK * chunk) for chunk in chunks}
        done = n - sum(counts.values())
        with (
            contextlib.closing((self.run_elsewhere or FeatureJob.run)(job, chunks)) as computed,
            show_progress(f"Features of {title}", n, "images", done=done) as progress,
        ):
            for chunk, features in zip(chunks, computed, strict=True):
                if not np.isfinite(features).all():
                    raise ModelError(
                        f"Features of {title} must be finite numbers. Received: NaN or infinity from the "
                        "frozen network. Check the file of model.weights, or set compute.precision to "
                        "float32."
                    )
                parts = np.split(features[: counts[chunk]], columns, axis=1)
                for (layer, entry), part in zip(entries.items(), parts, strict=True):
                    if chunk in missing.get(layer, ()):
                        with self.store.explain_unwritable():
                            entry.array.write(chunk, part)
                progress.advance(counts[chunk])


def list_versions(engine: str) -> dict[str, str]:
    """Versions of this package, its code, Keras and of what computes on the backend and for an engine."""
    computing = {package for name in (BACKEND, engine) for package in PACKAGES.get(name, ())}
    versions = {"pneumo-keras": pneumo_keras.__version__, "pneumo-keras code": fingerprint_code(COMPUTING)}
    for package in ("keras", *sorted(computing)):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
