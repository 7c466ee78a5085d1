"""The training loop of the reference protocol in PyTorch, by hand: how many images a second it trains on.

python -m tests.bench.reference_loop

Torchvision's InceptionV3 with random weights, every parameter below the head frozen, images transformed by
Pillow one at a time, batches of 16. It needs torch and torchvision beside this project. Where the protocol
leaves a choice the cheaper one is taken: grey images until they are tensors, no auxiliary head.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from tests.bench.measuring import format_markdown, measure_in_turn, to_range

SIZE, BATCH, IMAGES = 299, 16, 4708
CLASS_WEIGHTS = (1.9390, 0.6737)  # normal, pneumonia
TRAINABLE = 1_050_114  # parameters of the head
JOB = 52_944  # images of ten epochs of training and validation, and of one pass over the test images
WARM_UP = 3  # batches
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class GreyImages:
    """Random images of 28 px in memory, transformed when they are read."""

    def __init__(self, n: int) -> None:
        from torchvision.transforms import Compose

        rng = np.random.default_rng(0)
        self._images = rng.integers(0, 256, (n, 28, 28), np.uint8)
        self._labels = rng.integers(0, 2, n)
        self._transform = Compose(build_transforms())

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._transform(Image.fromarray(self._images[index])), int(self._labels[index])


def build_transforms() -> list[Any]:
    """Resizing and augmentation on Pillow images, then three channels as the protocol normalises them."""
    from torchvision import transforms

    return [
        transforms.Resize((SIZE, SIZE)),
        transforms.RandomRotation(15),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(brightness=0.1, contrast=0.1),
        transforms.ToTensor(),
        transforms.Lambda(repeat_channels),
        transforms.Normalize(MEAN, DEVIATION),
    ]


def repeat_channels(image: Any) -> Any:
    return image.expand(3, -1, -1)


def build_network() -> Any:
    """The frozen network with the protocol's head, which undoes ImageNet's normalisation itself."""
    from torch import nn
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=True)
    network.requires_grad_(False)
    network.fc = nn.Sequential(nn.Linear(2048, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 2))
    trainable = sum(one.numel() for one in network.parameters() if one.requires_grad)
    assert trainable == TRAINABLE, f"{trainable:,} parameters are trained"
    return network


def train(network: Any, workers: int) -> Iterator[int]:
    """Trains batch by batch and yields how many images each had."""
    import torch

    images: Any = GreyImages(IMAGES)
    loader = torch.utils.data.DataLoader(images, BATCH, shuffle=True, num_workers=workers, drop_last=True)
    head = [one for one in network.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(head, lr=1e-4, weight_decay=1e-5)
    loss_of = torch.nn.CrossEntropyLoss(torch.tensor(CLASS_WEIGHTS))
    network.train()  # as the protocol does, BatchNorm of the frozen layers too
    for batch, labels in loader:
        optimizer.zero_grad()
        loss = loss_of(network(batch), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        yield len(batch)


def measure_loop(network: Any, workers: int, batches: int) -> float:
    """Images a second over some batches, once the first ones are done."""
    steps = train(network, workers)
    for _ in range(WARM_UP):
        next(steps)
    started = time.perf_counter()
    n = sum(next(steps) for _ in range(batches))
    return n / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batches", type=int, default=20, help="of a window")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="processes that transform")
    options = parser.parse_args()
    import torch

    torch.manual_seed(42)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = build_network()
    loops = {str(count): partial(measure_loop, network, count, options.batches) for count in options.workers}
    rates = measure_in_turn(loops, options.rounds)
    rows = [
        (workers, to_range(values, 2), to_range([JOB / value for value in values], 0))
        for workers, values in rates.items()
    ]
    header = ("worker processes", "images/s", f"seconds for {JOB:,} images")
    sys.stdout.write(format_markdown(header, rows) + "\n")


if __name__ == "__main__":
    main()
