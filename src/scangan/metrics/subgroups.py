"""Classifier scores in groups of the test images: the scores and differences of the whole, of each group alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scangan.config import Evaluation
from scangan.data.subgroups import in_order
from scangan.metrics.classification import GanSeeds, align_images
from scangan.metrics.classifier_metrics import metrics_of
from scangan.metrics.comparison import compare_arms
from scangan.metrics.scores import score_arms

LEAST_PATIENTS = 2  # of each class, without whom there is no interval
SCORES = ["arm", "metric", "value", "ci_low", "ci_high", "seeds"]
DIFFERENCES = ["difference", "difference_low", "difference_high", "against"]


def score_subgroups(
    predictions: Mapping[str, Sequence[pd.DataFrame]],
    subgroup_of: Mapping[str, str],
    positive: str,
    settings: Evaluation,
    gan_seeds: GanSeeds | None = None,
) -> pd.DataFrame:
    """Every arm's scores in each subgroup of the test images, and its difference to the arm without synthetic ones.

    predictions, settings, gan_seeds: as of `metrics.scores.score_arms`. subgroup_of: image id -> its subgroup,
    of all images of the cohort. One row a subgroup, arm and metric of the table `classification`:

    - images, patients, positive_images, positive_patients, negative_images, negative_patients: in the subgroup's test
      images; a patient with images of both classes counts in both.
    - `SCORES`: as `score_arms` returns them. `DIFFERENCES`: to the counterpart, as `metrics.comparison.compare_arms`
      returns them, NaN of an arm without synthetic images. Nothing is tested.
    - not_scored: empty, or why a subgroup has no numbers; it then has a single row, without an arm.
    """
    cases, _ = align_images(predictions)
    group = cases["image_id"].map(subgroup_of)
    tables = []
    for name in in_order(set(subgroup_of.values())):
        members = cases[group == name]
        counts = _counts(members, members["label"] == positive)
        if reason := _not_scored(counts):
            scores = pd.DataFrame({column: [np.nan] for column in (*SCORES, *DIFFERENCES)})
        else:
            scores = _scores(_keep(predictions, set(members["image_id"])), positive, settings, gan_seeds)
        tables.append(scores.assign(subgroup=name, **counts, not_scored=reason))
    # Columns without any number are objects, which pandas would take for text.
    return pd.concat([table.astype({"arm": object, "against": object}) for table in tables], ignore_index=True)


def _counts(members: pd.DataFrame, is_positive: pd.Series) -> dict[str, int]:
    counts: dict[str, int] = {}
    for prefix, rows in (("", members), ("positive_", members[is_positive]), ("negative_", members[~is_positive])):
        counts |= {f"{prefix}images": len(rows), f"{prefix}patients": rows["patient_id"].nunique()}
    return counts


def _not_scored(counts: Mapping[str, int]) -> str:
    if not counts["images"]:
        return "no test images"
    if not (counts["positive_images"] and counts["negative_images"]):
        return "one class only"
    few = min(counts["positive_patients"], counts["negative_patients"]) < LEAST_PATIENTS
    return f"fewer than {LEAST_PATIENTS} patients of a class" if few else ""


def _keep(predictions: Mapping[str, Sequence[pd.DataFrame]], images: set[str]) -> dict[str, list[pd.DataFrame]]:
    """The same predictions with these test images alone; those of other parts stay."""
    return {
        arm: [table[(table["split"] != "test") | table["image_id"].isin(images)] for table in tables]
        for arm, tables in predictions.items()
    }


def _scores(
    predictions: Mapping[str, Sequence[pd.DataFrame]], positive: str, settings: Evaluation, gan_seeds: GanSeeds | None
) -> pd.DataFrame:
    # Of three or more classes too, for a subgroup may lack one.
    metrics = metrics_of("classification")
    scores = score_arms(predictions, positive, gan_seeds, metrics=metrics)
    comparisons = compare_arms(predictions, positive, settings, gan_seeds, metrics=metrics)
    differences = comparisons.loc[comparisons["counterpart"].astype(bool), ["arm", "metric", *DIFFERENCES]]
    return scores[SCORES].merge(differences, on=["arm", "metric"], how="left")
