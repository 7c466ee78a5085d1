"""Features on Ray, by hand: `python -m tests.cluster.features_scale --images 20000`.

It computes the features of the same images five times with an empty cache each: here, on Ray, on Ray with an
actor killed by SIGKILL when a third of the images are done, and both again on two nodes on loopback. The rate
is that of the last three quarters of the images, when all is compiled, and the bytes must be the same. Exit
status 1 where bytes or counts differ.
"""

import argparse
import contextlib
import hashlib
import logging
import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil

from pneumo_keras.config import load_config
from pneumo_keras.runtime.backend import start_backend
from tests.cluster.scale import WAYS, kill_actor, start_nodes


class Watch:
    """Counts chunks as they come, remembers when, and kills an actor in the middle if it is told to."""

    def __init__(self, images, kill):
        self._images, self._kill = images, kill
        self.chunks, self.killed, self.started, self.first, self.last = [], None, time.monotonic(), 0.0, 0.0
        self.done = self._before = 0

    def follow(self, run):
        def spread(job, chunks):
            with contextlib.closing(run(job, chunks)) as results:
                for chunk, features in zip(chunks, results, strict=True):
                    self._note(chunk)
                    yield features

        return spread

    def _note(self, chunk):
        self.chunks.append(chunk)
        self.last, self.done = time.monotonic(), 32 * len(self.chunks)
        if not self.first and self.done >= self._images / 4:
            self.first, self._before = self.last, self.done
        if self._kill and not self.killed and self.done > self._images / 3:
            self.killed = kill_actor()

    @property
    def rate(self):
        return (self.done - self._before) / (self.last - self.first)


def sample_memory(peaks, ended):
    own = psutil.Process()
    while not ended.wait(0.5):
        peaks.append(own.memory_info().rss)


def compute(extractor, images, watch, folder):
    from pneumo_keras.features.extract import FeatureJob
    from pneumo_keras.features.store import Store, iterate_rows

    own = replace(
        extractor,
        store=Store(folder, 10**12),
        run_elsewhere=watch.follow(extractor.run_elsewhere or FeatureJob.run),
    )
    peaks, ended = [], threading.Event()
    sampler = threading.Thread(target=sample_memory, args=(peaks, ended))
    sampler.start()
    table = own.extract(images, "phantoms")
    ended.set()
    sampler.join()
    digest = hashlib.sha256()
    for features in iterate_rows(table):
        digest.update(features.tobytes())
    return digest.hexdigest(), max(peaks, default=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--image-size", type=int, default=75)
    parser.add_argument("--feature_layers", nargs="+", default=["mixed4"])
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PNEUMO_KERAS_CACHE"] = cache
        return compare(options, Path(cache))


def compare(options, cache):
    start_backend(cache)
    from pneumo_keras.data.phantom import PhantomImages
    from pneumo_keras.recipes.extraction import build_extractor, choose_computing
    from pneumo_keras.recipes.network import build_frozen, build_network

    settings = [
        f"model.image_size={options.image_size}",
        f"model.feature_layers={options.feature_layers}",
        "model.weights=none",
        f"compute.engine={options.engine}",
    ]
    config = load_config("demo", settings)
    images = PhantomImages(options.images, 28, seed=1)
    network = build_network(build_frozen(config).backbone, choose_computing(config.compute))
    digests, failed = [], False
    for name, cluster, kill, nodes in WAYS:
        own = load_config("demo", [*settings, f"compute.cluster={cluster}"])
        with start_nodes(nodes) as environment:
            os.environ.update(environment)
            watch = Watch(options.images, kill)
            digest, peak = compute(build_extractor(own, network), images, watch, cache / name)
        digests.append(digest)
        right = watch.chunks == list(range(-(-options.images // 32))) and digest == digests[0]
        failed |= not right or (kill and not watch.killed)
        line = (
            f"{name}: {watch.last - watch.started:.1f} s in all, {watch.rate:.1f} images/s once "
            "begun, driver "
            f"at most {peak / 1e6:,.0f} MB, killed {watch.killed or 'nobody'}, each image once with the same "
            f"bytes: {right}"
        )
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
