"""What names of files and folders, and a table of labels, tell of a data set before any of it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pandas as pd

from scangan.config import Classes, CovidCt, Split
from scangan.data.split import check_listed
from scangan.errors import DataError
from scangan.ingest.image_folder import PARTS, find_class_folders
from scangan.ingest.images import Listed, source_of
from scangan.ingest.readers import Reader, Settings
from scangan.rejected import Rejection, describe_rejected, printable, rejected_table

FEWEST_IN_CLASS = 3  # images


def check_folder(root: Path, reader: Reader, settings: Settings, split: Split | None = None) -> None:
    """Say before any job runs what would stop one later.

    split: how the images are to be divided, if they are.
    Raises DataError if a class has too few images for a training, a validation and a test, if there is no such split of
    them, or what `reader.read` would raise so far. What BraTS' files hold is told by reading them alone.
    """
    if not isinstance(settings, Classes):
        return
    try:
        listing, rejected = import_module(reader.module).list_cohort(Path(root), settings)
    except PermissionError as error:
        raise DataError(f"{error.filename}: found {error.strerror}, allowed: a folder that can be read") from None
    empty = [each for each in listing if each.file.is_file() and not each.file.stat().st_size]
    listing = sorted(set(listing) - set(empty))
    counted = [each for each in rejected if each.counted]
    counted += [Rejection(source_of(each.file, root), "of no bytes", "0 bytes", "copy it anew") for each in empty]
    _check_classes(root, settings, listing, counted)
    if split is not None:
        _check_split(root, settings, split, listing, len(counted))


def _check_classes(root: Path, settings: Classes, listing: Sequence[Listed], rejected: Sequence[Rejection]) -> None:
    counts = Counter(listed.label for listed in listing)
    for name, value in settings.classes.items():
        if counts[name] < FEWEST_IN_CLASS:
            what = "volumes" if settings.DIMENSIONS == 3 else "images"
            found = f"{counts[name]} {what} of value '{printable(str(value))}'"
            raise DataError(
                f"{root}: classes.{name}: found {found}{describe_rejected(rejected_table(rejected))}, "
                f"allowed: at least {FEWEST_IN_CLASS}, for training, validation and test"
            )


def _check_split(root: Path, settings: Classes, split: Split, listing: Sequence[Listed], rejected: int) -> None:
    in_folders = getattr(settings, "labels", None) is None and not isinstance(settings, CovidCt)
    if split.method == "official" and in_folders and not find_class_folders(root, settings.classes)[1]:
        raise DataError(
            f"{root}: split.method: found official, but no folders {', '.join(PARTS)}, allowed: by_patient | folds"
        )
    patients = [listed.patient_id or listed.image_id for listed in listing]
    check_listed(pd.DataFrame(listing).assign(patient_id=patients), split, rejected)
