"""Does a cohort's label give the scanner away?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from scangan.config import Evaluation
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.patients import draw_patients, interval_of, tidy_table

NUMBERS = ("size", "grain")  # what is told of a scan beside its label


def scanner_test(
    before: pd.DataFrame,
    after: pd.DataFrame,
    settings: Evaluation,
    facts: Facts,
    places: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Does the label give the scanner away? Balanced accuracy of telling the scanner from the label alone.

    before, after: the cohort before and after the mix (CT-SGAN, figure 3a), a row a scan: `patient_id, label, scanner,
    split`. A decision tree, each scanner weighing the same, is fitted to the patients of the split `train` and measured
    on those of `test`. Variants: `before` (1: the label names the scanner), `after` (1 / scanners: it says nothing),
    `chance`, and the metric `scanner_balanced_accuracy`; the bootstrap draws patients of each scanner apart.
    places: of `mix.edit_scans`; with them there is the variant `after, size and grain`: the tree, of at most three
    questions, is told a scan's largest nodule and the median grain of its nodules and edited places as well.
    Raises DataError on a missing column, on one scanner only, and if a part lacks a scanner of the other one.
    """
    rows = []
    variants = {"before": before, "after": after}
    if places is not None:
        of_scan = places.assign(size=places.diameter_mm.where(places.source != "", 0.0)).groupby("scan_id")
        found = pd.DataFrame({"size": of_scan["size"].max(), "grain": of_scan["grain"].median()})
        found = after[["scan_id"]].join(found, on="scan_id").fillna({"size": 0.0, "grain": 1.0})
        variants["after, size and grain"] = after.assign(**{name: found[name] for name in NUMBERS})
    for variant, table in variants.items():
        value, interval, count = _tell_scanner(table, settings, variant)
        rows.append((variant, "scanner_balanced_accuracy", value, *interval, count))
    rows.append(("chance", "scanner_balanced_accuracy", 1 / after.scanner.nunique(), np.nan, np.nan, rows[-1][-1]))
    return tidy_table(rows, facts)


def compare_sizes(places: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """Are injected nodules as large as the annotated ones? Two-sample Kolmogorov-Smirnov test of those after the mix.

    places: of `mix.edit_scans`. The variant `after`, with the metrics `sizes_ks` (the greatest difference of the shares
    below a size: 0 to 1) and `sizes_ks_p` (its p value); NaN where there are none of either kind. images: nodules.
    """
    sizes = [places.diameter_mm[places.source == source].dropna() for source in ("injected", "annotated")]
    found = ks_2samp(*sizes) if all(map(len, sizes)) else (np.nan, np.nan)
    count = sum(map(len, sizes))
    metrics = zip(("sizes_ks", "sizes_ks_p"), found, strict=True)
    return tidy_table([("after", metric, value, np.nan, np.nan, count) for metric, value in metrics], facts)


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

    numbers = [name for name in NUMBERS if name in table.columns]

    def told(rows: pd.DataFrame) -> np.ndarray:
        return np.column_stack([rows.label.to_numpy()[:, None] == np.array(labels), rows[numbers].to_numpy(float)])

    # Of labels alone a tree is its own limit; of numbers it would learn the scans by heart.
    limits = {"max_depth": 3, "min_samples_leaf": max(1, len(train) // 20)} if numbers else {}
    tree = DecisionTreeClassifier(class_weight="balanced", random_state=0, **limits).fit(told(train), train.scanner)
    correct = tree.predict(told(test)) == test.scanner.to_numpy()
    members = (test.scanner.to_numpy()[:, None] == np.array(scanners)).astype(float)  # [N, scanners]
    weights = draw_patients(test.patient_id, settings, test.scanner)
    hits, totals = weights @ (members * correct[:, None]), weights @ members
    value = (correct @ members / members.sum(0)).mean()
    return float(value), interval_of((hits / totals).mean(1)), len(test)
