"""The scanner test: what the label says of the scanner, against cases counted by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scangan.config import Evaluation
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.patients import COLUMNS
from scangan.metrics.scanner import compare_sizes, scanner_test

SETTINGS = Evaluation(bootstrap=400)
FACTS = Facts("ct_sgan", "phantom", "demo")


def cohort(rows):
    """rows: (patients, label, scanner, split)."""
    parts = [
        pd.DataFrame(
            {
                "patient_id": [f"{scanner}-{split}-{label}-{number}" for number in range(patients)],
                "label": label,
                "scanner": scanner,
                "split": split,
            }
        )
        for patients, label, scanner, split in rows
    ]
    return pd.concat(parts, ignore_index=True)


BEFORE = cohort(
    [(n, label, scanner, split) for split, n in (("train", 20), ("test", 8)) for label, scanner in ("nL", "hN")]
)
AFTER = cohort(
    [(n, label, scanner, split) for split, n in (("train", 10), ("test", 4)) for label in "nh" for scanner in "LN"]
)


def test_the_label_tells_the_scanner_before_the_mix_and_not_after():
    table = scanner_test(BEFORE, AFTER, SETTINGS, FACTS).set_index("variant")
    assert table.loc["before", ["value", "ci_low", "ci_high", "images"]].tolist() == [1, 1, 1, 16]
    assert table.loc["after", "value"] == table.loc["chance", "value"] == 0.5
    assert table.loc["after", "ci_low"] <= 0.5 <= table.loc["after", "ci_high"]
    assert list(table.reset_index()[COLUMNS].columns) == COLUMNS


def test_scanner_test_by_hand():
    """It learns to say L for n, N for h, which is right for 3 of 4 test patients with L and for 1 of 2 with N."""
    train = [(9, "n", "L", "train"), (1, "h", "L", "train"), (1, "n", "N", "train"), (3, "h", "N", "train")]
    test = [(3, "n", "L", "test"), (1, "h", "L", "test"), (1, "n", "N", "test"), (1, "h", "N", "test")]
    found = scanner_test(cohort(train + test), AFTER, Evaluation(bootstrap=4000), FACTS).iloc[0]
    assert found.value == pytest.approx((3 / 4 + 1 / 2) / 2)
    # The shares of either scanner's patients are binomial.
    values = [(i / 4 + j / 2) / 2 for i in range(5) for j in range(3)]
    likely = [stats.binom.pmf(i, 4, 0.75) * stats.binom.pmf(j, 2, 0.5) for i in range(5) for j in range(3)]
    order = np.argsort(values)
    low, high = np.interp([0.025, 0.975], np.cumsum(np.array(likely)[order]), np.array(values)[order])
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), abs=0.13)


def test_what_does_not_fit_the_scanner_test_is_named():
    with pytest.raises(DataError, match="scanner test, after the mix: columns: found no scanner, allowed"):
        scanner_test(BEFORE, AFTER.drop(columns="scanner"), SETTINGS, FACTS)
    alone = BEFORE[BEFORE.scanner == "L"]
    with pytest.raises(DataError, match="before the mix: scanner in train: found L, allowed: at least two"):
        scanner_test(alone, AFTER, SETTINGS, FACTS)
    untested = BEFORE[(BEFORE.split == "train") | (BEFORE.scanner == "N")]
    with pytest.raises(DataError, match="before the mix: scanner in test: found N, allowed: L and N"):
        scanner_test(untested, AFTER, SETTINGS, FACTS)


def with_ids(table):
    return table.assign(scan_id=[f"s{number}" for number in range(len(table))])


def places(table, grain):
    return pd.DataFrame({"scan_id": table.scan_id, "source": "injected", "diameter_mm": 8.0, "grain": grain})


def test_grain_that_differs_by_scanner_is_found_where_the_label_says_nothing():
    after = with_ids(AFTER)
    rng = np.random.default_rng(0)
    smooth = np.where(after.scanner == "N", 0.4, 1.0) + rng.normal(0, 0.05, len(after))
    told = scanner_test(BEFORE, after, SETTINGS, FACTS, places(after, smooth)).set_index("variant").value
    assert (told["after"], told["after, size and grain"]) == (0.5, 1)
    alike = places(after, rng.normal(1, 0.05, len(after)))
    told = scanner_test(BEFORE, after, SETTINGS, FACTS, alike).set_index("variant").value
    assert told["after, size and grain"] == pytest.approx(0.5, abs=0.25)
    # Without any place, as where nothing was edited, only the label is left.
    told = scanner_test(BEFORE, after, SETTINGS, FACTS, alike[:0]).set_index("variant").value
    assert told["after, size and grain"] == 0.5


def test_sizes_of_both_kinds_are_compared():
    sizes = np.linspace(4, 20, 40)
    both = pd.DataFrame({"scan_id": "s", "source": ["injected"] * 40 + ["annotated"] * 40, "grain": 1.0})
    same = compare_sizes(both.assign(diameter_mm=[*sizes, *sizes]), FACTS).set_index("metric")
    assert same.value.tolist() == [0, 1]
    larger = compare_sizes(both.assign(diameter_mm=[*1.34 * sizes, *sizes]), FACTS).set_index("metric").value
    expected = stats.ks_2samp(1.34 * sizes, sizes)
    assert larger.tolist() == [expected.statistic, expected.pvalue]
    assert same.images.tolist() == [80, 80]
    assert compare_sizes(both[:40].assign(diameter_mm=sizes), FACTS).value.isna().all()
