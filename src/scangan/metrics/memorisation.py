"""Does a generator copy? Distances of synthetic images to the training images, against those of held-out real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Copies(NamedTuple):
    """The answer, for one generator.

    share: of the synthetic images that are suspected copies; ci_low, ci_high: its 95% Wilson interval, given the
    threshold. expected: share of fresh real images that would be suspected. threshold, median_synthetic,
    median_held_out: distances. images: `image_id, nearest_image_id, distance, suspected`, one row a synthetic image,
    the nearest first.
    """

    share: float
    ci_low: float
    ci_high: float
    expected: float
    threshold: float
    median_synthetic: float
    median_held_out: float
    images: pd.DataFrame

    def score(self) -> dict[str, Any]:
        """The row of a table of fidelity, without its variant; `reference` is the share of fresh real images."""
        return {
            "metric": "suspected_copies",
            "value": self.share,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            "images": len(self.images),
            "reference": self.expected,
        }


def suspected_copies(
    train: np.ndarray,
    held_out: np.ndarray,
    synthetic: np.ndarray,
    quantile: float,
    train_ids: Sequence[str],
    synthetic_ids: Sequence[str],
) -> Copies:
    """Synthetic images that lie suspiciously near to a training image.

    train, held_out, synthetic: features [N, D]; distances are Euclidean, to the nearest training image.
    The threshold is that quantile of the held-out distances which a fresh real image falls below with just this
    probability: the k-th smallest of m stands for k / (m + 1). Below 1 / (m + 1) none does; then the smallest is taken,
    and `expected` says so.
    """
    from scipy.stats import binomtest

    held_out_distance, _ = nearest(held_out, train)
    distance, index = nearest(synthetic, train)
    threshold = float(np.quantile(held_out_distance, quantile, method="weibull"))
    suspected = distance <= threshold
    share = binomtest(int(suspected.sum()), len(suspected))
    interval = share.proportion_ci(confidence_level=0.95, method="wilson")
    images = pd.DataFrame(
        {
            "image_id": np.asarray(synthetic_ids, dtype=str),
            "nearest_image_id": np.asarray(train_ids, dtype=str)[index],
            "distance": distance,
            "suspected": suspected,
        }
    )
    return Copies(
        share=float(suspected.mean()),
        ci_low=interval.low,
        ci_high=interval.high,
        expected=max(quantile, 1 / (len(held_out) + 1)),
        threshold=threshold,
        median_synthetic=float(np.median(distance)),
        median_held_out=float(np.median(held_out_distance)),
        images=images.sort_values("distance", kind="stable", ignore_index=True),
    )


def nearest(images: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance [N] to, and index [N] of, the nearest training image; works in chunks, whatever N."""
    from sklearn.metrics import pairwise_distances_argmin_min

    # In double precision: exact copies are told by a distance of almost zero.
    index, distance = pairwise_distances_argmin_min(images.astype(np.float64), train.astype(np.float64))
    return distance, index
