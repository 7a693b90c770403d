"""How close synthetic images are to real ones: features -> statistics -> distance.

FID, KID, Inception Score, precision and recall depend on the extractor, and most of them are biased for small sets. So
every figure here comes from the same number n of images, and stands beside the same figure of n held-out real images.
n and the extractor are part of a score: compare it with its reference, never with a published one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

import scangan.compat  # noqa: F401  (before torch_fidelity)

# isort: split
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from scangan.config import Fidelity
from scangan.errors import DataError
from scangan.metrics.feature_sets import Features

METRICS = ("fid", "kid", "inception_score", "precision", "recall")
KID_SUBSETS, KID_SUBSET_SIZE = 10, 1000
NEIGHBOURS = 3


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


def compare_sets(
    train_real: Features, held_out_real: Features, synthetic: Features, settings: Fidelity
) -> pd.DataFrame:
    """Fidelity of synthetic images against the real training images, beside that of held-out real images.

    Every figure uses n = min(held-out, synthetic) images; `settings.resamples` random sets of n are drawn without
    replacement. Returns `metric, value, ci_low, ci_high, images, reference`, a row each for fid, kid, inception_score,
    precision, recall: mean and 2.5 / 97.5 percentiles over the sets of synthetic images (NaN if there are just n of
    them: no other set can be drawn), n, and the mean over sets of n held-out real images. The interval says what the
    choice of n images does, not what another training of the GAN would.
    Raises DataError for fewer than 2 images of a kind.
    """
    n = min(len(held_out_real), len(synthetic))
    if min(n, len(train_real)) < 2:
        counts = f"{len(train_real)} training, {len(held_out_real)} held-out, {len(synthetic)} synthetic"
        raise DataError(f"fidelity: images: found {counts}, allowed: at least 2 of each")
    train = feature_statistics(train_real.features)
    ours, reference = (
        pd.DataFrame([_score(train_real, train, images, draw) for draw, images in enumerate(sets)])
        for sets in (_random_sets(synthetic, n, settings), _random_sets(held_out_real, n, settings))
    )
    interval = ours.quantile([0.025, 0.975])
    if len(synthetic) == n:
        interval[:] = np.nan
    table = pd.DataFrame(
        {
            "value": ours.mean(),
            "ci_low": interval.loc[0.025],
            "ci_high": interval.loc[0.975],
            "images": n,
            "reference": reference.mean(),
        }
    )
    return table.rename_axis("metric").reset_index()


def _random_sets(pool: Features, n: int, settings: Fidelity) -> list[Features]:
    if len(pool) == n:
        return [pool]
    rng = np.random.default_rng(settings.seed)
    return [pool.select(rng.choice(len(pool), n, replace=False)) for _ in range(settings.resamples)]


def _score(real: Features, real_statistics: Statistics, images: Features, draw: int) -> dict[str, float]:
    """The five metrics of one set of images against real ones; `draw` seeds KID's subsets."""
    smaller = min(len(images), len(real))
    features, real_features = (torch.from_numpy(sets.features).double() for sets in (images, real))
    kid = kid_features_to_metric(
        features,
        real_features,
        kid_subsets=KID_SUBSETS,
        kid_subset_size=min(KID_SUBSET_SIZE, smaller),  # both sets must hold a subset
        rng_seed=draw,
        verbose=False,
    )
    # One split: ten, as usual with 50,000 images, would leave a handful of images in each.
    inception = isc_features_to_metric(torch.from_numpy(images.logits), splits=1, shuffle=False)
    # An image must have k others as neighbours; torch-fidelity wants the generated images first.
    prc = prc_features_to_metric(features, real_features, prc_neighborhood=min(NEIGHBOURS, smaller - 1), verbose=False)
    values = (
        frechet_distance(real_statistics, feature_statistics(images.features)),
        kid[KEY_METRIC_KID_MEAN],
        inception[KEY_METRIC_ISC_MEAN],
        prc[KEY_METRIC_PRECISION],
        prc[KEY_METRIC_RECALL],
    )
    return dict(zip(METRICS, values, strict=True))
