"""What the later steps of a study need of its split, told right after it and not after days of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from scangan.data.split import SPLITS, share_counts
from scangan.errors import DataError


def check_needs(split: pd.DataFrame, needs: Mapping[str, Any], where: str) -> None:
    """Raise DataError, beginning with `where`, if a split has too few images for what its study is going to do.

    split: `label, split`, a row an image. needs: as a study's plan says (`needs_of_split`, `needs_of_mix`):

    - of, classes: what it is a split of (images or scans), and their classes;
    - least: rows of key, parts, and how many images of each class these must have together;
    - shares, synthetic, remedy: of the sweep, the synthetic images that a class has at least, and how to have more;
    - map: of the embedding, `each` and `perplexity`, or None.

    There is a line for each need that is not met, with its key, and one with the images that there are.
    """
    counts = pd.crosstab(split.label, split.split).reindex(needs["classes"], columns=list(SPLITS), fill_value=0)
    lines = [*_too_few(counts, needs), *_too_large_shares(counts, needs), *_too_large_perplexity(counts, needs)]
    if lines:
        parts = "; ".join(f"{part} {_said(counts[part])}" for part in SPLITS)
        lines.append(f"{needs['of']} of each class: {parts}")
        raise DataError("\n".join(f"{where}: {line}" for line in lines))


def _too_few(counts: pd.DataFrame, needs: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: found {found} {needs['of']} of class {label} in {' and '.join(parts)}, allowed: at least {least}"
        for key, parts, least in needs["least"]
        for label, found in counts[list(parts)].sum(axis=1).items()
        if found < least
    ]


def _too_large_shares(counts: pd.DataFrame, needs: Mapping[str, Any]) -> list[str]:
    return [
        f"classifier.shares: found {share:g}, which takes {wanted} synthetic {needs['of']} of class {label}, "
        f"allowed: what {needs['synthetic']} suffice for; {needs['remedy']}"
        for share in needs["shares"]
        for label, wanted in share_counts(counts["train"], share).items()
        if wanted > needs["synthetic"]
    ]


def _too_large_perplexity(counts: pd.DataFrame, needs: Mapping[str, Any]) -> list[str]:
    """t-SNE's is below the number of its points: real, transformed and synthetic images of each class."""
    if (drawn := needs["map"]) is None:
        return []
    held_out = counts[["validation", "test"]].sum(axis=1)
    real = (held_out // 2).clip(upper=drawn["each"]).sum()  # the other half is transformed
    points = 2 * int(real) + len(counts) * min(drawn["each"], needs["synthetic"])
    if drawn["perplexity"] < points:
        return []
    found = f"{drawn['perplexity']:g} with {_said(held_out)} in validation and test"
    return [f"embedding.perplexity: found {found}, allowed: below {points}, the images on the map"]


def _said(counts: pd.Series) -> str:
    return ", ".join(f"{label} {number}" for label, number in counts.items())
