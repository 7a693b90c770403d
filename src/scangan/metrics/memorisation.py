"""Does a generator copy? Distances of synthetic images to the training images, against those of held-out real ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

log = logging.getLogger(__name__)

SAME = 1e-3  # of the greatest distance: so near are features of the same image, which differ by rounding


class Copies(NamedTuple):
    """The answer, for one generator.

    share: of the synthetic images that are suspected copies; ci_low, ci_high: its 95% Wilson interval, given the
    threshold; NaN where no held-out image is left. expected: share of fresh real images that would be suspected.
    threshold, median_synthetic, median_held_out: distances. images: `image_id, nearest_image_id, distance, suspected`,
    one row a synthetic image, the nearest first.
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
    and `expected` and the log say so. Held-out images that are training images as well say nothing of how near a fresh
    one lies: they are left aside, and logged.
    """
    held_out_distance, _ = nearest(held_out, train)
    distance, index = nearest(synthetic, train)
    is_copy = held_out_distance <= SAME * held_out_distance.max(initial=0)
    if is_copy.any():
        log.warning("copies: %d of %d held-out images are training images, left aside", is_copy.sum(), len(is_copy))
    fresh = held_out_distance[~is_copy]
    if (allowed := fewest_held_out(quantile)) > len(fresh):
        log.warning("copies: found %d held-out images, allowed: %d for quantile %g", len(fresh), allowed, quantile)
    threshold = float(np.quantile(fresh, quantile, method="weibull")) if len(fresh) else np.nan
    suspected = distance <= threshold
    images = pd.DataFrame(
        {
            "image_id": np.asarray(synthetic_ids, dtype=str),
            "nearest_image_id": np.asarray(train_ids, dtype=str)[index],
            "distance": distance,
            "suspected": suspected,
        }
    )
    share, low, high = _share(suspected) if len(fresh) else (np.nan,) * 3
    return Copies(
        share=share,
        ci_low=low,
        ci_high=high,
        expected=max(quantile, 1 / (len(fresh) + 1)),
        threshold=threshold,
        median_synthetic=float(np.median(distance)),
        median_held_out=float(np.median(fresh)) if len(fresh) else np.nan,
        images=images.sort_values("distance", kind="stable", ignore_index=True),
    )


def fewest_held_out(quantile: float) -> int:
    """How many held-out images it takes for a threshold at a quantile of them: m with 1 / (m + 1) at most that."""
    return math.ceil(1 / quantile - 1e-9) - 1


def _share(suspected: np.ndarray) -> tuple[float, float, float]:
    """The share that is suspected, and its 95% Wilson interval."""
    from scipy.stats import binomtest

    share = binomtest(int(suspected.sum()), len(suspected))
    interval = share.proportion_ci(confidence_level=0.95, method="wilson")
    return float(share.statistic), interval.low, interval.high


def nearest(images: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance [N] to, and index [N] of, the nearest training image; works in chunks, whatever N."""
    from sklearn.metrics import pairwise_distances_argmin_min

    if not len(images):
        return np.zeros(0), np.zeros(0, int)
    # In double precision: exact copies are told by a distance of almost zero.
    index, distance = pairwise_distances_argmin_min(images.astype(np.float64), train.astype(np.float64))
    return distance, index
