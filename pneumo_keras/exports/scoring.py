"""What every form makes of images when its own runtime reads it."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

ImageSet = Float32[np.ndarray, "n height width 1"]
"""Grey levels, 0 (black) to 255 (white), of any size."""

Probabilities = Float32[np.ndarray, "n 1"]
"""Of pneumonia."""

Scoring = Callable[[ImageSet], Probabilities]

IMAGES, PROBABILITY = "images", "probability"
IMAGE_SHAPE = ("n", "height", "width", 1)
PROBABILITY_SHAPE = ("n", 1)
