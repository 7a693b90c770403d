"""Classifier scores with their uncertainty: predictions -> metrics -> bootstrap and paired permutation test.

The metrics themselves are entries of `metrics.classifier_metrics.METRICS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from scangan.config import Evaluation
from scangan.errors import DataError
from scangan.metrics.classifier_metrics import METRICS, FunctionOfSums, Pair, SumOfParts, weighted_metrics

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
    resampled: dict[str, dict[str, list[np.ndarray]]] = {
        arm: {metric: [] for metric in METRICS} for arm in probabilities
    }
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
        scores = weighted_metrics(probability, is_positive, np.ones((1, len(cases))))
        tested = "real" in probabilities and arm != "real"
        p_values = permutation_test(probability, probabilities["real"], is_positive, patient, signs) if tested else {}
        for metric in METRICS:
            bootstrap = (np.concatenate(resampled[arm][metric]) * draws).sum(axis=1) / seeds
            low, high = np.percentile(bootstrap, [2.5, 97.5])
            value, p_value = scores[metric].mean(), p_values.get(metric, np.nan)
            rows.append((arm, metric, value, low, high, seeds, len(cases), p_value))
    columns = ["arm", "metric", "value", "ci_low", "ci_high", "seeds", "cases", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def permutation_test(
    first: np.ndarray, second: np.ndarray, is_positive: np.ndarray, patient: np.ndarray, signs: np.ndarray
) -> dict[str, float]:
    """Two-sided p values of `first - second`, metric by metric.

    first, second: probabilities [seeds, N] of two arms, seeds matched by index; is_positive, patient: [N], patients
    numbered from 0; signs: [permutations, patients], -1 where a permutation swaps the arms' predictions of a patient.

    The difference of two arms is odd in the signs. Of some metrics it is a sum over patients; others are no sums, but
    functions of sums over patients, of each arm after swapping (`Metric.difference`).
    """
    if first.shape != second.shape:
        found = f"{len(first)} and {len(second)}"
        raise DataError(f"predictions: seeds: found {found}, allowed: the same number in every arm")
    pair = Pair(first, second, is_positive)
    signs = np.vstack([np.ones_like(signs[:1]), signs])  # the first row: as observed
    differences = _permuted_sums(pair, patient, signs) | _permuted_functions(pair, patient, signs)
    p_values: dict[str, float] = {}
    for metric in METRICS:
        observed, *permuted = np.abs(differences[metric])
        # Sums in another order differ in the last digits: without the margin an equal difference would not count.
        extreme = np.count_nonzero(np.array(permuted) >= observed * (1 - 1e-9) - 1e-12)
        p_values[metric] = (extreme + 1) / len(signs)
    return p_values


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


def _permuted_sums(pair: Pair, patient: np.ndarray, signs: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> its difference in each permutation [permutations], of those that are sums over the images."""
    parts = {
        name: metric.difference.parts(pair)
        for name, metric in METRICS.items()
        if isinstance(metric.difference, SumOfParts)
    }
    sums = _signed_sums(np.stack(list(parts.values()), axis=1), patient, signs)
    return dict(zip(parts, sums.T, strict=True))


def _permuted_functions(pair: Pair, patient: np.ndarray, signs: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> its difference in each permutation [permutations], of those that are functions of sums."""
    functions = {
        name: metric.difference for name, metric in METRICS.items() if isinstance(metric.difference, FunctionOfSums)
    }
    differences = {name: np.zeros(len(signs)) for name in functions}
    for seeds in zip(pair.first, pair.second, strict=True):
        terms = [[function.terms(arm, pair.is_positive) for function in functions.values()] for arm in seeds]
        ends = np.cumsum([each.shape[1] for each in terms[0]])[:-1]
        first, second = map(np.column_stack, terms)
        both, apart = (first + second).sum(axis=0), _signed_sums(first - second, patient, signs)
        for sign in (1, -1):
            swapped = np.split((both + sign * apart) / 2, ends, axis=1)
            for (name, function), sums in zip(functions.items(), swapped, strict=True):
                differences[name] += sign * function.score(sums, pair.is_positive)
    return differences


def _signed_sums(terms: np.ndarray, patient: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """[permutations, K]: sums of terms [N, K] over the images, each with its patient's sign in the permutation."""
    by_patient = np.zeros((signs.shape[1], terms.shape[1]))
    np.add.at(by_patient, patient, terms)
    rows = max(1, _CHUNK // signs.shape[1])
    chunks = (signs[start : start + rows].astype(float) for start in range(0, len(signs), rows))
    return np.concatenate([chunk @ by_patient for chunk in chunks])
