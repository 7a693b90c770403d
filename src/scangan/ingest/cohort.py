"""What every reader of images hands on: images to `append` as they come, and the tables of an `Ingested` at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from scangan.rejected import rejected_table

OFFICIAL_COLUMNS = ["image_id", "split"]
DROPPED_COLUMNS = ["reason", "slices"]
Append = Callable[[np.ndarray, pd.DataFrame], None]  # as `data.store.ImageWriter.append`


@dataclass(frozen=True)
class Ingested:
    """What a reader says of a data set besides its images.

    rejected: what cannot be used (`REJECTED_TYPES`). official: the part of each image in the data set's own split
    (`OFFICIAL_COLUMNS`), empty where it has none. dropped: how many slices of volumes are no images, and why
    (`DROPPED_COLUMNS`), empty where it has no volumes. notes: lines for below the table of the cohort.
    """

    rejected: pd.DataFrame = field(default_factory=rejected_table)
    official: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=OFFICIAL_COLUMNS, dtype="str"))
    dropped: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=DROPPED_COLUMNS))
    notes: tuple[str, ...] = ()
