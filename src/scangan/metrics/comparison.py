"""The difference between arms with and without synthetic images, and how sure it is.

Trainings and test cases are both random, like readers and cases of a multi-reader multi-case study, and so they are
taken: by the model of Obuchowski and Rockette (1995), in the split-plot form of Hillis (Statistics in Medicine 33,
2014) with readers nested within test and cases crossed, for trainings of two arms share nothing but the number of their
seed. Hillis pools the spread between trainings over the arms; here each arm has its own, because synthetic images may
make trainings more or less alike, and the degrees of freedom are Satterthwaite's for both. Covariances over the cases
are by jackknife, a patient with all images at a time, within patients of the same labels; of the AUC that is DeLong's
estimate. How well it keeps its promises: docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, gammaln, logit

from scangan.arms import Arm, find_arm
from scangan.config import Evaluation
from scangan.metrics.classification import (
    CHUNK,
    GanSeeds,
    Key,
    align_classes,
    align_images,
    both_classes,
    class_names,
    labels_of,
    number_generators,
    number_replicates,
    number_strata,
)
from scangan.metrics.classifier_metrics import Classes, find_metric, metrics_of, weighted_metrics

LEVEL, POWER = 0.05, 0.8  # of the tests, and of what they are said to be able to show
_NORMAL = 1e4  # degrees of freedom from which t is the normal distribution
_NOTHING = 1e-15  # a variance that is rounding
COLUMNS = [
    *("arm", "against", "counterpart", "control", "best", "metric", "difference", "difference_low", "difference_high"),
    *("detectable", "p_holm", "trainings", "against_trainings", "generators", "patients", "smaller_class", "cases"),
    *("training_variance", "case_variance"),
]


@dataclass(frozen=True)
class Replicates:
    """One metric of one arm's independent trainings on the same test patients.

    value: [n]. influence: [n, patients], what each patient adds: sums of products over the patients are the covariances
    of the trainings' values over the cases.
    """

    value: np.ndarray
    influence: np.ndarray

    @cached_property
    def spread(self) -> float:
        """Variance of the mean, from the spread between trainings: theirs, and that of cases as each sees them."""
        return self.value.var(ddof=1) / len(self.value)

    @cached_property
    def own_noise(self) -> float:
        """That part of `spread` which the cases explain: Var1 - Cov2 in Obuchowski and Rockette's terms, over n."""
        return self.influence.var(axis=0, ddof=1).sum() / len(self.value)


@dataclass(frozen=True)
class Difference:
    """The difference of two arms' mean scores.

    difference_low, difference_high: its 95% interval. p_value: two-sided. detectable: the smallest true difference that
    so many trainings and cases show (p < 0.05) with a power of 80%. training_variance, case_variance: of the
    difference, what is due to the trainings, and what to the cases with these trainings fixed.
    All but the difference are NaN where nothing varies, or where a class has a single patient. Where an arm has a
    single training the interval covers the cases alone, and there is no p value.
    """

    difference: float
    difference_low: float
    difference_high: float
    p_value: float
    detectable: float
    training_variance: float
    case_variance: float


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms' mean scores, its variance, and the degrees of freedom of that.

    training_variance, case_variance, replicated: as of `Difference`, and whether all arms have several trainings.
    """

    value: float
    variance: float
    freedom: float
    training_variance: float
    case_variance: float
    replicated: bool

    @property
    def margin(self) -> float:
        """Half of the 95% interval's width; NaN where nothing varies, or where a class has a single patient."""
        if not self.variance > _NOTHING:
            return np.nan
        return stats.t.ppf(1 - LEVEL / 2, self.freedom) * np.sqrt(self.variance)


def contrast(weighted: Sequence[tuple[float, Replicates]]) -> Contrast:
    """The sum of weight times mean score over arms that are tested on the same cases; of none twice."""
    value = sum(weight * arm.value.mean() for weight, arm in weighted)
    case_variance = (sum(weight * arm.influence.mean(axis=0) for weight, arm in weighted) ** 2).sum()
    if not all(len(arm.value) > 1 for _, arm in weighted):
        return Contrast(value, case_variance, _NORMAL, np.nan, case_variance, replicated=False)
    own = sum(weight**2 * arm.own_noise for weight, arm in weighted)
    # n (Cov2 - Cov3) of Hillis: what the cases add to the difference that the spread does not show already.
    variance = sum(weight**2 * arm.spread for weight, arm in weighted) + max(case_variance - own, 0)
    uncertain = sum((weight**2 * arm.spread) ** 2 / (len(arm.value) - 1) for weight, arm in weighted)
    freedom = min(variance**2 / uncertain, _NORMAL) if uncertain else _NORMAL
    training_variance = sum(weight**2 * max(arm.spread - arm.own_noise, 0) for weight, arm in weighted)
    return Contrast(value, variance, freedom, training_variance, case_variance, replicated=True)


def compare(one: Replicates, other: Replicates) -> Difference:
    """The difference `one - other` of two arms that are tested on the same cases."""
    found = contrast([(1, one), (-1, other)])
    difference, margin = found.value, found.margin
    if np.isnan(margin):
        return Difference(difference, *[np.nan] * 6)
    error = np.sqrt(found.variance)
    p_value = 2 * stats.t.sf(abs(difference) / error, found.freedom) if found.replicated else np.nan
    return Difference(
        *(difference, max(difference - margin, -1), min(difference + margin, 1), p_value),
        *(detectable_difference(error, found.freedom), found.training_variance, found.case_variance),
    )


def score_between(arm: Replicates, patients: int) -> tuple[float, float]:
    """The 95% interval of one arm's mean score, within 0 and 1: by the same model, on the logit scale.

    patients: of the smaller class. The interval is never narrower than the cases alone make it, which is all that is
    known of a single training. Where nothing varies it is that of Clopper and Pearson for so many patients at a score
    of 0 or 1, and NaN elsewhere, as where a class has a single patient.
    """
    found = contrast([(1.0, arm)])
    value, variance = found.value, max(found.variance, found.case_variance)
    if variance > _NOTHING:
        margin = stats.t.ppf(1 - LEVEL / 2, found.freedom) * np.sqrt(variance) / (value * (1 - value))
        return float(expit(logit(value) - margin)), float(expit(logit(value) + margin))
    if value not in (0, 1) or np.isnan(variance):
        return np.nan, np.nan
    uncertain = 1 - (LEVEL / 2) ** (1 / patients)
    return (0.0, uncertain) if value == 0 else (1 - uncertain, 1.0)


@dataclass(frozen=True)
class Pair:
    """An arm with synthetic images, and one without that it is compared with, for one or more of three reasons.

    counterpart: it has the same real images alone. control: it has copies of them in place of the synthetic ones.
    best: it is the best without synthetic images.
    """

    arm: str
    against: str
    counterpart: bool
    control: bool
    best: bool


def detectable_difference(error: float, freedom: float) -> float:
    """The true difference that a t test finds at the level 0.05 with a power of 0.8.

    error: estimated standard error, on average too small with few degrees of freedom, for which the answer makes up.
    """
    critical = stats.t.ppf(1 - LEVEL / 2, freedom)
    errors = brentq(lambda distance: stats.nct.sf(critical, freedom, distance) - POWER, 0, 3 * critical, xtol=1e-3)
    shrinkage = np.sqrt(2 / freedom) * np.exp(gammaln((freedom + 1) / 2) - gammaln(freedom / 2))
    return errors * error / shrinkage


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's corrected p values [n] of so many tests; those that are NaN stay so, but count as tests."""
    order = np.argsort(p_values)  # NaN last
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def counterpart(arm: Arm) -> str:
    """The arm of the same real images without the synthetic ones; for synthetic ones alone it is `real`."""
    return "real+classical" if any(phase.classical for phase in arm.phases) else "real"


def compare_arms(
    predictions: Mapping[str, Sequence[pd.DataFrame]],
    positive: str,
    settings: Evaluation,
    gan_seeds: GanSeeds | None = None,
    part: str = "test",
    metrics: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Every arm with synthetic images against its counterpart without, its control, and the best arm without.

    predictions: arm -> one table a training: as `metrics.scores.score_arms` takes them.
    gan_seeds: the generators behind them; None: one. Where an arm has several generators they are its replicates, each
    the mean over its classifiers, which are no independent ones. Where it has one, the interval is of this generator,
    not of another.
    part: the `split` of the test images. metrics: which; None: those of the table `classification`.

    The best arm without synthetic images is that with the highest primary metric on the validation images: chosen on
    the test images it would be the luckiest, too, and the test no longer valid.
    Returns the COLUMNS, one row a pair and metric; none if there is nothing to compare:

    - counterpart, control, best: what `against` is to the arm, see `Pair`.
    - those of `Difference`; p_holm: of the primary metric alone, Holm's p value for all pairs together.
    - trainings, against_trainings: independent ones of the two arms; generators: that the arm's images are from.
    - smaller_class: patients with images of the class of which fewest patients have any; of one class against the
      rest of the smaller of both.

    Raises DataError as `score_arms` does, and without validation images where several arms have no synthetic ones.
    """
    pairs = _pairs(predictions, positive, settings.primary)
    if not pairs:
        return pd.DataFrame(columns=COLUMNS)
    cases, _ = align_images(predictions, part)
    patients = cases["patient_id"].nunique()
    chosen = metrics_of("classification", class_names(predictions)) if metrics is None else metrics
    smaller = smaller_classes(predictions, positive, chosen, part)
    compared = {arm: predictions[arm] for pair in pairs for arm in (pair.arm, pair.against)}
    replicates = replicates_of_arms(compared, positive, chosen, gan_seeds, part)
    rows = []
    for pair, metric in product(pairs, chosen):
        one, other = replicates[pair.arm][metric], replicates[pair.against][metric]
        rows.append(
            asdict(pair)
            | {"metric": metric, "trainings": len(one.value), "against_trainings": len(other.value)}
            | {"generators": len(set(gan_seeds[pair.arm])) if gan_seeds else 1, "cases": len(cases)}
            | {"patients": patients, "smaller_class": smaller[metric]}
            | asdict(compare(one, other))
        )
    table = pd.DataFrame(rows)
    primary = table["metric"] == settings.primary
    table.loc[primary, "p_holm"] = holm(table.loc[primary, "p_value"].to_numpy())
    return table[COLUMNS]


def replicates_of_arms(
    predictions: Mapping[Key, Sequence[pd.DataFrame]],
    positive: str,
    metrics: Sequence[str],
    gan_seeds: Mapping[Key, Sequence[int | None]] | None = None,
    part: str = "test",
) -> dict[Key, dict[str, Replicates]]:
    """Arm -> metric -> its replicates. Arguments as of `compare_arms`; any keys may stand for arms."""
    cases, probabilities = align_images(predictions, part)
    is_positive, patient = both_classes(cases, positive, part), pd.factorize(cases["patient_id"])[0]
    fold, of_classes = cases["fold"].to_numpy(), any(find_metric(metric).of_classes for metric in metrics)
    classes = align_classes(predictions, cases, part) if of_classes else {}
    found = {}
    for arm, rows in probabilities.items():
        generator = number_generators(gan_seeds[arm] if gan_seeds else [None] * len(rows))
        found[arm] = replicates_of(rows, is_positive, patient, generator, metrics, fold, classes.get(arm))
    return found


def replicates_of(
    probability: np.ndarray,
    is_positive: np.ndarray,
    patient: np.ndarray,
    generator: np.ndarray,
    metrics: Sequence[str],
    fold: np.ndarray | None = None,
    classes: Classes | None = None,
) -> dict[str, Replicates]:
    """Metric -> one arm's replicates.

    probability: [trainings, N]; is_positive, patient: [N], patients numbered from 0; generator: [trainings], numbered
    from 0: where there are several, their classifiers' means are the replicates; fold: [N], None without; classes: None
    of two.
    """
    values = weighted_metrics(probability, is_positive, np.ones((1, len(patient))), metrics, fold, classes)
    influences = influence_of_patients(probability, is_positive, patient, metrics, fold, classes)
    group = number_replicates(generator)
    mean = np.eye(group.max() + 1)[group].T / np.bincount(group)[:, None]  # [replicates, trainings]
    return {metric: Replicates(mean @ values[metric][0], mean @ influences[metric]) for metric in metrics}


def influence_of_patients(
    probability: np.ndarray,
    is_positive: np.ndarray,
    patient: np.ndarray,
    metrics: Sequence[str],
    fold: np.ndarray | None = None,
    classes: Classes | None = None,
) -> dict[str, np.ndarray]:
    """Metric -> [trainings, patients]: how a score changes without a patient, within patients of the same labels.

    Scaled so that the sum over the patients of the products of two trainings is the jackknife's covariance of their
    scores over the cases. NaN where a class has a single patient, without whom there is no score.
    """
    patients = patient.max() + 1
    strata = {metric: number_strata(labels_of(patient, _label_of(metric, is_positive, classes))) for metric in metrics}
    known = [metric for metric in metrics if smaller_class(patient, _label_of(metric, is_positive, classes)) > 1]
    without: dict[str, list[np.ndarray]] = {metric: [] for metric in known}
    for left_out in np.array_split(np.arange(patients), -(-patients * len(patient) // CHUNK)) if known else ():
        weights = (left_out[:, None] != patient).astype(float)
        for metric, values in weighted_metrics(probability, is_positive, weights, known, fold, classes).items():
            without[metric].append(values)
    influences = {metric: np.full((len(probability), patients), np.nan) for metric in metrics}
    for metric, found in without.items():
        influence = influences[metric] = np.concatenate(found).T
        for members in (strata[metric] == each for each in np.unique(strata[metric])):
            influence[:, members] -= influence[:, members].mean(axis=1, keepdims=True)
            influence[:, members] *= np.sqrt(1 - 1 / np.count_nonzero(members))
    return influences


def _label_of(metric: str, is_positive: np.ndarray, classes: Classes | None) -> np.ndarray:
    """The classes [N] that a metric tells apart: all, or the positive one and the rest."""
    return classes.label if classes is not None and find_metric(metric).of_classes else is_positive


def smaller_classes(
    predictions: Mapping[Key, Sequence[pd.DataFrame]], positive: str, metrics: Sequence[str], part: str = "test"
) -> dict[str, int]:
    """Metric -> patients with images of the class of which fewest have any, of those that it tells apart."""
    cases, _ = align_images(predictions, part)
    is_positive, patient = both_classes(cases, positive, part), pd.factorize(cases["patient_id"])[0]
    of_classes = any(find_metric(metric).of_classes for metric in metrics)
    classes = next(iter(align_classes(predictions, cases, part).values())) if of_classes else None
    return {metric: smaller_class(patient, _label_of(metric, is_positive, classes)) for metric in metrics}


def smaller_class(patient: np.ndarray, label: np.ndarray) -> int:
    """Patients with images of the class of which fewest patients have any."""
    return int(labels_of(patient, label).sum(axis=0).min())


def _pairs(predictions: Mapping[str, Sequence[pd.DataFrame]], positive: str, primary: str) -> list[Pair]:
    """What is compared with what, in the order of the arms."""
    without = [arm for arm in predictions if not find_arm(arm).reads_synthetic]
    if not 0 < len(without) < len(predictions):
        return []
    best = without[0] if len(without) == 1 else _best(predictions, without, positive, primary)
    pairs = []
    for arm in (arm for arm in predictions if arm not in without):
        own, control = counterpart(find_arm(arm)), find_arm(arm).control
        against = dict.fromkeys([*(other for other in (own, control) if other in without), best])
        pairs += [Pair(arm, other, other == own, other == control, other == best) for other in against]
    return pairs


def _best(predictions: Mapping[str, Sequence[pd.DataFrame]], arms: Sequence[str], positive: str, primary: str) -> str:
    """The arm with the highest mean primary metric on the validation images."""
    cases, probabilities = align_images({arm: predictions[arm] for arm in arms}, "validation")
    is_positive, fold = both_classes(cases, positive, "validation"), cases["fold"].to_numpy()
    of_classes = find_metric(primary).of_classes
    classes = align_classes(predictions, cases, "validation") if of_classes else {}
    everyone = np.ones((1, len(cases)))
    means = {
        arm: weighted_metrics(rows, is_positive, everyone, [primary], fold, classes.get(arm))[primary].mean()
        for arm, rows in probabilities.items()
    }
    return max(means, key=means.__getitem__)
