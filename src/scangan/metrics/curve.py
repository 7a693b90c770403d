"""How many real patients synthetic images are worth: read off the curve of an arm without them over its patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from sklearn.isotonic import isotonic_regression

from scangan.arms import find_arm
from scangan.config import Evaluation
from scangan.metrics.classification import GanSeeds
from scangan.metrics.comparison import (
    Replicates,
    compare_arms,
    contrast,
    counterpart,
    replicates_of_arms,
    score_between,
    smaller_classes,
)

WORTH = ["worth", "worth_low", "worth_high"]
STEPS = 100  # between two points of a curve, at which it is asked whether an arm may be as good
COLUMNS = [
    *("share", "patients", "arm", "metric", "value", "ci_low", "ci_high", "seeds", "cases"),
    *("against", "difference", "difference_low", "difference_high", "detectable", *WORTH, "least", "most"),
]


def score_curve(
    predictions: Mapping[float, Mapping[str, Sequence[pd.DataFrame]]],
    patients: Mapping[float, int],
    positive: str,
    settings: Evaluation,
    gan_seeds: GanSeeds | None = None,
) -> pd.DataFrame:
    """The primary metric of every arm with every share of the training patients, and what synthetic images are worth.

    predictions: share -> what `metrics.scores.score_arms` takes; all are of the same test images. patients:
    share -> training patients.
    Returns the COLUMNS, one row a share and arm:

    - value, ci_low, ci_high, seeds, cases: as of `score_arms`.
    - of an arm with synthetic images whose counterpart without is there too (`against`): the difference and what could
      be shown, as of `metrics.comparison.compare_arms` among the arms of this share; worth: so many more real patients
      the counterpart would need to be as good, between `least` and `most`, beyond which there is no curve;
      worth_low, worth_high: its 95% interval, see `as_good_between`; NaN where a class has a single patient.
    """
    of_share = {(share, arm): tables for share, arms in predictions.items() for arm, tables in arms.items()}
    seeds = {key: gan_seeds[key[1]] if gan_seeds else [None] * len(tables) for key, tables in of_share.items()}
    by_metric = replicates_of_arms(of_share, positive, [settings.primary], seeds)
    replicates = {key: found[settings.primary] for key, found in by_metric.items()}
    values = {key: float(found.value.mean()) for key, found in replicates.items()}
    smaller = smaller_classes(of_share, positive, [settings.primary])[settings.primary]
    shares = sorted(predictions)
    numbers = np.array([patients[share] for share in shares])
    rows = []
    for share in shares:
        compared = compare_arms(predictions[share], positive, settings, gan_seeds)
        compared = compared[(compared["metric"] == settings.primary) & compared["counterpart"].astype(bool)]
        by_arm = compared.set_index("arm")
        for arm, tables in predictions[share].items():
            value, between = values[share, arm], score_between(replicates[share, arm], smaller)
            test = tables[0][tables[0]["split"] == "test"]
            row = {"share": share, "patients": patients[share], "arm": arm, "metric": settings.primary, "value": value}
            row |= dict(zip(("ci_low", "ci_high"), between, strict=True))
            row |= {"seeds": len(tables), "cases": len(test)}
            if arm in by_arm.index:
                against = counterpart(find_arm(arm))
                curve = np.array([values[each, against] for each in shares])
                points = [replicates[each, against] for each in shares]
                low, high = as_good_between(replicates[share, arm], points, numbers)
                as_good = (patients_worth(curve, numbers, value), low, high)
                row |= {name: number - patients[share] for name, number in zip(WORTH, as_good, strict=True)}
                row |= {"least": numbers[0] - patients[share], "most": numbers[-1] - patients[share]}
                shown = ["against", "difference", "difference_low", "difference_high", "detectable"]
                row |= by_arm.loc[arm, shown].to_dict()
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def patients_worth(curve: np.ndarray, patients: np.ndarray, value: float) -> float:
    """The real patients with whom a curve is as high as a value; the least or the most of them beyond its ends.

    curve: the metric with so many patients, ascending [shares]; made to rise by isotonic regression, and read on a
    logarithmic scale of patients, on which learning curves are straight for a while. Where it is level, the fewest
    patients count.
    """
    rising = isotonic_regression(curve)
    after = int(np.searchsorted(rising, value))  # the first that is as high
    if after in (0, len(rising)):
        return float(patients[min(after, len(rising) - 1)])
    below, above = rising[after - 1 : after + 1]
    share = (value - below) / (above - below)
    return float(patients[after - 1] ** (1 - share) * patients[after] ** share)


def as_good_between(arm: Replicates, curve: Sequence[Replicates], patients: np.ndarray) -> tuple[float, float]:
    """The fewest and the most patients with whom another arm may be as good as this one: a 95% interval.

    Those whose difference to this arm has an interval, as of `comparison.compare`, that holds 0: the set of what is not
    rejected holds the truth as often as the test keeps its level (Fieller). curve: the other arm with so many patients,
    ascending; between two points it is their mean, weighted on the logarithmic scale. Where the arm is better or worse
    than all of the curve: its end. NaN where the test knows no spread.
    """
    accepted, last = [], np.nan
    for (left, right), (fewer, more) in zip(pairwise(curve), pairwise(patients), strict=True):
        for share in np.linspace(0, 1, STEPS + 1):
            weighted = [(1.0, arm), (share - 1, left), (-share, right)]
            found = contrast([(weight, each) for weight, each in weighted if weight])
            last = found.value
            if np.isnan(found.margin):
                return np.nan, np.nan
            if abs(found.value) <= found.margin:
                accepted.append(float(fewer ** (1 - share) * more**share))
    if accepted:
        return min(accepted), max(accepted)
    end = float(patients[-1] if last > 0 else patients[0])
    return end, end


def worth_sentences(curve: pd.DataFrame) -> list[str]:
    """What the rows of `score_curve` say, one sentence for each share and arm that has an answer."""
    return [_sentence(row) for row in curve.dropna(subset="worth").to_dict("records")]


def _sentence(row: Mapping[str, Any]) -> str:
    beside = f"Beside {row['patients']} training patients, synthetic images are worth"
    shown = {name: _number(row[name], row["least"], row["most"]) for name in WORTH}
    low, high = shown["worth_low"], shown["worth_high"]
    interval = f"[{low}]" if low == high else f"[{low} to {high}]"
    difference = f"{row['difference']:+.3f}"
    if pd.notna(row["difference_low"]):
        difference += f" [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
    could = "" if pd.isna(row["detectable"]) else f", could show {row['detectable']:.3f}"
    return (
        f"{beside} {shown['worth']} real patients {interval}: {row['metric']} of `{row['arm']}` minus that of "
        f"`{row['against']}` is {difference}{could}."
    )


def _number(worth: float, least: float, most: float) -> str:
    """Whole patients; beyond the ends of the curve it is not known how many."""
    if np.isnan(worth):
        return "unknown"
    if worth <= least:
        return f"{least:.0f} or fewer"
    return f"{most:.0f} or more" if worth >= most else f"{round(worth)}"
