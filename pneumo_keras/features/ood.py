"""Out-of-distribution detector: how far an image's features are from those of the training images."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64
from threadpoolctl import threadpool_limits

from pneumo_keras.arrays import Features
from pneumo_keras.features.store import FeatureTable, iterate_rows
from pneumo_keras.model.inference import bound_variance

SAMPLE = 4096  # training images that it is fitted to, at most
# Chosen on validation images, rotated, inverted and replaced by photographs: see docs/benchmarks.md.
COMPONENTS = 256
QUANTILE = 0.98  # of the validation images that count as like the training images
WIDE = 2048  # features, above which all of a covariance takes longer than its first components


@dataclass(frozen=True)
class OodDetector:
    """The space that training images fill, and how far outside it validation images are.

    Attributes:
        mean: Mean of the features of training images.
        deviation: Their standard deviation.
        components: Directions in which standardised features of training images differ most, orthonormal.
        limit: Distance that only a few validation images exceed.
    """

    mean: Float32[np.ndarray, " d"]
    deviation: Float32[np.ndarray, " d"]
    components: Float32[np.ndarray, "k d"]
    limit: float

    def measure(self, features: Features) -> Float64[np.ndarray, " n"]:
        """Distance in units of the limit, above 1 out of distribution.

        It is the length of what is left of standardised features outside the components.
        """
        standardised = (features - self.mean) / self.deviation
        inside = standardised @ self.components.T
        squares = np.square(standardised, dtype=np.float64).sum(axis=1)
        outside = np.sqrt(np.maximum(squares - np.square(inside, dtype=np.float64).sum(axis=1), 0))
        return outside / self.limit

    def save(self, path: Path) -> None:
        """Writes an npz file."""
        np.savez(path, **vars(self))


def fit_ood_detector(training: FeatureTable, validation: FeatureTable) -> OodDetector:
    """Fits the space to training images and the limit to validation images: the same on any number of cores.

    References:
        Jackson, J. E. & Mudholkar, G. S. (1979). Control procedures for residuals associated with principal
        component analysis. Technometrics 21, 341: the residual outside the first components.
    """
    rows = np.unique(np.linspace(0, len(training) - 1, SAMPLE).round().astype(int))
    features = training[rows]
    with threadpool_limits(1):  # matrix products on several cores add up in another order
        mean, deviation = features.mean(axis=0), np.sqrt(bound_variance(features.var(axis=0)))
        components = _find_components((features - mean) / deviation)
        detector = OodDetector(mean, deviation, components, limit=1.0)
        distances = np.concatenate([detector.measure(part) for part in iterate_rows(validation)])
    return replace(detector, limit=float(np.quantile(distances, QUANTILE)) or 1.0)


def load_ood_detector(path: Path) -> OodDetector:
    """Reads what `OodDetector.save` wrote."""
    with np.load(path) as file:
        mean, deviation, components = (file[name] for name in ("mean", "deviation", "components"))
        return OodDetector(mean, deviation, components, float(file["limit"]))


def _find_components(standardised: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "k d"]:
    """Directions in which features differ most; some are left outside."""
    from sklearn.decomposition import PCA  # takes a third of a second to import

    n, d = standardised.shape
    kept = max(1, min(COMPONENTS, n // 2, d // 4))
    pca = PCA(kept, svd_solver="covariance_eigh" if d <= WIDE else "randomized", random_state=0)
    return np.asarray(pca.fit(standardised).components_, np.float32)
