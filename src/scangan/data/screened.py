"""The synthetic images that an experiment uses: those that screening (`metrics.screening`) has not discarded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scangan.data.store import ImageSet, read_image_sets
from scangan.errors import DataError


def read_screened(
    images: Sequence[str | Path], manifests: Sequence[str | Path], verdicts: Sequence[str | Path]
) -> ImageSet:
    """The images of all shards, without the discarded ones; all where there are no verdicts."""
    synthetic = read_image_sets(images, manifests)
    if not verdicts:
        return synthetic
    return kept_images(synthetic, pd.concat(map(pd.read_parquet, verdicts), ignore_index=True))


def kept_images(synthetic: ImageSet, verdicts: pd.DataFrame) -> ImageSet:
    """The synthetic images that the verdicts of `metrics.screening.screen` keep, in the order of `synthetic`.

    Raises DataError if the verdicts are not those of just these images, or of a class none is left.
    """
    ids = synthetic.manifest["image_id"]
    if sorted(verdicts["image_id"]) != sorted(ids):
        foreign = sorted(set(verdicts["image_id"]) ^ set(ids))
        named = f", the first in one alone: {foreign[0]}" if foreign else ""
        raise DataError(
            f"screening: image_id: found verdicts on {len(verdicts)} images for {len(ids)} synthetic ones{named}, "
            "allowed: one on each, and no other"
        )
    kept = synthetic.select(ids.map(verdicts.set_index("image_id")["kept"]).astype(bool))
    for label, images in synthetic.manifest["label"].value_counts(sort=False).items():
        if not (kept.manifest["label"] == label).any():
            raise DataError(
                f"screening: kept: found none of {images} images of class {label}, "
                "allowed: at least 1 (train the network longer, or overrule by hand: synthesis.screening.overrule)"
            )
    return kept
