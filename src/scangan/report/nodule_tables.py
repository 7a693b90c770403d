"""How the tables of the nodule eraser and injector are to be read, and the table of the mix."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from scangan.facts import Facts

ERASER_NOTE = (
    "VOIs of held-out patients with a nodule injected, erased again, against the same VOI before; inside the mask, "
    "mean [95% interval: bootstrap over patients].\n"
    "Beside the eraser: the mask filled with the lung's mean, by biharmonic inpainting, and left as it is (none).\n"
    "Detector AUC: a classifier tells erased places from the same before, cross-validated by patient; 0.5 is the goal."
)
INJECTOR_NOTE = (
    "Injected into held-out patients of the annotated cohort; `real`: held-out real nodules measured the same way, "
    "which is what can be reached [95% interval: bootstrap over patients; Fréchet distance: random sets].\n"
    "Diameter ratio and error: median of measured / asked, and of its distance from 1; a nodule that is not found "
    "counts as diameter 0. Differences and distances are from the nodules that the injector was trained on.\n"
    "Detector AUC: a classifier tells injected from real nodules, cross-validated by patient; 0.5 is the goal."
)
SCANNER_NOTE = (
    "Balanced accuracy of telling a test patient's scanner from the label alone, fitted on training patients "
    "[95% interval: bootstrap over patients]: 1 if the label gives the scanner away. `after, size and grain`: from the "
    "label, the largest nodule, and the grain of its nodules and edited places.\n"
    "sizes_ks: two-sample Kolmogorov-Smirnov statistic of the sizes of injected and annotated nodules after the mix, "
    "and its p value; small p: they differ."
)


CLEAR = "assumed clear"
CLEAR_NOTE = (
    "Assumed clear: nobody said which scans of this cohort have nodules. Of NLST's low-dose screens about every fourth "
    "was positive; `negatives` takes its table of abnormalities."
)


def mix_table(
    mix: pd.DataFrame, done: pd.DataFrame, rejected: pd.DataFrame, negatives: Mapping[str, str], facts: Facts
) -> pd.DataFrame:
    """Scans of each scanner and part, with nodules before the mix and after it, and what was done and refused.

    mix: `scan_id, scanner, label, split, label_after`; done: `scan_id, action`; rejected: `source` (a scan, or a nodule
    of one). negatives: scanner -> how it is known which of its scans have no nodule. Columns `study, scanner, split,
    scans, with_nodules_before, with_nodules_after, nodules_erased, nodules_injected, shams, refused, negatives, data,
    scale`.
    """
    actions = pd.crosstab(done["scan_id"], done["action"]).reindex(columns=["erase", "inject", "sham"], fill_value=0)
    # A nodule of a scan is called <scan_id>-n2.
    refused = rejected["source"].str.replace(r"-n\d+$", "", regex=True).value_counts()
    each = mix.assign(
        before=mix["label"] == "nodules",
        after=mix["label_after"] == "nodules",
        erased=mix["scan_id"].map(actions["erase"]).fillna(0).astype(int),
        injected=mix["scan_id"].map(actions["inject"]).fillna(0).astype(int),
        shams=mix["scan_id"].map(actions["sham"]).fillna(0).astype(int),
        refused=mix["scan_id"].map(refused).fillna(0).astype(int),
    )
    each["split"] = pd.Categorical(each["split"], ["train", "validation", "test"])
    table = each.groupby(["scanner", "split"], observed=True, as_index=False).agg(
        scans=("scan_id", "size"),
        with_nodules_before=("before", "sum"),
        with_nodules_after=("after", "sum"),
        nodules_erased=("erased", "sum"),
        nodules_injected=("injected", "sum"),
        shams=("shams", "sum"),
        refused=("refused", "sum"),
    )
    table["negatives"] = table["scanner"].map(negatives)
    return facts.assign(table)[["study", *table.columns, "data", "scale"]]
