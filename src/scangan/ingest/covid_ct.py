"""The layout of the COVID-CT set (Yang et al. 2020, "COVID-CT-Dataset"): its official split and its patients.

CT_COVID/*.png                            one folder a class
Data-split/COVID/trainCT_COVID.txt        the names of a part's images, one a line; also val and test
Info/COVID-CT-MetaInfo.csv                the patient of each image
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from scangan.errors import DataError

if TYPE_CHECKING:
    from scangan.rejected import Rejected

log = logging.getLogger(__name__)

PREFIX = "CT_"  # of the classes' folders; the lists and tables are named without it
LISTS = {"train": "train", "validation": "val", "test": "test"}
NAME_COLUMNS, PATIENT_COLUMNS = ("file name", "image name"), ("patient id",)
SHOWN = 3

Listing = list[tuple[Path, str, str, str]]


def describe_images(root: Path, classes: dict, listing: Listing, rejected: Rejected) -> tuple[Listing, dict[str, str]]:
    """Say whose each image is, and in which part of the official split.

    classes: name of each class -> its folder. listing: file, id, class and patient of each image; the patient is
    replaced. Patients of different classes are different persons, whatever they are called; an image without a row in
    its table is a patient of its own, and logged.
    Returns the listing without the images that contradict themselves, and the part (train, validation, test) of each
    image that the split names, by its id. Names without an image, images in two parts and of two patients are added to
    `rejected`. Without a folder `Data-split` there is no official split.
    Raises DataError if a list or a table is missing or unreadable, and if a folder's name does not begin with CT_.
    """
    described, official = [], {}
    for name, folder in classes.items():
        if not str(folder).startswith(PREFIX):
            raise DataError(f"{root}: classes.{name}: found '{folder}', allowed: a folder whose name begins with CT_")
        images = {
            file.relative_to(root / folder).as_posix(): (file, image_id)
            for file, image_id, label, _ in listing
            if label == name
        }
        patients = _read_patients(root, folder, images, rejected)
        parts = _read_parts(root, folder, images, rejected)
        for image in sorted(images.keys() & patients.keys() & parts.keys()):
            file, image_id = images[image]
            described.append((file, image_id, name, f"{folder}/{patients[image]}"))
            if parts[image] is not None:
                official[image_id] = parts[image]
    return described, official


def _read_patients(root: Path, folder: str, images: Iterable[str], rejected: Rejected) -> dict[str, str]:
    """The patient of each image; an image that several rows give to different patients is left out."""
    path = root / "Info" / f"{folder.removeprefix(PREFIX)}-CT-MetaInfo.csv"
    try:
        # Only names and patients matter: a stray byte in a caption does not.
        table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig", encoding_errors="replace")
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        found = "no such file" if not path.exists() else " ".join(str(error).split())
        raise DataError(f"{path}: file: found {found}, allowed: a CSV of image names and patient ids") from error
    names, owners = (_column(path, table, allowed) for allowed in (NAME_COLUMNS, PATIENT_COLUMNS))

    owners_of = defaultdict(set)
    for image, owner in zip(names, owners, strict=True):
        if owner:
            owners_of[image].add(owner)
    patients = {}
    for image in images:
        if len(owners_of[image]) > 1:
            reason = f"rows of {path.name} contradict each other: {' | '.join(sorted(owners_of[image]))}"
            rejected.add(f"{folder}/{image}", reason, "keep the row that is right")
        else:
            [patients[image]] = owners_of[image] or {image}
    _warn(
        f"{path}: %d images without a patient, each taken for a patient of its own: %s",
        [image for image in patients if not owners_of[image]],
    )
    _warn(f"{path}: %d rows of no image in {folder}: %s", owners_of.keys() - set(images))
    return patients


def _column(path: Path, table: pd.DataFrame, allowed: tuple[str, ...]) -> pd.Series:
    """The one column of a table that has one of the allowed names, in any case."""
    found = [position for position, name in enumerate(table.columns) if name.strip().casefold() in allowed]
    if len(found) != 1:
        raise DataError(
            f"{path}: columns: found {', '.join(table.columns)}; allowed: one named '{' or '.join(allowed)}'"
        )
    # A row with too few values is filled up with NaN.
    return table.iloc[:, found[0]].fillna("").str.strip()


def _read_parts(root: Path, folder: str, images: Iterable[str], rejected: Rejected) -> dict[str, str | None]:
    """The part of each image, None where the lists do not name it; an image in several parts is left out."""
    if not (root / "Data-split").is_dir():
        log.warning("%s: no folder Data-split: there is no official split", root)
        return dict.fromkeys(images)
    parts_of = defaultdict(list)
    for part, prefix in LISTS.items():
        path = root / "Data-split" / folder.removeprefix(PREFIX) / f"{prefix}{folder}.txt"
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (ValueError, OSError) as error:
            found = "no such file" if not path.exists() else " ".join(str(error).split())
            raise DataError(f"{path}: file: found {found}, allowed: a list of image names, one a line") from error
        names = pd.Series([line.strip() for line in lines if line.strip()], dtype="str")
        _warn(f"{path}: %d names stand there again, taken once: %s", names[names.duplicated()])
        for name in names.unique():
            parts_of[name].append(part)
            if not (root / folder / name).is_file():
                source = f"{path.relative_to(root).as_posix()} '{name}'"
                rejected.add(source, f"no image of this name in {folder}", "add the image, or remove the line")
    parts = {}
    for image in images:
        if len(parts_of[image]) > 1:
            reason = f"in {len(parts_of[image])} parts of the official split: {', '.join(parts_of[image])}"
            rejected.add(f"{folder}/{image}", reason, "keep its name in one of the lists")
        else:
            [parts[image]] = parts_of[image] or [None]
    _warn(
        f"{root}: %d images of {folder} in no part of the official split: %s",
        [image for image, part in parts.items() if part is None],
    )
    return parts


def _warn(message: str, names: Iterable[str]) -> None:
    """Log how many names there are, and the first of them; nothing if there are none."""
    names = sorted(set(names))
    if names:
        log.warning(message, len(names), ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else ""))
