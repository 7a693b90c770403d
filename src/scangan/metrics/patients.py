"""The bootstrap over patients of the nodules' tables, and the columns of these tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scangan.config import Evaluation
from scangan.facts import Facts

COLUMNS = ["study", "variant", "metric", "value", "ci_low", "ci_high", "images", "data", "scale"]


def draw_patients(patient_id: pd.Series, settings: Evaluation, stratum: pd.Series | None = None) -> np.ndarray:
    """[bootstrap, N]: how often each bootstrap sample drew a row's patient; within each stratum, if there are any."""
    rng = np.random.default_rng([settings.seed, 6])
    patient = pd.factorize(patient_id)[0]
    strata = np.zeros(len(patient), int) if stratum is None else pd.factorize(stratum)[0]
    # A patient who is in two strata is drawn in each of them.
    unit, _ = pd.factorize(pd.Series(list(zip(strata, patient, strict=True))))
    weights = np.zeros((settings.bootstrap, len(patient)))
    for number in np.unique(strata):
        rows = np.flatnonzero(strata == number)
        units, index = np.unique(unit[rows], return_inverse=True)
        drawn = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), settings.bootstrap)
        weights[:, rows] = drawn[:, index]
    return weights


def interval_of(values: np.ndarray) -> tuple[float, float]:
    """The 95% interval of a statistic's bootstrap samples [bootstrap]."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def tidy_table(rows: list[tuple], facts: Facts) -> pd.DataFrame:
    """Rows `variant, metric, value, ci_low, ci_high, images` as a table with COLUMNS."""
    return facts.assign(pd.DataFrame(rows, columns=COLUMNS[1:7]))[COLUMNS]
