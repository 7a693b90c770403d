"""Which synthetic images are too unlike real ones to train with: a rule calibrated on held-out real images.

Han et al., "Infinite Brain MR Images: PGGAN-based Data Augmentation for Tumor Detection", section 3.3, discard "highly
unrealistic" images by eye; their criteria are not given. The rule here is ours: automatic, the same for every class and
every arm, and blind to the test images. It is the k-th nearest neighbour distance of Sun et al. 2022 ("Out-of-
distribution detection with deep nearest neighbors"), on features as they are, within a class. It finds images that lie
far from all training images; it does not know anatomy. A person may overrule it, image by image.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from scangan.config import Screening
from scangan.data.store import UNREADABLE
from scangan.errors import DataError
from scangan.metrics.feature_sets import FeatureSet

log = logging.getLogger(__name__)

COLUMNS = ["image_id", "label", "distance", "threshold", "limit", "expected", "kept", "decided_by"]
OVERRULE_COLUMNS = ["image_id", "kept"]
SAID = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
SURPLUS = "surplus"  # decides of images that are not discarded, but are more than were asked for
MIN_VALIDATION = 4  # with m images of a class, at least 1 of m + 1 realistic images is discarded: here a fifth


def screen(
    train: FeatureSet,
    validation: FeatureSet,
    synthetic: FeatureSet,
    settings: Screening,
    overrule: Path | None = None,
    refused: bool = False,
) -> pd.DataFrame:
    """A verdict on every synthetic image, in their order.

    train, validation: features of real images, at the size of the synthetic ones; classes that `synthetic` lacks are
    not looked at. overrule: a CSV with the columns `image_id, kept` (true or false, yes or no, 1 or 0), whose word is
    the last; other columns are ignored. refused: the network behind the features helped to train the generator, and
    says nothing of its images: the rule keeps them all, and their numbers are NaN.

    Returns `image_id, label, distance, threshold, limit, expected, kept, decided_by`:

    - distance: Euclidean, between features, to the `settings.neighbours`-th nearest training image of the same class.
    - threshold: that quantile of the same distance of validation images of the class which
      a fresh real image exceeds with a probability of 1 - `settings.quantile`: the k-th smallest of m stands for
      k / (m + 1). Above m / (m + 1) it is the largest, and `expected` is 1 / (m + 1). Images of one patient are alike,
      so it scatters more than m independent images would let it.
    - limit: the threshold, or what is greater: the distance that all but `settings.most_discarded` of the class have.
    - expected: share of realistic images that the rule discards, at most.
    - kept: by the rule, distance <= limit; decided_by: `rule`, or `hand` for an image that the CSV names. With
      `settings.kept` those of a class beyond so many kept ones are not kept, and `surplus` decides.

    Raises DataError if there is no synthetic image, or a class has too few training or validation images; and, naming
    the file and the field, if the CSV names an image that is unknown or named twice, or says something else.
    """
    kinds = {"training": train, "validation": validation, "synthetic": synthetic}
    classes = _check_classes(kinds, settings.neighbours)
    verdicts = synthetic.manifest[["image_id", "label"]].reset_index(drop=True)
    verdicts[["distance", "threshold", "limit", "expected"]] = np.nan
    if refused:
        log.warning("not screened by features that the generator was trained against; fidelity.extractor names others")
    for label in classes if not refused else []:
        known, held_out, drawn = (images.of_class(label).features.features for images in kinds.values())
        calibration = neighbour_distance(held_out, known, settings.neighbours)
        wanted, least = 1 - settings.quantile, 1 / (len(held_out) + 1)
        if least > wanted + 1e-9:
            log.warning(
                "%s: with %d validation images about %.3f of realistic images are discarded, not %.3f",
                *(label, len(held_out), least, wanted),
            )
        rows = (verdicts["label"] == label).to_numpy()
        distance = neighbour_distance(drawn, known, settings.neighbours)
        threshold = np.quantile(calibration, settings.quantile, method="weibull")
        verdicts.loc[rows, "distance"] = distance
        verdicts.loc[rows, "threshold"] = threshold
        fewest_kept = len(distance) - int(settings.most_discarded * len(distance))
        verdicts.loc[rows, "limit"] = max([threshold, *np.sort(distance)[:fewest_kept][-1:]])
        verdicts.loc[rows, "expected"] = max(wanted, least)
    by_rule = kept_by_rule(verdicts)
    by_hand = verdicts["image_id"].map(_read_overrule(overrule, verdicts["image_id"]) if overrule else {})
    verdicts["kept"] = by_hand.where(by_hand.notna(), by_rule).astype(bool)
    verdicts["decided_by"] = np.where(by_hand.notna(), "hand", "rule")
    if settings.kept is not None:
        surplus = verdicts["kept"] & (verdicts.groupby("label")["kept"].cumsum() > settings.kept)
        verdicts.loc[surplus, ["kept", "decided_by"]] = False, SURPLUS
    log.info("%d of %d synthetic images kept", verdicts["kept"].sum(), len(verdicts))
    return verdicts[COLUMNS]


def kept_by_rule(verdicts: pd.DataFrame) -> pd.Series:
    """What the rule says, whatever a person does: bool [N]; it keeps images without a distance."""
    return ~(verdicts["distance"] > verdicts["limit"])


def neighbour_distance(images: np.ndarray, train: np.ndarray, neighbours: int) -> np.ndarray:
    """Euclidean distance [N] of features [N, D] to the `neighbours`-th nearest of train [M, D], M >= neighbours."""
    from sklearn.neighbors import NearestNeighbors

    distance, _ = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(train).kneighbors(images)
    return distance[:, -1].astype(np.float64)


def _check_classes(kinds: dict[str, FeatureSet], neighbours: int) -> list[str]:
    """The classes of the synthetic images, each with enough real ones."""
    counts = {kind: images.manifest["label"].value_counts() for kind, images in kinds.items()}
    classes = sorted(counts["synthetic"].index)
    if not classes:
        raise DataError("screening: synthetic images: found 0, allowed: at least 1")
    for label in classes:
        for kind, least in (("training", neighbours), ("validation", MIN_VALIDATION)):
            if (found := counts[kind].get(label, 0)) < least:
                raise DataError(f"screening: {kind} images of class {label}: found {found}, allowed: at least {least}")
    return classes


def _read_overrule(path: str | Path, ids: pd.Series) -> dict[str, bool]:
    """What a person says: image -> kept."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
    except UNREADABLE as error:
        found = " ".join(str(error).split())
        allowed = f"a CSV with the columns {', '.join(OVERRULE_COLUMNS)}"
        raise DataError(f"{path}: file: found {found}, allowed: {allowed}") from error
    table.columns = table.columns.str.strip()
    if not set(OVERRULE_COLUMNS) <= set(table.columns):
        raise DataError(f"{path}: columns: found {', '.join(table.columns)}, allowed: {', '.join(OVERRULE_COLUMNS)}")
    table = table[OVERRULE_COLUMNS].fillna("").apply(lambda column: column.str.strip())
    wrong = {
        "image_id: found unknown": table["image_id"][~table["image_id"].isin(ids)],
        "image_id: found twice": table["image_id"][table["image_id"].duplicated()],
        "kept: found": table["kept"][~table["kept"].str.lower().isin(SAID)],
    }
    expected = (f"ids of synthetic images, such as {ids.iloc[0]}", "each image once", " | ".join(SAID))
    for (problem, values), allowed in zip(wrong.items(), expected, strict=True):
        if len(values):
            raise DataError(f"{path}: {problem} '{values.iloc[0]}' ({len(values)} in all), allowed: {allowed}")
    return dict(zip(table["image_id"], table["kept"].str.lower().map(SAID), strict=True))
