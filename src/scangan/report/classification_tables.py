"""Tables of the classifiers' scores; which metrics stand in which is said by `metrics.classifier_metrics.METRICS`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scangan.arms import ARMS
from scangan.facts import Facts
from scangan.metrics.classifier_metrics import METRICS, Table, metrics_of
from scangan.report.tables import CLASSIFICATION_COLUMNS, write_table

SIZES_COLUMNS = [
    *("study", "arm", "diameter_mm", "metric", "value", "ci_low", "ci_high", "seeds", "cases", "p_value"),
    *("data", "scale"),
]
SIZES_NOTE = (
    "A row without diameter: the test volumes as they are. With a diameter: each nodule-free test volume, and the same "
    "volume with nodules of this size put into it; so chance is 0.5."
)


def classification_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """`classification.csv` from what `score_arms` returns: accuracy, sensitivity, specificity, F1, AUC of each arm."""
    return _table("classification", scores, list(ARMS), facts)[CLASSIFICATION_COLUMNS]


def calibration_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """`calibration.csv`, in the columns of `classification.csv`: Brier score and expected calibration error."""
    return _table("calibration", scores, list(ARMS), facts)[CLASSIFICATION_COLUMNS]


def sizes_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """Figure 3(b) of CT-SGAN in numbers (`detection.csv`), from what `metrics.detection.score_sizes` returns.

    Accuracy, sensitivity, specificity and AUC of each arm: of the test volumes as they are (diameter missing), then of
    each diameter.
    """
    return _table("detection", scores, list(scores["arm"].unique()), facts)[SIZES_COLUMNS]


def write_scores(
    tidy: pd.DataFrame, csv_path: str | Path, md_path: str | Path, index: str | list[str], note: str = ""
) -> None:
    """`report.tables.write_table`, with each metric's own number of decimals."""
    write_table(tidy, csv_path, md_path, index, note, {name: metric.decimals for name, metric in METRICS.items()})


def _table(name: Table, scores: pd.DataFrame, arms: list[str], facts: Facts) -> pd.DataFrame:
    """The scores of the table's metrics, arm by arm in this order, with all columns."""
    chosen = facts.assign(scores[scores["metric"].isin(metrics_of(name))])
    return chosen.sort_values("arm", key=lambda column: column.map(arms.index), kind="stable", ignore_index=True)
