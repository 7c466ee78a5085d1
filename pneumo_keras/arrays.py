"""The arrays that stages exchange, by shape and type.

`n` counts images; `height`, `width` are pixels; `d` counts features. `Images` are grey, 0
(black) to 255 (white); an `ImageBatch` is the network's input, three channels in [-1, 1]. Labels are 0
(normal) or 1 (pneumonia). Scores are probabilities of pneumonia; members are heads that are fitted together.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped, UInt8

Images = UInt8[np.ndarray, "n height width"]
Labels = Int64[np.ndarray, " n"]
ImageBatch = Float32[np.ndarray, "n size size 3"]
Features = Float32[np.ndarray, "n d"]
LogOdds = Float32[np.ndarray, "n members"]
MemberWeights = Float32[np.ndarray, "n members"]
Scores = Float64[np.ndarray, " n"]

CLASS_NAMES = ("normal", "pneumonia")

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "training images", "val": "validation images", "test": "test images"}


def pad(rows: Shaped[np.ndarray, "n ..."], size: int) -> Shaped[np.ndarray, "size ..."]:
    """Repeats the last row up to a size, for what is compiled for that size."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
