"""An OOD detector against the wrong picture: how unlike the training images an image looks to the frozen network."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64
from threadpoolctl import threadpool_limits

from pneumo_keras.arrays import Features
from pneumo_keras.errors import RunError
from pneumo_keras.features.store import FeatureTable
from pneumo_keras.model.head import bound_variance
from pneumo_keras.storage.bounded_reading import load_npz

NAMES = ("mean", "deviation", "components", "limit")
SAMPLE = 4096  # training images that are looked at, at most
# Chosen on validation images, turned, inverted and replaced by photographs: see docs/benchmarks.md.
COMPONENTS = 256
QUANTILE = 0.98  # of the validation images that count as like the training images
WIDE = 2048  # features, above which all of a covariance takes longer than its first components


@dataclass(frozen=True)
class OodDetector:
    """The space that training images fill, and how far outside it validation images lie.

    Attributes:
        mean: Of the features of training images (d).
        deviation: Their standard deviation (d).
        components: Directions in which training images differ most, orthonormal (k, d), of features to zero
            mean and unit variance.
        limit: Distance that all but a few validation images keep.
    """

    mean: Float32[np.ndarray, " d"]
    deviation: Float32[np.ndarray, " d"]
    components: Float32[np.ndarray, "k d"]
    limit: float

    def measure(self, features: Features) -> Float64[np.ndarray, " n"]:
        """How unlike the training images each image is: above 1, more than all but a few validation images."""
        return _measure(features, self.mean, self.deviation, self.components) / self.limit

    def save(self, path: Path) -> None:
        """Writes an npz file."""
        np.savez(path, mean=self.mean, deviation=self.deviation, components=self.components, limit=self.limit)


def fit_ood_detector(training: FeatureTable, validation: FeatureTable) -> OodDetector:
    """Fits the space to training images and the limit to validation images: the same on any number of cores.

    Args:
        training: Features of training images, of which a few thousand are looked at.
        validation: Features of validation images as they are.

    References:
        Jackson, J. E. & Mudholkar, G. S. (1979). Control procedures for residuals associated with principal
        component analysis. Technometrics 21, 341: the residual outside the first components.
    """
    rows = np.unique(np.linspace(0, len(training) - 1, SAMPLE).round().astype(int))
    features = training[rows]
    with threadpool_limits(1):  # matrix products on several cores add up in another order
        mean, deviation = features.mean(axis=0), np.sqrt(bound_variance(features.var(axis=0)))
        components = _find_components((features - mean) / deviation)
        distances = [_measure(part, mean, deviation, components) for part in validation.iterate()]
    limit = float(np.quantile(np.concatenate(distances), QUANTILE))
    return OodDetector(mean, deviation, components, limit or 1.0)


def load_ood_detector(path: Path, *, width: int) -> OodDetector:
    """Reads what `OOD detector.save` wrote.

    Args:
        path: Of the file.
        width: Features that the network of the run gives.

    Raises:
        RunError: It is missing, damaged or of another run.
    """
    try:
        mean, deviation, components, limit = load_npz(path, NAMES)
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing. Train again.") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}. Train again.") from error
    arrays = (mean, deviation, components)
    fits = mean.ndim == 1 and mean.shape == deviation.shape == components.shape[1:] and not limit.shape
    if not fits or any(array.dtype != np.float32 for array in arrays):
        received = ", ".join(f"{array.dtype} {array.shape}" for array in (*arrays, limit))
        raise RunError(f"{path} is damaged: its arrays do not fit. Received: {received}. Train again.")
    if not (
        all(np.isfinite(array).all() for array in (*arrays, limit)) and (deviation > 0).all() and limit > 0
    ):
        raise RunError(f"{path} is damaged: it must hold finite numbers, and positive ones. Train again.")
    if len(mean) != width:
        raise RunError(
            f"{path} is not of this run: it must measure the {width:,} features of its network. Received: "
            f"{len(mean):,} features. Train again."
        )
    return OodDetector(*arrays, float(limit))


def _find_components(standardised: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "k d"]:
    """Directions in which features differ most; some are left outside."""
    from sklearn.decomposition import PCA  # takes a third of a second to import

    n, d = standardised.shape
    kept = max(1, min(COMPONENTS, n // 2, d // 4))
    pca = PCA(kept, svd_solver="covariance_eigh" if d <= WIDE else "randomized", random_state=0)
    return np.asarray(pca.fit(standardised).components_, np.float32)


def _measure(
    features: Features,
    mean: Float32[np.ndarray, " d"],
    deviation: Float32[np.ndarray, " d"],
    components: Float32[np.ndarray, "k d"],
) -> Float64[np.ndarray, " n"]:
    """Length of what is left of standardised features outside the components."""
    standardised = (features - mean) / deviation
    inside = standardised @ components.T
    squares = np.square(standardised, dtype=np.float64).sum(axis=1)
    return np.sqrt(np.maximum(squares - np.square(inside, dtype=np.float64).sum(axis=1), 0))
