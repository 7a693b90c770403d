"""A data set of other patients, for testing only: which of its images are not the study's own in another guise."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from scangan.data.duplicates import IDENTICAL, NEAR, image_features, similar_pairs, whiten
from scangan.data.store import ImageSet
from scangan.errors import DataError
from scangan.rejected import Rejection, log_rejected, rejected_table

log = logging.getLogger(__name__)

EXTERNAL = "external"  # what predictions call the part
TESTED_COLUMNS = ["image_id", "patient_id", "label", "split"]


def leave_out_known(
    external: ImageSet, own: ImageSet, threshold: float, same_folder: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The external images that are tested on (`TESTED_COLUMNS`), and those that are not (`REJECTED_TYPES`).

    own: all images of the study, of the same size and channels, as the external ones were read. An image is left out
    that is identical to one of them, or near-identical (see `data.duplicates`; threshold: its least similarity), of
    whomever. same_folder: whether both are of one folder of data, where a patient's name means the same patient: then
    so are all images of patients that the study has.
    Raises DataError if a class is left without images.
    """
    rows, known = external.manifest, own.manifest
    first = known.drop_duplicates("sha256").set_index("sha256").source
    alike, partner = _most_alike(np.asarray(external.images), np.asarray(own.images), threshold)
    patients = set(known.patient_id) if same_folder else set()
    remedy = "none is needed: it is not tested on"
    rejections, kept = [], []
    for place, row in enumerate(rows.itertuples()):
        if row.sha256 in first.index:
            reason, found = f"{IDENTICAL} to one of the study's own", first[row.sha256]
        elif partner[place] >= 0:
            reason = f"{NEAR} to one of the study's own"
            found = f"{known.source.iloc[partner[place]]} (similarity {alike[place]:.3f})"
        elif row.patient_id in patients:
            reason, found = "of a patient of the study's own", row.patient_id
        else:
            kept.append(place)
            continue
        rejections.append(Rejection(row.source, reason, found, remedy))
    tested, left_out = rows.iloc[kept], rejected_table(rejections)
    log_rejected(left_out)
    if lost := sorted(set(known.label) - set(tested.label)):
        raise DataError(
            f"external: {', '.join(lost)}: found no image that the study does not have itself ({len(left_out)} of "
            f"{len(rows)} left out), allowed: at least 1"
        )
    log.info("external: %d of %d images are tested on", len(tested), len(rows))
    return tested.assign(split=EXTERNAL)[TESTED_COLUMNS].reset_index(drop=True), left_out


def select_tested(external: ImageSet, tested: pd.DataFrame) -> ImageSet:
    """The external images that are tested on; tested: as `leave_out_known` returns it."""
    return external.select(external.manifest.image_id.isin(tested.image_id))


def describe_tested(tested: pd.DataFrame) -> str:
    """`40 images of 20 patients (20 images of 10 patients normal, ...)`."""
    said = [
        f"{len(rows)} images of {rows.patient_id.nunique()} patients {label}" for label, rows in tested.groupby("label")
    ]
    return f"{len(tested)} images of {tested.patient_id.nunique()} patients ({', '.join(said)})"


def _most_alike(external: np.ndarray, own: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each external image [N] the greatest similarity to an own one, and its place; 0 and -1 below the threshold."""
    features = whiten(np.concatenate([image_features(external), image_features(own)]))
    is_own = (np.arange(len(features)) >= len(external)).astype(int)
    similarity, partner = np.zeros(len(external)), np.full(len(external), -1)
    # The external ones come first, so that the first of a pair is one.
    for rows, columns, alike in similar_pairs(features, threshold, [is_own]):
        order = np.lexsort((-columns, alike))  # the last that is written stays: the most alike, then the first
        order = order[alike[order] > similarity[rows[order]]]
        similarity[rows[order]], partner[rows[order]] = alike[order], columns[order] - len(external)
    return similarity, partner
