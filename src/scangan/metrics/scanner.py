"""Does a cohort's label give the scanner away?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from scangan.config import Evaluation
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.patients import draw_patients, interval_of, tidy_table


def scanner_test(before: pd.DataFrame, after: pd.DataFrame, settings: Evaluation, facts: Facts) -> pd.DataFrame:
    """Does the label give the scanner away? Balanced accuracy of telling the scanner from the label alone.

    before, after: the cohort before and after the mix (CT-SGAN, figure 3a), a row a scan: `patient_id, label, scanner,
    split`. A decision tree, each scanner weighing the same, is fitted to the patients of the split `train` and measured
    on those of `test`. Variants: `before` (1: the label names the scanner), `after` (1 / scanners: it says nothing),
    `chance`, and the metric `scanner_balanced_accuracy`; the bootstrap draws patients of each scanner apart.
    Raises DataError on a missing column, on one scanner only, and if a part lacks a scanner of the other one.
    """
    rows = []
    for variant, table in (("before", before), ("after", after)):
        value, interval, count = _tell_scanner(table, settings, variant)
        rows.append((variant, "scanner_balanced_accuracy", value, *interval, count))
    rows.append(("chance", "scanner_balanced_accuracy", 1 / after.scanner.nunique(), np.nan, np.nan, rows[-1][-1]))
    return tidy_table(rows, facts)


def _tell_scanner(table: pd.DataFrame, settings: Evaluation, name: str) -> tuple[float, tuple[float, float], int]:
    from sklearn.tree import DecisionTreeClassifier

    where = f"scanner test, {name} the mix"
    if missing := sorted({"patient_id", "label", "scanner", "split"} - set(table.columns)):
        raise DataError(f"{where}: columns: found no {missing[0]}, allowed: patient_id, label, scanner, split")
    train, test = table[table.split == "train"], table[table.split == "test"]
    scanners = sorted(set(table.scanner))
    for part, found in (("train", sorted(set(train.scanner))), ("test", sorted(set(test.scanner)))):
        if len(scanners) < 2 or found != scanners:
            allowed = " and ".join(scanners) if len(scanners) > 1 else "at least two"
            raise DataError(f"{where}: scanner in {part}: found {', '.join(found) or 'none'}, allowed: {allowed}")
    labels = sorted(set(table.label))

    def one_hot(rows: pd.DataFrame) -> np.ndarray:
        return rows.label.to_numpy()[:, None] == np.array(labels)

    tree = DecisionTreeClassifier(class_weight="balanced", random_state=0).fit(one_hot(train), train.scanner)
    correct = tree.predict(one_hot(test)) == test.scanner.to_numpy()
    members = (test.scanner.to_numpy()[:, None] == np.array(scanners)).astype(float)  # [N, scanners]
    weights = draw_patients(test.patient_id, settings, test.scanner)
    hits, totals = weights @ (members * correct[:, None]), weights @ members
    value = (correct @ members / members.sum(0)).mean()
    return float(value), interval_of((hits / totals).mean(1)), len(test)
