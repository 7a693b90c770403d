"""Tables of synthetic volumes: table 1 of CT-SGAN, and anatomical consistency."""

from __future__ import annotations

import pandas as pd

from scangan.facts import Facts

VOLUME_FIDELITY_COLUMNS = [
    *("study", "variant", "metric", "value", "plus_minus", "ci_low", "ci_high", "images", "reference"),
    *("extractor", "data", "scale"),
]
CONSISTENCY_COLUMNS = [
    *("study", "variant", "metric", "value", "ci_low", "ci_high", "images", "reference", "data", "scale")
]

FIDELITY_NOTE = (
    "Each score is computed slice position by slice position, of so many volumes (images), and averaged over "
    "positions; plus_minus: standard deviation over positions [95% of random sets of volumes].\n"
    "fid and inception_score: axial slices, as in the paper; fid_2.5d: mean over axial, coronal, sagittal positions.\n"
    "The number of volumes and the extractor are part of a score: these cannot be compared with published ones.\n"
    "Volumes are of each network's first training: no number here covers another one."
)
CONSISTENCY_NOTE = (
    "Medians [95% bootstrap over volumes]: difference of neighbouring slices within the body, HU; lung volume, ml.\n"
    "two_lungs: share of volumes with two lungs, each in one piece [95% Wilson]. Volumes whose lung mask failed have "
    "no lung volume.\n"
    "Distances: 1-Wasserstein, from the training volumes' distribution, of as many volumes as are held out "
    "[95% of random sets].\n"
    "suspected_copies: share of volumes nearer to a training volume than nearly all held-out ones, averaged to 16^3 "
    "[95% Wilson]; reference: the share expected of real volumes. Volumes are of each network's first training."
)


def volume_fidelity_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """Table 1 from what `metrics.volumes.compare_slices` returns: the columns of `fidelity.csv`, and `plus_minus`."""
    return facts.assign(scores)[VOLUME_FIDELITY_COLUMNS]


def consistency_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """From the rows of `metrics.volumes.consistency_scores` and `metrics.volumes.find_copies`, joined."""
    return facts.assign(scores)[CONSISTENCY_COLUMNS]
