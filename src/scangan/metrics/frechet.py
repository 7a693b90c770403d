"""The Frechet distance of two sets of features, as of two Gaussians; without the libraries of the other scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Statistics(NamedTuple):
    """Mean [D] of features, and a factor A [k, D] of their covariance, which is A^T A; k <= D."""

    mean: np.ndarray
    factor: np.ndarray


def feature_statistics(features: np.ndarray) -> Statistics:
    """Statistics of features [N, D], N >= 2."""
    features = features.astype(np.float64)
    mean = features.mean(axis=0)
    factor = (features - mean) / np.sqrt(len(features) - 1)
    if len(factor) > factor.shape[1]:
        factor = np.linalg.qr(factor, mode="r")
    return Statistics(mean, factor)


def frechet_distance(first: Statistics, second: Statistics) -> float:
    """Frechet distance of two Gaussians (FID, Heusel et al. 2017).

    The trace of (C1 C2)^(1/2), with C1 = A^T A and C2 = B^T B, is the sum of the singular values of A B^T: exact, and
    fast where there are fewer images than features.
    """
    shared = np.linalg.svd(first.factor @ second.factor.T, compute_uv=False).sum()
    spread = (first.factor**2).sum() + (second.factor**2).sum() - 2 * shared
    return float(((first.mean - second.mean) ** 2).sum() + spread)
