"""The table of the mix counts scans, edits and refusals."""

import pandas as pd

from scangan.facts import Facts
from scangan.report.nodule_tables import mix_table

FACTS = Facts("ct_sgan", "phantom", "demo")


def test_the_mix_is_counted_by_scanner_and_part():
    mix = pd.DataFrame(
        [
            ("a1", "lidc", "nodules", "train", "none"),
            ("a2", "lidc", "nodules", "train", "nodules"),
            ("a3", "lidc", "nodules", "test", "nodules"),
            ("b1", "nlst", "none", "train", "nodules"),
        ],
        columns=["scan_id", "scanner", "label", "split", "label_after"],
    )
    done = pd.DataFrame({"scan_id": ["a1", "a1", "b1", "a3"], "action": ["erase", "erase", "inject", "sham"]})
    rejected = pd.DataFrame({"source": ["a2-n1", "a2-n3", "b1"], "reason": ["too large", "too large", "no place"]})
    negatives = {"lidc": "annotated", "nlst": "assumed clear"}
    table = mix_table(mix, done, rejected, negatives, FACTS)
    assert table.drop(columns=["study", "data", "scale"]).to_numpy().tolist() == [
        ["lidc", "train", 2, 2, 1, 2, 0, 0, 2, "annotated"],
        ["lidc", "test", 1, 1, 1, 0, 0, 1, 0, "annotated"],
        ["nlst", "train", 1, 0, 1, 0, 1, 0, 1, "assumed clear"],
    ]
    assert set(table.data) == {"phantom"}


def test_a_mix_in_which_nothing_was_done():
    mix = pd.DataFrame(
        {"scan_id": ["a"], "scanner": ["lidc"], "label": ["none"], "split": ["test"], "label_after": ["none"]}
    )
    done = pd.DataFrame({"scan_id": pd.Series(dtype=str), "action": pd.Series(dtype=str)})
    rejected = pd.DataFrame({"source": pd.Series(dtype=str), "reason": pd.Series(dtype=str)})
    (row,) = mix_table(mix, done, rejected, {"lidc": "rendered"}, FACTS).to_dict("records")
    assert (row["scans"], row["nodules_erased"], row["nodules_injected"], row["refused"]) == (1, 0, 0, 0)
