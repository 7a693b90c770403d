"""Classifier scores with their uncertainty: predictions -> metrics -> bootstrap and paired permutation test.

Everything is computed for many weightings of the images at once: an image's weight is how often a resample drew its
patient, and the scores themselves are the case of all weights one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from scangan.config import Evaluation
from scangan.errors import DataError

METRICS = ("accuracy", "sensitivity", "specificity", "f1", "auc", "brier", "expected_calibration_error")
THRESHOLD = 0.5
BINS = 10  # of the expected calibration error: equal width, as Guo et al. 2017
_CHUNK = 2**22  # numbers held at once: 32 MB


def read_predictions(files: Sequence[str], arms: Sequence[str], seeds: int) -> dict[str, list[pd.DataFrame]]:
    """Arm -> one table a seed, from prediction files that are ordered arm by arm, seed by seed."""
    tables = iter(files)
    return {arm: [pd.read_parquet(next(tables)) for _ in range(seeds)] for arm in arms}


def score_arms(predictions: dict[str, list[pd.DataFrame]], positive: str, settings: Evaluation) -> pd.DataFrame:
    """Scores of every arm on the test images.

    predictions: arm -> one table a seed: `image_id, patient_id, label, split, probability` (of the class `positive`).
    Returns `arm, metric, value, ci_low, ci_high, seeds, cases, p_value`, one row an arm and metric:

    - value: mean over the seeds; a probability >= 0.5 is positive; `cases`: test images.
    - ci_low, ci_high: 95% percentile interval of a hierarchical bootstrap. Seeds are drawn with replacement, and so are
      test patients with all their images, among patients of the same labels; all seeds and arms share the draw.
    - p_value: two-sided paired permutation test against the arm `real` (NaN without it, and for `real` itself). The two
      arms' predictions of a patient are swapped for all seeds at once; p = (as extreme + 1) / (permutations + 1).

    Raises DataError if arms or seeds do not share the same test images, or a probability is not within 0 to 1.
    """
    cases, probabilities = align_test_images(predictions)
    is_positive = (cases["label"] == positive).to_numpy()
    if is_positive.all() or not is_positive.any():
        found = ", ".join(sorted(set(cases["label"])))
        raise DataError(f"predictions: label: found only {found} in the test set, allowed: both classes")
    patient = pd.factorize(cases["patient_id"])[0]
    resampled = {arm: {metric: [] for metric in METRICS} for arm in probabilities}
    for weights in _resamples(patient, is_positive, settings):
        for arm, probability in probabilities.items():
            for metric, values in weighted_metrics(probability, is_positive, weights).items():
                resampled[arm][metric].append(values)

    rng = np.random.default_rng([settings.seed, 1])
    signs = rng.choice(np.array([-1, 1], dtype=np.int8), size=(settings.permutations, patient.max() + 1))
    rows = []
    for arm, probability in probabilities.items():
        seeds = len(probability)
        rng = np.random.default_rng([settings.seed, 2])
        draws = rng.multinomial(seeds, np.full(seeds, 1 / seeds), settings.bootstrap)
        values = weighted_metrics(probability, is_positive, np.ones((1, len(cases))))
        tested = "real" in probabilities and arm != "real"
        p_values = permutation_test(probability, probabilities["real"], is_positive, patient, signs) if tested else {}
        for metric in METRICS:
            bootstrap = (np.concatenate(resampled[arm][metric]) * draws).sum(axis=1) / seeds
            low, high = np.percentile(bootstrap, [2.5, 97.5])
            value, p_value = values[metric].mean(), p_values.get(metric, np.nan)
            rows.append((arm, metric, value, low, high, seeds, len(cases), p_value))
    columns = ["arm", "metric", "value", "ci_low", "ci_high", "seeds", "cases", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def weighted_metrics(probability: np.ndarray, is_positive: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric for every weighting and seed.

    probability: [seeds, N]; is_positive: [N], bool; weights: [B, N], each row with positive and negative images.
    Returns metric -> [B, seeds]. F1 is that of the positive class; it is 0 without a true positive.
    """
    called = (probability >= THRESHOLD).T
    on, off = is_positive[:, None], ~is_positive[:, None]
    correct = called == on
    total = weights.sum(axis=1, keepdims=True)
    bins = _calibration_terms(probability, is_positive)
    return {
        "accuracy": weights @ correct / total,
        "sensitivity": weights @ (correct & on) / (weights @ on),
        "specificity": weights @ (correct & off) / (weights @ off),
        "f1": 2 * (weights @ (called & on)) / (weights @ called + weights @ on),
        "auc": np.stack([_weighted_auc(seed, is_positive, weights) for seed in probability], axis=1),
        "brier": weights @ ((probability - is_positive) ** 2).T / total,
        "expected_calibration_error": np.stack([np.abs(weights @ seed).sum(axis=1) for seed in bins], axis=1) / total,
    }


def permutation_test(
    first: np.ndarray, second: np.ndarray, is_positive: np.ndarray, patient: np.ndarray, signs: np.ndarray
) -> dict[str, float]:
    """Two-sided p values of `first - second`, metric by metric.

    first, second: probabilities [seeds, N] of two arms, seeds matched by index; is_positive, patient: [N], patients
    numbered from 0; signs: [permutations, patients], -1 where a permutation swaps the arms' predictions of a patient.

    The difference of two arms is odd in the signs. For accuracy, sensitivity, specificity and Brier score it is a sum
    over patients. So it is for the AUC: a pair (positive, negative) gives terms of no sign, one or two, and only those
    of one are odd; so the swapped predictions need not be ranked anew. F1 and the calibration error are no sums, but
    functions of sums over patients, of each arm after swapping.
    """
    if first.shape != second.shape:
        found = f"{len(first)} and {len(second)}"
        raise DataError(f"predictions: seeds: found {found}, allowed: the same number in every arm")
    positives, negatives = is_positive.sum(), (~is_positive).sum()
    correct_first, correct_second = (((arm >= THRESHOLD) == is_positive).mean(axis=0) for arm in (first, second))
    correct = correct_first - correct_second
    squared = ((first - is_positive) ** 2 - (second - is_positive) ** 2).mean(axis=0)
    pairs = [_pooled_rank(a, b, is_positive) for a, b in zip(first, second, strict=True)]
    contributions = {
        "accuracy": correct / len(patient),
        "sensitivity": correct * is_positive / positives,
        "specificity": correct * ~is_positive / negatives,
        "auc": np.mean(pairs, axis=0) / (positives * negatives),
        "brier": squared / len(patient),
    }
    signs = np.vstack([np.ones_like(signs[:1]), signs])  # the first row: as observed
    sums = _signed_sums(np.stack(list(contributions.values()), axis=1), patient, signs)
    statistics = dict(zip(contributions, sums.T, strict=True)) | {"f1": 0.0, "expected_calibration_error": 0.0}
    for seed_first, seed_second in zip(first, second, strict=True):
        a, b = (_terms_of_functions(arm, is_positive) for arm in (seed_first, seed_second))
        both, apart = (a + b).sum(axis=0), _signed_sums(a - b, patient, signs)
        for sign in (1, -1):
            swapped = (both + sign * apart) / 2
            true_positives, called, gaps = swapped[:, 0], swapped[:, 1], swapped[:, 2:]
            statistics["f1"] += sign * 2 * true_positives / (called + positives)
            statistics["expected_calibration_error"] += sign * np.abs(gaps).sum(axis=1)
    p_values = {}
    for metric in METRICS:
        observed, *permuted = np.abs(statistics[metric])
        # Sums in another order differ in the last digits: without the margin an equal difference would not count.
        extreme = np.count_nonzero(np.array(permuted) >= observed * (1 - 1e-9) - 1e-12)
        p_values[metric] = (extreme + 1) / len(signs)
    return p_values


def calibration_bins(probability: np.ndarray) -> np.ndarray:
    """Number (0 to 9) of the bin of each probability; a bin holds its lower edge, the last one 1.0 too."""
    return np.minimum((probability * BINS).astype(int), BINS - 1)


def align_test_images(predictions: dict[str, list[pd.DataFrame]]) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The test images (`image_id, patient_id, label`), and arm -> probabilities [seeds, N] in their order.

    Raises DataError if arms or seeds do not share the same test images, or a probability is not within 0 to 1.
    """
    cases, probabilities = None, {}
    for arm, tables in predictions.items():
        rows = []
        for seed, table in enumerate(tables):
            test = table[table["split"] == "test"].sort_values("image_id", ignore_index=True)
            if cases is None:
                cases = test[["image_id", "patient_id", "label"]]
            if not test[cases.columns].equals(cases):
                raise DataError(
                    f"predictions of {arm}, seed {seed}: image_id: found {len(test)} test images that are not the "
                    f"{len(cases)} of the first table, allowed: the same images in every arm and seed"
                )
            rows.append(read_probability(test, f"predictions of {arm}, seed {seed}"))
        probabilities[arm] = np.stack(rows)
    return cases, probabilities


def read_probability(table: pd.DataFrame, where: str) -> np.ndarray:
    """The column `probability` [N]. Raises DataError, beginning with `where`, if a value is not within 0 to 1."""
    if not (valid := table["probability"].between(0, 1)).all():
        raise DataError(f"{where}: probability: found {table['probability'][~valid].iloc[0]}, allowed: 0 to 1")
    return table["probability"].to_numpy(dtype=float)


def _resamples(patient: np.ndarray, is_positive: np.ndarray, settings: Evaluation) -> Iterator[np.ndarray]:
    """Weights [chunk, N] of the images in each bootstrap sample of patients, stratified by the labels a patient has."""
    rng = np.random.default_rng([settings.seed, 0])
    patients = patient.max() + 1
    stratum = np.zeros(patients, dtype=int)
    np.bitwise_or.at(stratum, patient, 1 + is_positive)  # 1: negative images only, 2: positive only, 3: both
    rows = max(1, _CHUNK // len(patient))
    for start in range(0, settings.bootstrap, rows):
        size = min(rows, settings.bootstrap - start)
        counts = np.zeros((size, patients))
        for members in (np.flatnonzero(stratum == kind) for kind in np.unique(stratum)):
            drawn = rng.integers(len(members), size=(size, len(members)))
            offset = np.arange(size)[:, None] * len(members)
            counts[:, members] = np.bincount((drawn + offset).ravel(), minlength=drawn.size).reshape(drawn.shape)
        yield counts[:, patient]


def _calibration_terms(probability: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
    """[seeds, N, BINS]: probability minus label in the image's bin, else 0; summed over images, the gap of each bin."""
    in_bin = calibration_bins(probability)[..., None] == np.arange(BINS)
    return in_bin * (probability - is_positive)[..., None]


def _terms_of_functions(probability: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
    """[N, 2 + BINS]: true positive, called positive, gap in each bin; F1 and calibration error depend on their sums."""
    called = probability >= THRESHOLD
    return np.column_stack([called & is_positive, called, _calibration_terms(probability[None], is_positive)[0]])


def _weighted_auc(probability: np.ndarray, is_positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC [B] for weights [B, N]: the share of (positive, negative) pairs in the right order, ties counting half."""
    order = np.argsort(probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=-1.0))  # first image of each group of ties
    sorted_weights, sorted_labels = weights[:, order], is_positive[order]
    on = np.add.reduceat(sorted_weights * sorted_labels, starts, axis=1)
    off = np.add.reduceat(sorted_weights * ~sorted_labels, starts, axis=1)
    right = (on * (np.cumsum(off, axis=1) - off / 2)).sum(axis=1)
    return right / (on.sum(axis=1) * off.sum(axis=1))


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


def _signed_sums(terms: np.ndarray, patient: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """[permutations, K]: sums of terms [N, K] over the images, each with its patient's sign in the permutation."""
    by_patient = np.zeros((signs.shape[1], terms.shape[1]))
    np.add.at(by_patient, patient, terms)
    rows = max(1, _CHUNK // signs.shape[1])
    chunks = (signs[start : start + rows].astype(float) for start in range(0, len(signs), rows))
    return np.concatenate([chunk @ by_patient for chunk in chunks])
