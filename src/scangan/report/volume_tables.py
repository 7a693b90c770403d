"""Tables of synthetic volumes: table 1 of CT-SGAN, and anatomical consistency."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scangan.facts import Facts
from scangan.report.tables import BY_RADIOMICS, refused_note

VOLUME_FIDELITY_COLUMNS = [
    *("study", "variant", "metric", "value", "plus_minus", "ci_low", "ci_high", "images", "reference"),
    *("extractor", "data", "scale", "reference_low", "reference_high"),
]
CONSISTENCY_COLUMNS = [
    *("study", "variant", "metric", "value", "ci_low", "ci_high", "images", "reference", "data", "scale")
]

CONSISTENCY_NOTE = (
    "Medians [95% bootstrap over volumes]: difference of neighbouring slices within the body, HU; lung volume, ml.\n"
    "two_lungs: share of volumes with two lungs, each in one piece [95% Wilson]. Volumes whose lung mask failed have "
    "no lung volume.\n"
    "misplacement: how far slices lie from where the training volumes have such, as a share of the depth; in any order "
    "it is 0.33. pair_ms_ssim: how alike two volumes are, seen as radiographs; above the reference a network draws "
    "fewer different ones than there are.\n"
    "Distances: 1-Wasserstein, from the training volumes' distribution, of as many volumes as are held out "
    "[95% of random sets].\n"
    "suspected_copies: share of volumes that, seen from the front as radiographs and laid over a training volume, "
    "agree with it more than nearly all held-out ones do [95% Wilson]; reference: the share expected of real volumes. "
    "leaked_held_out: share of held-out volumes that are training volumes; they set no threshold.\n"
    "membership_auc: probability that a training volume is nearer to the synthetic ones than a held-out one is [95%: "
    "bootstrap over patients]; 0.5: nothing is told of the training volumes.\n"
    "Volumes are of each network's first training."
)


def order_note(networks: Sequence[str]) -> str:
    """What every table of volumes says of networks whose volumes are not in order; nothing, if all are."""
    if not networks:
        return ""
    named = ", ".join(networks)
    return f"Not ordered: the slices of {named} lie nowhere near where they should (misplacement, table consistency)."


def volume_fidelity_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """The headline and table 1, from the rows of `metrics.volumes.compare_whole_volumes` and `compare_slices`, joined.

    The columns of `fidelity.csv`, and `plus_minus`. extractor: what a row is measured by, the network that sees
    features, or `radiomics`.
    """
    table = facts.assign(scores)[VOLUME_FIDELITY_COLUMNS]
    table.loc[table["metric"].isin(BY_RADIOMICS), "extractor"] = "radiomics"
    return table


def volume_fidelity_note(fidelity: pd.DataFrame, extractor: str) -> str:
    """How a table of `volume_fidelity_table` is to be read; extractor: the network that sees features."""
    counts = ", ".join(map(str, sorted(fidelity.loc[fidelity["metric"].isin(["fid", "frd"]), "images"].unique())))
    lines = (
        "Energy distance (0: the same distribution; at most 1): of whole volumes, by the features of all their slices, "
        "to the held-out ones, unbiased at any number, so that it may be negative [95%: bootstrap over volumes and "
        "patients]; real: of the training volumes, which stand for a perfect generator.",
        f"Each other score is computed slice position by slice position, of {counts} volumes, and averaged over "
        "positions; plus_minus: standard deviation over positions [95% of random sets of volumes].",
        "fid and inception_score: axial slices, as in the paper; fid_2.5d: mean over axial, coronal, sagittal "
        "positions.",
        "Radiomics distance: the energy distance by a referee that never saw a photograph: grey values, pairs, runs, "
        "zones and neighbourhoods of the same slices; FRD: the logarithm of their Frechet distance, mean over axial, "
        "coronal, sagittal positions.",
        "The number of volumes and the extractor are part of a score: these cannot be compared with published ones.",
        "Volumes are of each network's first training: no number here covers another one.",
        refused_note(fidelity, extractor),
    )
    return "\n".join(filter(None, lines))


def consistency_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """From the rows of `metrics.volumes.consistency_scores` and `find_copied_volumes`, joined."""
    return facts.assign(scores)[CONSISTENCY_COLUMNS]
