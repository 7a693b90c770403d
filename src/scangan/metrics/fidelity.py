"""How close synthetic images are to real ones: features -> statistics -> distance.

The headline is the energy distance to held-out real images: unbiased at any number of images, and it sees a lack of
variety where FID and KID do not (docs/fidelity.md has the numbers). FID, Inception Score, precision, recall, density
and coverage are biased for small sets. So every one of these comes from the same number n of images, and stands beside
the same figure of n held-out real images; n and the extractor are part of such a score: compare it with its reference,
never with a published one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics.pairwise import euclidean_distances

import scangan.compat  # noqa: F401  (before torch_fidelity)

# isort: split
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from scangan.config import Fidelity
from scangan.errors import DataError
from scangan.metrics.feature_sets import Features
from scangan.metrics.frechet import Statistics, feature_statistics, frechet_distance

UNBIASED = ("energy_distance", "kid")
SCORES = ("fid", "inception_score", "precision", "recall", "density", "coverage")
METRICS = (*UNBIASED, "fid_infinity", *SCORES)
SHARES = ["precision", "recall", "coverage"]
BOOTSTRAP = 400
LARGEST = 2000  # images of a kind in the unbiased distances: all pairs of them are held in memory
NEIGHBOURS = 3  # Kynkaanniemi et al. 2019
COVERED_BY = 5  # neighbours of density and coverage, Naeem et al. 2020
COLUMNS = ["value", "ci_low", "ci_high", "images", "reference", "reference_low", "reference_high"]


class Interval(NamedTuple):
    """A score and its 95% interval; NaN where there are too few images for one."""

    value: float
    low: float
    high: float


def density_and_coverage(real: np.ndarray, images: np.ndarray, neighbours: int = COVERED_BY) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020) of images [M, D] against real ones [N, D], N >= 2.

    Every real image has a ball that reaches to its k-th nearest real neighbour. Density: in how many of these balls an
    image lies on average, divided by k. Coverage: share of the balls that hold an image.
    """
    k = min(neighbours, len(real) - 1)
    radius = np.partition(euclidean_distances(real, real), k, axis=1)[:, k]  # each is its own nearest
    inside = euclidean_distances(images, real) < radius
    return float(inside.sum() / (k * len(images))), float(inside.any(axis=0).mean())


def unbiased_distances(
    first: np.ndarray, second: np.ndarray, first_units: np.ndarray, second_units: np.ndarray, rng: np.random.Generator
) -> dict[str, Interval]:
    """Energy distance and KID of two sets of features [N, D], [M, D], each unbiased, with bootstrap intervals.

    Energy distance (Szekely and Rizzo 2013): 2 E|X-Y| - E|X-X'| - E|Y-Y'| as a share of 2 E|X-Y|: 0 if both sets are of
    one distribution, at most 1. KID (Binkowski et al. 2018): the squared MMD with the kernel (x.y / D + 1)^3.
    Both are means over pairs, and zero on average for sets of one distribution, whatever their size; so either may be
    negative. units: the patient, [N] and [M]; pairs of one patient are left out, and the bootstrap draws patients. As
    it leaves out the pairs of one image with itself, it is not biased either.
    """
    first, second = (features.astype(np.float64) for features in (first, second))
    draws = [_draw_units(units, rng) for units in (first_units, second_units)]
    apart = [(units[:, None] != units).astype(float) for units in (first_units, second_units)]
    pairs = [_sum_of_pairs(mask, weights, weights) for mask, weights in zip(apart, draws, strict=True)]
    across = draws[0].sum(axis=1) * draws[1].sum(axis=1)

    def means(similarity: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        within = [
            _sum_of_pairs(similarity(features, features) * mask, weights, weights) / count
            for features, mask, weights, count in zip((first, second), apart, draws, pairs, strict=True)
        ]
        return _sum_of_pairs(similarity(first, second), *draws) / across, *within

    with np.errstate(invalid="ignore"):  # no pair of different patients
        distance, within_first, within_second = means(euclidean_distances)
        energy = (2 * distance - within_first - within_second) / (2 * distance)
        kernel, within_first, within_second = means(lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3)
        kid = within_first + within_second - 2 * kernel
    return {name: _of_draws(values) for name, values in zip(UNBIASED, (energy, kid), strict=True)}


def compare_sets(
    train_real: Features,
    held_out_real: Features,
    synthetic: Features,
    settings: Fidelity,
    train_patients: np.ndarray | None = None,
    held_out_patients: np.ndarray | None = None,
) -> pd.DataFrame:
    """Fidelity of synthetic images, beside that of real images: `metric`, `COLUMNS`, a row each of `METRICS`.

    `energy_distance` and `kid` are to the held-out real images, and their reference is of the training images, which
    stand for a perfect generator; `images` is the number of synthetic ones, LARGEST at most. Intervals: bootstrap over
    images and patients.

    The others are to the training images, and their reference is of the held-out ones; both from n = min(held-out,
    synthetic) images, a mean over `settings.resamples` random sets where there are more. The bootstrap would bias them:
    their intervals are the spread of `resamples` random halves of both sets (of patients), which is that of the whole
    sets, about the value (NaN with fewer than 4 of a kind). `fid_infinity` extrapolates FID from halves and wholes,
    linearly in 1 / images, to infinitely many (Chong and Forsyth 2020): trust it where n exceeds the features' number.

    patients: [N], of real images; None: each image is of its own.
    Raises DataError for fewer than 2 images of a kind.
    """
    n = min(len(held_out_real), len(synthetic))
    if min(n, len(train_real)) < 2:
        counts = f"{len(train_real)} training, {len(held_out_real)} held-out, {len(synthetic)} synthetic"
        raise DataError(f"fidelity: images: found {counts}, allowed: at least 2 of each")
    rng = np.random.default_rng(settings.seed)
    train, held_out, drawn = (
        _Sample(images, np.arange(len(images)) if patients is None else pd.factorize(patients)[0])
        for images, patients in (
            (train_real, train_patients),
            (held_out_real, held_out_patients),
            (synthetic, None),
        )
    )
    ours = _distances(drawn, held_out, rng) | _scores(drawn, train, n, settings.resamples, rng)
    reference = _distances(train, held_out, rng) | _scores(held_out, train, n, settings.resamples, rng)
    images = {metric: min(len(synthetic), LARGEST) if metric in UNBIASED else n for metric in METRICS}
    rows = [(*ours[metric], images[metric], *reference[metric]) for metric in METRICS]
    return pd.DataFrame(rows, columns=COLUMNS, index=pd.Index(METRICS, name="metric")).reset_index()


def compare_unbiased(
    perfect: np.ndarray,
    held_out: np.ndarray,
    synthetic: np.ndarray,
    seed: int,
    perfect_patients: np.ndarray | None = None,
    held_out_patients: np.ndarray | None = None,
) -> pd.DataFrame:
    """The rows `UNBIASED` of `compare_sets` alone, by features [N, D] of another referee.

    perfect: of real images that stand for a perfect generator; of fewer than 2 there is no reference (NaN).
    Raises DataError for fewer than 2 other images of a kind.
    """
    if min(len(held_out), len(synthetic)) < 2:
        counts = f"{len(held_out)} held-out, {len(synthetic)} synthetic"
        raise DataError(f"fidelity: images: found {counts}, allowed: at least 2 of each")
    rng = np.random.default_rng(seed)
    real, unseen, drawn = (
        _Sample(Features(features, features), np.arange(len(features)) if names is None else pd.factorize(names)[0])
        for features, names in ((perfect, perfect_patients), (held_out, held_out_patients), (synthetic, None))
    )
    ours = _distances(drawn, unseen, rng)
    nothing = dict.fromkeys(UNBIASED, Interval(np.nan, np.nan, np.nan))
    reference = _distances(real, unseen, rng) if len(perfect) >= 2 else nothing
    images = min(len(synthetic), LARGEST)
    rows = [(*ours[metric], images, *reference[metric]) for metric in UNBIASED]
    return pd.DataFrame(rows, columns=COLUMNS, index=pd.Index(UNBIASED, name="metric")).reset_index()


class _Sample(NamedTuple):
    """Images and whose they are: units [N]."""

    images: Features
    units: np.ndarray

    def select(self, index: np.ndarray) -> _Sample:
        return _Sample(self.images.select(index), self.units[index])

    def at_most(self, count: int, rng: np.random.Generator) -> _Sample:
        """So many random images; all of them, if there are no more."""
        return self if len(self.units) <= count else self.select(rng.choice(len(self.units), count, replace=False))

    def half(self, rng: np.random.Generator) -> _Sample:
        """The images of a random half of the units."""
        units = np.unique(self.units)
        return self.select(np.isin(self.units, rng.choice(units, len(units) // 2, replace=False)))


def _distances(images: _Sample, held_out: _Sample, rng: np.random.Generator) -> dict[str, Interval]:
    images, held_out = images.at_most(LARGEST, rng), held_out.at_most(LARGEST, rng)
    features = images.images.features, held_out.images.features
    return unbiased_distances(*features, images.units, held_out.units, rng)


def _scores(pool: _Sample, train: _Sample, n: int, resamples: int, rng: np.random.Generator) -> dict[str, Interval]:
    """The biased scores of n images of a pool."""
    sets = [pool.at_most(n, rng) for _ in range(resamples if len(pool.units) > n else 1)]
    statistics = feature_statistics(train.images.features)
    value = pd.DataFrame([_score(train.images, statistics, each.images) for each in sets]).mean()
    nothing = Interval(np.nan, np.nan, np.nan)
    if min(len(np.unique(units)) for units in (train.units, *(each.units for each in sets))) < 4:
        return {"fid_infinity": nothing} | {name: Interval(value[name], np.nan, np.nan) for name in SCORES}
    halves = []
    for draw in range(resamples):
        real, images = train.half(rng).images, sets[draw % len(sets)].half(rng).images
        halves.append(_score(real, feature_statistics(real.features), images))
    halves = pd.DataFrame(halves)
    low, high = (value + halves.quantile(share) - halves.mean() for share in (0.025, 0.975))
    for bound in (low, high):
        bound[SHARES] = bound[SHARES].clip(0, 1)
    found = {name: Interval(value[name], low[name], high[name]) for name in SCORES}
    beyond = value["fid"] - halves["fid"].mean()  # from twice the bias to the bias
    return {"fid_infinity": Interval(*(bound + beyond for bound in found["fid"]))} | found


def _score(real: Features, real_statistics: Statistics, images: Features) -> dict[str, float]:
    """The biased scores of one set of images against real ones."""
    features, real_features = (torch.from_numpy(sets.features).double() for sets in (images, real))
    # One split: ten, as usual with 50,000 images, would leave a handful of images in each.
    inception = isc_features_to_metric(torch.from_numpy(images.logits), splits=1, shuffle=False)
    # An image must have k others as neighbours; torch-fidelity wants the generated images first.
    neighbours = min(NEIGHBOURS, len(images) - 1, len(real) - 1)
    prc = prc_features_to_metric(features, real_features, prc_neighborhood=neighbours, verbose=False)
    values = (
        frechet_distance(real_statistics, feature_statistics(images.features)),
        inception[KEY_METRIC_ISC_MEAN],
        prc[KEY_METRIC_PRECISION],
        prc[KEY_METRIC_RECALL],
        *density_and_coverage(real.features, images.features),
    )
    return dict(zip(SCORES, values, strict=True))


def _draw_units(units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[1 + BOOTSTRAP, N]: how often each bootstrap sample drew an image's unit; the first is the sample itself."""
    found, index = np.unique(units, return_inverse=True)
    drawn = rng.multinomial(len(found), np.full(len(found), 1 / len(found)), BOOTSTRAP)
    return np.vstack([np.ones(len(units)), drawn[:, index]])


def _sum_of_pairs(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[B]: the sum of values [N, M] weighted by rows [B, N] and columns [B, M]."""
    return ((rows @ values) * columns).sum(axis=1)


def _of_draws(values: np.ndarray) -> Interval:
    """Of a statistic [1 + BOOTSTRAP], the first of which is that of the sample itself."""
    if np.isnan(values[0]):
        return Interval(np.nan, np.nan, np.nan)
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))
