"""In which subgroup an image is, as a table that a person can open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

MISSING, SEVERAL = "(missing)", "(several values)"  # the subgroups of images of which nothing is said, or too much
SUBGROUP_COLUMNS = ["image_id", "subgroup"]


def subgroups_table(subgroup_of: Mapping[str, str]) -> pd.DataFrame:
    """Image id -> its subgroup, as a table (`SUBGROUP_COLUMNS`), in the order of the ids."""
    return pd.DataFrame(sorted(subgroup_of.items()), columns=SUBGROUP_COLUMNS, dtype="str")


def read_subgroups(path: str | Path) -> dict[str, str]:
    """Image id -> its subgroup, of a table that was written by `DataFrame.to_csv(index=False)`."""
    table = pd.read_csv(path, dtype="str", keep_default_na=False)[SUBGROUP_COLUMNS]
    return dict(table.itertuples(index=False, name=None))


def in_order(subgroups: set[str]) -> list[str]:
    """Subgroups by name; those without a value of their own come last."""
    return sorted(subgroups, key=lambda name: (name in (MISSING, SEVERAL), name))
