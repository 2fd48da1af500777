"""Fréchet distance between two sets of features, each taken for a Gaussian.

The distance of a sample is biased upwards, by an amount that grows with the feature
dimension over the number of samples. A figure means something only beside the number of
samples and the distance that as many real ones have.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from vqdit.shapes import AnyArray, Float

Features = Float[AnyArray, "n d"]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Mean (d,), unbiased covariance (d, d), both float64, and how many they are of."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int

    @classmethod
    def of(cls, sums: Mapping[str, Any]) -> "FeatureStatistics":
        """Of `feature_sums`, those of several sets added up. Equal to `statistics`
        where means are not many orders above deviations: a difference of squares."""
        count, mean = int(sums["count"]), sums["sum"] / max(int(sums["count"]), 1)
        _check(count, sums["outer"])
        scatter = sums["outer"] - count * np.outer(mean, mean)
        return cls(mean, scatter / (count - 1), count)


def statistics(features: Features) -> FeatureStatistics:
    """Statistics of n features. Raises ValueError on fewer than two, or not finite."""
    features = np.asarray(features, np.float64)
    _check(len(features), features)
    mean = features.mean(0)
    centred = features - mean
    covariance = centred.T @ centred / (len(features) - 1)
    return FeatureStatistics(mean, covariance, len(features))


def feature_sums(features: Features) -> dict[str, np.ndarray]:
    """Their count, sum (d,) and sum of outer products (d, d), in float64."""
    x = np.asarray(features, np.float64)
    return {"count": np.asarray(len(x)), "sum": x.sum(0), "outer": x.T @ x}


def _check(count, values):
    if count < 2:
        raise ValueError(f"a covariance needs at least 2 features, not {count}")
    if not np.isfinite(values).all():
        raise ValueError("features are not all finite; their distance says nothing")


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) (arXiv:1706.08500, eq. 6).

    The square of the Wasserstein-2 distance of the Gaussians, as FID is. Raises
    ValueError where their dimensions differ.

    A B is not symmetric, and an iterative square root of it fails without a word where
    a covariance is singular, as it is for dead units or for fewer samples than
    features. The trace is instead the sum of the singular values of A^(1/2) B^(1/2),
    each root from an eigen-decomposition of a symmetric matrix, all in float64.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"features have {len(a.mean)} and {len(b.mean)} dimensions: they are of "
            f"different layers"
        )
    product = _root(a.covariance) @ _root(b.covariance)
    overlap = np.linalg.svd(product, compute_uv=False).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap
    shift = np.square(a.mean - b.mean).sum()
    return float(max(shift + spread, 0.0))  # rounding may leave equal sets below 0


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root; eigenvalues that rounding made negative are 0."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
