"""The scores of a classifier, one entry each: how it is computed, and in which tables it stands.

A new metric is one entry in `METRICS`. Everything is computed for many weightings of the images at once: an image's
weight is how often a resample drew its patient, and the scores themselves are the case of all weights one.

Of two classes one is positive. So it is of three or more, against all others together; and then there are the metrics
of all classes alike (`Metric.of_classes`), and those of each class, called `recall:covid`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Literal

import numpy as np

THRESHOLD = 0.5
BINS = 10  # of the expected calibration error: equal width, as Guo et al. 2017

Table = Literal["classification", "calibration", "shares", "detection", "classes"]


@dataclass(frozen=True)
class Classes:
    """What is known of three or more classes.

    names: [K]. label: [N], the number of each image's class. probability: [seeds, N, K], of every class.
    """

    names: tuple[str, ...]
    label: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Weighted:
    """Predictions of one arm under many weightings of the images.

    probability: [seeds, N]; is_positive: [N], bool; weights: [B, N], each row with images of every class.
    fold: [N], whose classifiers an image's probabilities are of; all 0 without folds. classes: None of two.
    """

    probability: np.ndarray
    is_positive: np.ndarray
    weights: np.ndarray
    fold: np.ndarray
    classes: Classes | None = None

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

    @property
    def _classes(self) -> Classes:
        assert self.classes is not None, "metrics of all classes are of three or more"
        return self.classes

    @cached_property
    def is_called_right(self) -> np.ndarray:
        """[N, seeds], bool: called by the name of its class, that of the highest probability."""
        return (self._classes.probability.argmax(axis=2) == self._classes.label).T

    @cached_property
    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights of each class's images [B, 1, K], of those called it, and of those rightly so [B, seeds, K]."""
        named = np.arange(len(self._classes.names))
        true = self._classes.label[:, None] == named  # [N, K]
        called = self._classes.probability.argmax(axis=2).T[:, :, None] == named  # [N, seeds, K]
        right = called & true[:, None]
        of_called, of_right = (np.einsum("bn,nsk->bsk", self.weights, each.astype(float)) for each in (called, right))
        return (self.weights @ true)[:, None], of_called, of_right

    @cached_property
    def recalls(self) -> np.ndarray:
        """[B, seeds, K]: of the images of a class the share that is called so."""
        true, _, right = self.counts
        return right / true

    @cached_property
    def precisions(self) -> np.ndarray:
        """[B, seeds, K]: of the images that are called a class the share that is of it; 0 where none is called so."""
        _, called, right = self.counts
        return np.divide(right, called, out=np.zeros_like(right), where=called > 0)

    @cached_property
    def f1_scores(self) -> np.ndarray:
        """[B, seeds, K]: F1 of each class against the rest; 0 without a true positive."""
        true, called, right = self.counts
        return 2 * right / (true + called)


@dataclass(frozen=True)
class Metric:
    """One score.

    value: [B, seeds], for every weighting and seed. tables: those in which it stands. if_calibrated: probability
    [seeds, N] -> [seeds], the value to expect of these probabilities if they were perfectly calibrated. decimals: of
    its numbers in the tables. of_classes: it is of three or more classes alike; of_each: of each of these, and `value`
    gives [B, seeds, K].
    """

    name: str
    value: Callable[[Weighted], np.ndarray]
    tables: tuple[Table, ...]
    if_calibrated: Callable[[np.ndarray], np.ndarray] | None = None
    decimals: int = 2
    of_classes: bool = False
    of_each: bool = False


def calibration_bins(probability: np.ndarray) -> np.ndarray:
    """Number (0 to 9) of the bin of each probability; a bin holds its lower edge, the last one 1.0 too."""
    return np.minimum((probability * BINS).astype(int), BINS - 1)


def _weighted_auc(drawn: Weighted) -> np.ndarray:
    """The share of (positive, negative) pairs in the right order, ties counting half.

    Of folds, pairs within them: probabilities of different classifiers have no common order (Airola et al. 2011).
    """
    of_fold = [drawn.fold == number for number in np.unique(drawn.fold)]
    counted = [
        [_count_pairs(seed[some], drawn.is_positive[some], drawn.weights[:, some]) for some in of_fold]
        for seed in drawn.probability
    ]
    right, pairs = np.moveaxis(np.array(counted).sum(axis=1), 0, -1)
    return right / pairs


def _count_pairs(
    probability: np.ndarray, is_positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight [B] of the (positive, negative) pairs in the right order, and of all, for weights [B, N]."""
    order = np.argsort(probability, kind="stable")
    ordered, on = probability[order], np.flatnonzero(is_positive[order])
    below, not_above = (np.searchsorted(ordered, ordered[on], side) for side in ("left", "right"))
    sorted_weights = weights[:, order]
    negatives = np.zeros((len(weights), len(order) + 1))  # weight of those among the first images
    np.cumsum(sorted_weights * ~is_positive[order], axis=1, out=negatives[:, 1:])
    positives = sorted_weights[:, on]
    right = (positives * (negatives[:, below] + negatives[:, not_above])).sum(axis=1) / 2
    return right, positives.sum(axis=1) * negatives[:, -1]


def _macro_auc(drawn: Weighted) -> np.ndarray:
    """Mean over the classes of the AUC of each against all others, every class weighing the same."""
    classes = drawn.classes
    assert classes is not None, "metrics of all classes are of three or more"
    areas = [
        _weighted_auc(Weighted(classes.probability[:, :, number], classes.label == number, drawn.weights, drawn.fold))
        for number in range(len(classes.names))
    ]
    return np.mean(areas, axis=0)


def _weighted_calibration_error(drawn: Weighted) -> np.ndarray:
    gaps = _calibration_gaps(drawn.probability, drawn.is_positive)
    return np.stack([np.abs(drawn.weights @ seed).sum(axis=1) for seed in gaps], axis=1) / drawn.total


def calibration_error_by_chance(probability: np.ndarray) -> np.ndarray:
    """[seeds]: the expected calibration error to expect of so few images whose probabilities [seeds, N] are all right.

    Exact: the number of positives in a bin then has a Poisson binomial distribution. Images count as independent.
    """
    return np.array(
        [
            sum(_mean_gap(seed[calibration_bins(seed) == number]) for number in range(BINS)) / len(seed)
            for seed in probability
        ]
    )


def _mean_gap(probability: np.ndarray) -> float:
    """Mean distance between the number of positives and its expectation, of images with these probabilities [n]."""
    chances = reduce(np.convolve, np.stack([1 - probability, probability], axis=1), np.ones(1))
    return float(chances @ np.abs(np.arange(len(chances)) - probability.sum()))


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
            tables=("classification", "shares", "detection"),
        ),
        Metric(
            "sensitivity",
            value=lambda drawn: drawn.weights @ (drawn.correct & drawn.on) / (drawn.weights @ drawn.on),
            tables=("classification", "shares", "detection"),
        ),
        Metric(
            "specificity",
            value=lambda drawn: drawn.weights @ (drawn.correct & drawn.off) / (drawn.weights @ drawn.off),
            tables=("classification", "shares", "detection"),
        ),
        Metric(  # of the positive class; 0 without a true positive
            "f1",
            value=lambda drawn: (
                2
                * (drawn.weights @ (drawn.called & drawn.on))
                / (drawn.weights @ drawn.called + drawn.weights @ drawn.on)
            ),
            tables=("classification", "shares"),
        ),
        Metric(
            "auc",
            value=_weighted_auc,
            tables=("classification", "shares", "detection"),
        ),
        Metric(
            "brier",
            value=lambda drawn: drawn.weights @ ((drawn.probability - drawn.is_positive) ** 2).T / drawn.total,
            tables=("calibration",),
            if_calibrated=lambda probability: (probability * (1 - probability)).mean(axis=1),
            decimals=3,
        ),
        Metric(
            "expected_calibration_error",
            value=_weighted_calibration_error,
            tables=("calibration",),
            if_calibrated=calibration_error_by_chance,
            decimals=3,
        ),
        Metric(
            "accuracy_of_classes",
            value=lambda drawn: drawn.weights @ drawn.is_called_right / drawn.total,
            tables=("classification",),
            of_classes=True,
        ),
        Metric(
            "balanced_accuracy",
            value=lambda drawn: drawn.recalls.mean(axis=2),
            tables=("classification",),
            of_classes=True,
        ),
        Metric(
            "macro_f1",
            value=lambda drawn: drawn.f1_scores.mean(axis=2),
            tables=("classification",),
            of_classes=True,
        ),
        Metric("macro_auc", value=_macro_auc, tables=("classification",), of_classes=True),
        Metric("recall", value=lambda drawn: drawn.recalls, tables=("classes",), of_classes=True, of_each=True),
        Metric("precision", value=lambda drawn: drawn.precisions, tables=("classes",), of_classes=True, of_each=True),
    )
}


def find_metric(name: str) -> Metric:
    """The metric behind a name: of `recall:covid` that is `recall`."""
    return METRICS[name.partition(":")[0]]


def metric_names(classes: Sequence[str] = ()) -> list[str]:
    """The names of all metrics of two classes, or of three or more of these names."""
    names: list[str] = []
    for name, metric in METRICS.items():
        if not metric.of_classes or classes:
            names += [f"{name}:{each}" for each in classes] if metric.of_each else [name]
    return names


def metrics_of(table: Table, classes: Sequence[str] = ()) -> list[str]:
    """The names of the metrics of a table, in its order; with `classes` of a study of three or more."""
    return [name for name in metric_names(classes) if table in find_metric(name).tables]


def weighted_metrics(
    probability: np.ndarray,
    is_positive: np.ndarray,
    weights: np.ndarray,
    metrics: Iterable[str] | None = None,
    fold: np.ndarray | None = None,
    classes: Classes | None = None,
) -> dict[str, np.ndarray]:
    """Every metric, or some, for every weighting and seed: metric -> [B, seeds]. See `Weighted`; fold: None without."""
    fold = np.zeros(len(is_positive), dtype=int) if fold is None else fold
    drawn = Weighted(probability, is_positive, weights, fold, classes)
    names = classes.names if classes else ()
    found = {}
    for name in metric_names(names) if metrics is None else metrics:
        value = find_metric(name).value(drawn)
        found[name] = value[:, :, names.index(name.partition(":")[2])] if find_metric(name).of_each else value
    return found
