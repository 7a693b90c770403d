"""Which subgroup each image is in, by a column of the CSV of its label."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from scangan.config import LabelledImages
from scangan.data.subgroups import MISSING, SEVERAL
from scangan.data.user_table import shown
from scangan.errors import DataError
from scangan.ingest.labelled_images import find_labelled, id_of, match_rows

log = logging.getLogger(__name__)

MOST_SUBGROUPS = 12  # values of a column


def find_subgroups(root: Path, settings: LabelledImages, column: str, images: Collection[str]) -> dict[str, str]:
    """Image id -> value of a column of the labels' CSV, of these images of the cohort.

    An image whose rows say nothing is in the subgroup `MISSING`, one whose rows say different things in `SEVERAL`.
    Raises DataError if the CSV lacks the column, and if it has more than `MOST_SUBGROUPS` values.
    """
    # Rows are matched with files as for the label.
    files, _ = find_labelled(root, settings)
    rows_of, _ = match_rows(root, settings.model_copy(update={"label_column": column, "patient_column": None}), files)
    found = {}
    for file, rows in rows_of.items():
        if id_of(file) not in images:
            continue
        values = {shown(value) for value, _ in rows if value}
        found[id_of(file)] = MISSING if not values else values.pop() if len(values) == 1 else SEVERAL
    if (number := len(set(found.values()) - {MISSING, SEVERAL})) > MOST_SUBGROUPS:
        raise DataError(
            f"{root / settings.labels}: {column}: found {number} different values, allowed: {MOST_SUBGROUPS}, each a "
            "subgroup; make a column of bands, such as 40-59, of numbers, and of one word for all that is rare"
        )
    for name in (MISSING, SEVERAL):
        if number := sum(value == name for value in found.values()):
            log.warning("%s: %s: %d images are in the subgroup %s", settings.labels, column, number, name)
    return found
