"""Nodule detection over the nodules' size (CT-SGAN, figure 3b): predictions of volumes -> scores by diameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scangan.config import Evaluation
from scangan.errors import DataError
from scangan.metrics.classification import GanSeeds, score_arms

TEST, FREE, SIZED = "test", "free", "sized"  # parts of the predictions


def score_sizes(
    predictions: Mapping[str, Sequence[pd.DataFrame]],
    diameters_mm: Sequence[float],
    positive: str,
    settings: Evaluation,
    gan_seeds: GanSeeds | None = None,
) -> pd.DataFrame:
    """Scores of every arm on the test volumes as they are, and for each diameter of simulated nodules.

    predictions: arm -> one table a training: `image_id, patient_id, label, split, diameter_mm, probability`. Of the
    splits `test` holds the test volumes of the mix, `free` those without nodules, and `sized` the free ones with
    nodules of just one diameter put into them; others are not looked at. gan_seeds: as of `score_arms`.
    Returns `diameter_mm` and the columns of `metrics.classification.score_arms`, first of `test` (diameter missing),
    then of each diameter.

    The test set of a diameter is balanced: free and sized volumes of every patient who has as many of the one kind as
    of the other. So a patient has both labels. The bootstrap draws patients with all of their volumes, hence as pairs:
    that a free volume and its copy with nodules look alike is accounted for.
    Raises DataError naming a diameter of which no patient has a pair, and as `score_arms` does.
    """
    sets = [(np.nan, {arm: list(tables) for arm, tables in predictions.items()})]
    for diameter in diameters_mm:
        of_size = {arm: [_pair(table, diameter) for table in tables] for arm, tables in predictions.items()}
        if any(table.empty for tables in of_size.values() for table in tables):
            raise DataError(
                f"predictions: diameter_mm: found no patient with as many volumes with nodules of {diameter:g} mm as "
                "without nodules, allowed: at least one"
            )
        sets.append((float(diameter), of_size))
    scores = []
    for diameter, tables in sets:
        table = score_arms(tables, positive, settings, gan_seeds)
        table.insert(0, "diameter_mm", diameter)
        scores.append(table)
    return pd.concat(scores, ignore_index=True)


def _pair(table: pd.DataFrame, diameter_mm: float) -> pd.DataFrame:
    """The free volumes, and those with nodules of this diameter, of patients with as many of either, as `test`."""
    free = table[table["split"] == FREE]
    sized = table[(table["split"] == SIZED) & np.isclose(table["diameter_mm"].astype(float), diameter_mm)]
    counts = pd.DataFrame({kind: rows["patient_id"].value_counts() for kind, rows in ((FREE, free), (SIZED, sized))})
    paired = counts.index[counts[FREE] == counts[SIZED]]
    both = pd.concat([free, sized], ignore_index=True)
    return both[both["patient_id"].isin(paired)].assign(split=TEST)
