"""Nodule detection over the nodules' size (CT-SGAN, figure 3b): predictions of volumes -> scores by diameter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from scangan.errors import DataError
from scangan.metrics.classification import GanSeeds
from scangan.metrics.scores import score_arms

TEST, FREE, SIZED = "test", "free", "sized"  # parts of the predictions
AUC_REAL, AUC_INJECTED, AUC_SHAM = "auc_real", "auc_injected", "auc_sham"  # metrics beside those of `score_arms`


def score_sizes(
    predictions: Mapping[str, Sequence[pd.DataFrame]],
    diameters_mm: Sequence[float],
    positive: str,
    gan_seeds: GanSeeds | None = None,
    injected: Collection[str] = (),
) -> pd.DataFrame:
    """Scores of every arm on the test volumes as they are, and for each diameter of simulated nodules.

    predictions: arm -> one table a training: `image_id, patient_id, label, split, diameter_mm, probability`. Of the
    splits `test` holds the test volumes of the mix, `free` those without nodules, and `sized` the free ones with
    nodules of just one diameter put into them, and, where there are any, their shams: edited at the same places, with
    no nodule there. Others are not looked at. gan_seeds: as of `score_arms`. injected: ids of the test volumes whose
    nodules are injected.
    Returns `diameter_mm` and the columns of `metrics.scores.score_arms`, first of `test` (diameter missing),
    then of each diameter; and besides, where there are such volumes,

    - `auc_real`, `auc_injected` of `test`: of volumes with real nodules alone, and of those with injected ones alone,
      against all without.
    - `auc_sham` of each diameter: of telling shams from untouched volumes, which should be 0.5.

    The test set of a diameter is balanced: sized volumes and their shams (without any, the free ones) of every patient
    who has as many of the one kind as of the other. So a patient has both labels. The intervals are over patients
    with all of their volumes, hence pairs: that a volume and its copy with nodules look alike is accounted for.
    Raises DataError naming a diameter of which no patient has a pair, and as `score_arms` does.
    """
    scores: list[pd.DataFrame] = []

    def score(choose: Callable[[pd.DataFrame], pd.DataFrame], diameter_mm: float, auc: str | None = None) -> None:
        """Of what is chosen of each table; auc: this metric alone, and what it is called."""
        chosen = {arm: [choose(table) for table in tables] for arm, tables in predictions.items()}
        table = score_arms(chosen, positive, gan_seeds)
        if auc is not None:
            table = table[table["metric"] == "auc"].assign(metric=auc)
        table.insert(0, "diameter_mm", diameter_mm)
        scores.append(table)

    first = next(iter(predictions.values()))[0]  # all hold the same volumes
    score(partial(_without, image_ids=set()), np.nan)
    of_test = first[(first["split"] == TEST) & (first["label"] == positive)]["image_id"]
    is_injected = of_test.isin(injected)
    if is_injected.any() and not is_injected.all():
        for name, others in ((AUC_REAL, set(of_test[is_injected])), (AUC_INJECTED, set(of_test[~is_injected]))):
            score(partial(_without, image_ids=others), np.nan, name)
    for diameter in map(float, diameters_mm):
        pairs = [_pair(table, diameter, positive) for tables in predictions.values() for table in tables]
        if any(pair.empty for pair in pairs):
            raise DataError(
                f"predictions: diameter_mm: found no patient with as many volumes with nodules of {diameter:g} mm as "
                "without nodules, allowed: at least one"
            )
        score(partial(_pair, diameter_mm=diameter, positive=positive), diameter)
        if len(_of_size(first, diameter, positive)[1]):
            score(partial(_shams, diameter_mm=diameter, positive=positive), diameter, AUC_SHAM)
    return pd.concat(scores, ignore_index=True)


def _without(table: pd.DataFrame, image_ids: set[str]) -> pd.DataFrame:
    return table[~table["image_id"].isin(image_ids)]


def _of_size(table: pd.DataFrame, diameter_mm: float, positive: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The volumes with nodules of this diameter, and their shams."""
    sized = table[(table["split"] == SIZED) & np.isclose(table["diameter_mm"].astype(float), diameter_mm)]
    return sized[sized["label"] == positive], sized[sized["label"] != positive]


def _pair(table: pd.DataFrame, diameter_mm: float, positive: str) -> pd.DataFrame:
    """Volumes with nodules of this diameter and their counterparts without, as `test`."""
    sized, shams = _of_size(table, diameter_mm, positive)
    return _balance(shams if len(shams) else table[table["split"] == FREE], sized)


def _shams(table: pd.DataFrame, diameter_mm: float, positive: str) -> pd.DataFrame:
    """Untouched volumes, and their shams of this diameter as if these were positive, as `test`."""
    _, shams = _of_size(table, diameter_mm, positive)
    return _balance(table[table["split"] == FREE], shams.assign(label=positive))


def _balance(negative: pd.DataFrame, positive: pd.DataFrame) -> pd.DataFrame:
    """Both kinds of the patients who have as many volumes of either."""
    kinds = {"negative": negative, "positive": positive}
    counts = pd.DataFrame({kind: rows["patient_id"].value_counts() for kind, rows in kinds.items()})
    paired = counts.index[counts["negative"] == counts["positive"]]
    both = pd.concat(list(kinds.values()), ignore_index=True)
    return both[both["patient_id"].isin(paired)].assign(split=TEST)
