"""The scores of a classifier, one entry each: how it is computed, how it is permuted, and in which tables it stands.

A new metric is one entry in `METRICS`. Everything is computed for many weightings of the images at once: an image's
weight is how often a resample drew its patient, and the scores themselves are the case of all weights one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

THRESHOLD = 0.5
BINS = 10  # of the expected calibration error: equal width, as Guo et al. 2017

Table = Literal["classification", "calibration", "shares", "detection"]


@dataclass(frozen=True)
class Weighted:
    """Predictions of one arm under many weightings of the images.

    probability: [seeds, N]; is_positive: [N], bool; weights: [B, N], each row with positive and negative images.
    """

    probability: np.ndarray
    is_positive: np.ndarray
    weights: np.ndarray

    @cached_property
    def called(self) -> np.ndarray:
        """[N, seeds], bool: called positive."""
        return (self.probability >= THRESHOLD).T

    @cached_property
    def correct(self) -> np.ndarray:
        """[N, seeds], bool: called what it is."""
        return self.called == self.on

    @property
    def on(self) -> np.ndarray:
        """[N, 1], bool: the positive images."""
        return self.is_positive[:, None]

    @property
    def off(self) -> np.ndarray:
        """[N, 1], bool: the negative images."""
        return ~self.is_positive[:, None]

    @cached_property
    def total(self) -> np.ndarray:
        """[B, 1]: the weights' sum."""
        return self.weights.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Pair:
    """Predictions of two arms, whose difference is tested.

    first, second: probabilities [seeds, N], seeds matched by index; is_positive: [N], bool.
    """

    first: np.ndarray
    second: np.ndarray
    is_positive: np.ndarray

    @cached_property
    def correct(self) -> np.ndarray:
        """[N]: share of seeds in which the first arm is right, less that of the second."""
        first, second = (((arm >= THRESHOLD) == self.is_positive).mean(axis=0) for arm in (self.first, self.second))
        return first - second

    @property
    def positives(self) -> int:
        return self.is_positive.sum()

    @property
    def negatives(self) -> int:
        return (~self.is_positive).sum()


@dataclass(frozen=True)
class SumOfParts:
    """The difference of two arms is a sum over the images, odd in the sign of each.

    parts: [N], what each image adds to it; its sign changes when the arms' predictions of the image are swapped.
    """

    parts: Callable[[Pair], np.ndarray]


@dataclass(frozen=True)
class FunctionOfSums:
    """The score is no sum over the images, but a function of such sums, for each arm after swapping.

    terms: (probability [N], is_positive [N]) -> [N, K], what is summed of one arm and seed. score: (sums [P, K],
    is_positive [N]) -> [P], up to a constant factor.
    """

    terms: Callable[[np.ndarray, np.ndarray], np.ndarray]
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """One score.

    value: [B, seeds], for every weighting and seed. difference: how the paired test permutes the difference of two
    arms. tables: those in which it stands. decimals: of its numbers there.
    """

    name: str
    value: Callable[[Weighted], np.ndarray]
    difference: SumOfParts | FunctionOfSums
    tables: tuple[Table, ...]
    decimals: int = 2


def calibration_bins(probability: np.ndarray) -> np.ndarray:
    """Number (0 to 9) of the bin of each probability; a bin holds its lower edge, the last one 1.0 too."""
    return np.minimum((probability * BINS).astype(int), BINS - 1)


def _weighted_auc(drawn: Weighted) -> np.ndarray:
    return np.stack([_auc(seed, drawn.is_positive, drawn.weights) for seed in drawn.probability], axis=1)


def _auc(probability: np.ndarray, is_positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC [B] for weights [B, N]: the share of (positive, negative) pairs in the right order, ties counting half."""
    order = np.argsort(probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=-1.0))  # first image of each group of ties
    sorted_weights, sorted_labels = weights[:, order], is_positive[order]
    on = np.add.reduceat(sorted_weights * sorted_labels, starts, axis=1)
    off = np.add.reduceat(sorted_weights * ~sorted_labels, starts, axis=1)
    right = (on * (np.cumsum(off, axis=1) - off / 2)).sum(axis=1)
    return right / (on.sum(axis=1) * off.sum(axis=1))


def _auc_parts(pair: Pair) -> np.ndarray:
    """[N]: a pair (positive, negative) gives terms of no sign, one or two, and only those of one are odd.

    So the swapped predictions need not be ranked anew.
    """
    ranks = [_pooled_rank(a, b, pair.is_positive) for a, b in zip(pair.first, pair.second, strict=True)]
    return np.mean(ranks, axis=0) / (pair.positives * pair.negatives)


def _pooled_rank(first: np.ndarray, second: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
    """[N]: each image's part of the difference of two arms' pairs in the right order, against both arms' images.

    Half the change in rank among the other class when the image's score is the first arm's instead of the second's.
    """
    part = np.empty(len(first))
    for mask, sign in ((is_positive, 1), (~is_positive, -1)):
        others = np.sort(np.concatenate([first[~mask], second[~mask]]))
        gain = [np.searchsorted(others, arm[mask], side) for side in ("left", "right") for arm in (first, second)]
        part[mask] = sign * (gain[0] - gain[1] + gain[2] - gain[3]) / 4
    return part


def _brier_parts(pair: Pair) -> np.ndarray:
    squared = (pair.first - pair.is_positive) ** 2 - (pair.second - pair.is_positive) ** 2
    return squared.mean(axis=0) / len(pair.is_positive)


def _f1_terms(probability: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
    """[N, 2]: true positive, called positive."""
    called = probability >= THRESHOLD
    return np.column_stack([called & is_positive, called])


def _weighted_calibration_error(drawn: Weighted) -> np.ndarray:
    gaps = _calibration_gaps(drawn.probability, drawn.is_positive)
    return np.stack([np.abs(drawn.weights @ seed).sum(axis=1) for seed in gaps], axis=1) / drawn.total


def _calibration_gaps(probability: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
    """[..., N, BINS]: probability minus label in the image's bin, else 0; summed over images, the gap of each bin."""
    in_bin = calibration_bins(probability)[..., None] == np.arange(BINS)
    return in_bin * (probability - is_positive)[..., None]


# In the order of the tables.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "accuracy",
            value=lambda drawn: drawn.weights @ drawn.correct / drawn.total,
            difference=SumOfParts(lambda pair: pair.correct / len(pair.is_positive)),
            tables=("classification", "shares", "detection"),
        ),
        Metric(
            "sensitivity",
            value=lambda drawn: drawn.weights @ (drawn.correct & drawn.on) / (drawn.weights @ drawn.on),
            difference=SumOfParts(lambda pair: pair.correct * pair.is_positive / pair.positives),
            tables=("classification", "shares", "detection"),
        ),
        Metric(
            "specificity",
            value=lambda drawn: drawn.weights @ (drawn.correct & drawn.off) / (drawn.weights @ drawn.off),
            difference=SumOfParts(lambda pair: pair.correct * ~pair.is_positive / pair.negatives),
            tables=("classification", "shares", "detection"),
        ),
        Metric(  # of the positive class; 0 without a true positive
            "f1",
            value=lambda drawn: (
                2
                * (drawn.weights @ (drawn.called & drawn.on))
                / (drawn.weights @ drawn.called + drawn.weights @ drawn.on)
            ),
            difference=FunctionOfSums(
                _f1_terms, lambda sums, is_positive: 2 * sums[:, 0] / (sums[:, 1] + is_positive.sum())
            ),
            tables=("classification", "shares"),
        ),
        Metric(
            "auc",
            value=_weighted_auc,
            difference=SumOfParts(_auc_parts),
            tables=("classification", "shares", "detection"),
        ),
        Metric(
            "brier",
            value=lambda drawn: drawn.weights @ ((drawn.probability - drawn.is_positive) ** 2).T / drawn.total,
            difference=SumOfParts(_brier_parts),
            tables=("calibration",),
            decimals=3,
        ),
        Metric(
            "expected_calibration_error",
            value=_weighted_calibration_error,
            difference=FunctionOfSums(_calibration_gaps, lambda sums, _: np.abs(sums).sum(axis=1)),
            tables=("calibration",),
            decimals=3,
        ),
    )
}


def metrics_of(table: Table) -> list[str]:
    """The names of the metrics of a table, in its order."""
    return [name for name, metric in METRICS.items() if table in metric.tables]


def weighted_metrics(probability: np.ndarray, is_positive: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric for every weighting and seed: metric -> [B, seeds]. See `Weighted`."""
    drawn = Weighted(probability, is_positive, weights)
    return {name: metric.value(drawn) for name, metric in METRICS.items()}
