"""The synthetic images that an experiment uses: those that screening (`metrics.screening`) has not discarded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scangan.data.store import ImageSet, read_image_sets, read_manifest
from scangan.errors import DataError


def read_screened(
    images: Sequence[str | Path], manifests: Sequence[str | Path], verdicts: Sequence[str | Path], hold: bool = True
) -> ImageSet:
    """The images of all shards, without the discarded ones; all where there are no verdicts.

    hold: see `data.store.read_image_set`.
    """
    synthetic = read_image_sets(images, manifests, hold)
    if not verdicts:
        return synthetic
    return kept_images(synthetic, pd.concat(map(pd.read_parquet, verdicts), ignore_index=True))


def count_screened(manifests: Sequence[str | Path], verdicts: Sequence[str | Path]) -> dict[str, int]:
    """Class -> how many images `read_screened` gives; none is read."""
    manifest = pd.concat(map(read_manifest, manifests), ignore_index=True)
    if verdicts:
        manifest = manifest[kept_rows(manifest, pd.concat(map(pd.read_parquet, verdicts), ignore_index=True))]
    return manifest["label"].value_counts().to_dict()


def kept_images(synthetic: ImageSet, verdicts: pd.DataFrame) -> ImageSet:
    """The synthetic images that the verdicts of `metrics.screening.screen` keep, in the order of `synthetic`.

    Raises DataError as `kept_rows` does.
    """
    return synthetic.select(kept_rows(synthetic.manifest, verdicts))


def kept_rows(manifest: pd.DataFrame, verdicts: pd.DataFrame) -> pd.Series:
    """Which synthetic images, rows of a manifest, the verdicts keep: bool [N].

    Raises DataError if the verdicts are not those of just these images, or of a class none is left.
    """
    ids = manifest["image_id"]
    if sorted(verdicts["image_id"]) != sorted(ids):
        foreign = sorted(set(verdicts["image_id"]) ^ set(ids))
        named = f", the first in one alone: {foreign[0]}" if foreign else ""
        raise DataError(
            f"screening: image_id: found verdicts on {len(verdicts)} images for {len(ids)} synthetic ones{named}, "
            "allowed: one on each, and no other"
        )
    kept = ids.map(verdicts.set_index("image_id")["kept"]).astype(bool)
    for label, images in manifest["label"].value_counts(sort=False).items():
        if not kept[manifest["label"] == label].any():
            raise DataError(
                f"screening: kept: found none of {images} images of class {label}, "
                "allowed: at least 1 (train the network longer, or overrule by hand: synthesis.screening.overrule)"
            )
    return kept
