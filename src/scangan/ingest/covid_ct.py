"""The layout of the COVID-CT set (Yang et al. 2020, "COVID-CT-Dataset"): its official split and its patients.

CT_COVID/*.png                            one folder a class
Data-split/COVID/trainCT_COVID.txt        the names of a part's images, one a line; also val and test
Info/COVID-CT-MetaInfo.csv                the patient of each image
"""

from __future__ import annotations

import io
import logging
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from scangan.config import Images
from scangan.data.user_table import read_text, shown
from scangan.errors import DataError
from scangan.files import said
from scangan.ingest.cohort import Append, Ingested
from scangan.ingest.data_files import list_files
from scangan.ingest.image_folder import find_class_folders, list_folders
from scangan.ingest.images import Listed, read_listed
from scangan.rejected import Rejection

log = logging.getLogger(__name__)

PREFIX = "CT_"  # of the classes' folders; the lists and tables are named without it
LISTS = {"train": "train", "validation": "val", "test": "test"}
NAME_COLUMNS, PATIENT_COLUMNS = ("file name", "image name"), ("patient id",)
SHOWN = 3


def read_cohort(root: Path, settings: Images, data: str, append: Append) -> Ingested:
    """Read the set, see `readers.Reader.read`; ordered by path, with its official split."""
    root = Path(root)
    listing, rejected = list_cohort(root, settings)
    listing, parts = _describe_images(root, settings.classes, listing, rejected)
    return read_listed(root, listing, rejected, settings, data, append, opaque=True, parts=parts)


def list_cohort(root: Path, settings: Images) -> tuple[list[Listed], list[Rejection]]:
    """The images of the classes' folders, of nobody yet, none of which was opened; and what else lies in these."""
    folders, _ = find_class_folders(root, settings.classes)
    files, rejected = list_files(root)
    listing, more = list_folders(root, folders, files)
    return listing, rejected + more


def _describe_images(
    root: Path, classes: dict[str, str | int], listing: Iterable[Listed], rejected: list[Rejection]
) -> tuple[list[Listed], dict[str, str]]:
    """Say whose each image is, and in which part of the official split.

    classes: name of each class -> its folder. listing: of which the patients are replaced. Patients of different
    classes are different persons, whatever they are called; an image without a row in its table is a patient of its
    own, and logged.
    Returns the listing without the images that contradict themselves, and the part (train, validation, test) of each
    image that the split names, by its id. Names without an image, images in two parts and of two patients are added to
    `rejected`. Without a folder `Data-split` there is no official split.
    Raises DataError if a list or a table is missing or unreadable, and if a folder's name does not begin with CT_.
    """
    described = []
    official: dict[str, str] = {}
    for name, value in classes.items():
        folder = str(value)
        if not folder.startswith(PREFIX):
            raise DataError(f"{root}: classes.{name}: found '{folder}', allowed: a folder whose name begins with CT_")
        images = {
            listed.file.relative_to(root / folder).as_posix(): listed for listed in listing if listed.label == name
        }
        patients = _read_patients(root, folder, images, rejected)
        parts = _read_parts(root, folder, images, rejected)
        for image in sorted(images.keys() & patients.keys() & parts.keys()):
            listed = images[image]
            described.append(listed._replace(patient_id=f"{folder}/{patients[image]}"))
            if (part := parts[image]) is not None:
                official[listed.image_id] = part
    return described, official


def _read_patients(root: Path, folder: str, images: Iterable[str], rejected: list[Rejection]) -> dict[str, str]:
    """The patient of each image; an image that several rows give to different patients is left out."""
    path = root / "Info" / f"{folder.removeprefix(PREFIX)}-CT-MetaInfo.csv"
    try:
        # Only names and patients matter: a stray byte in a caption does not.
        text = read_text(path, asked := "a CSV of image names and patient ids")
        table = pd.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{path}: file: found {said(error)}, allowed: {asked}") from error
    names, owners = (_column(path, table, allowed) for allowed in (NAME_COLUMNS, PATIENT_COLUMNS))

    owners_of = defaultdict(set)
    for image, owner in zip(names, owners, strict=True):
        if owner:
            owners_of[image].add(owner)
    patients = {}
    for image in images:
        if len(owners_of[image]) > 1:
            source, found = f"{folder}/{image}", f"{' | '.join(sorted(owners_of[image]))} in {path.name}"
            rejected.append(Rejection(source, "rows contradict each other", found, "keep the row that is right"))
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
            f"{path}: columns: found {', '.join(map(shown, table.columns))}; "
            f"allowed: one named '{' or '.join(allowed)}'"
        )
    # A row with too few values is filled up with NaN.
    return table.iloc[:, found[0]].fillna("").str.strip()


def _read_parts(root: Path, folder: str, images: Iterable[str], rejected: list[Rejection]) -> dict[str, str | None]:
    """The part of each image, None where the lists do not name it; an image in several parts is left out."""
    if not (root / "Data-split").is_dir():
        log.warning("%s: no folder Data-split: there is no official split", root)
        return dict.fromkeys(images)
    parts_of = defaultdict(list)
    for part, prefix in LISTS.items():
        path = root / "Data-split" / folder.removeprefix(PREFIX) / f"{prefix}{folder}.txt"
        lines = read_text(path, "a list of image names, one a line").splitlines()
        names = pd.Series([line.strip() for line in lines if line.strip()], dtype="str")
        _warn(f"{path}: %d names stand there again, taken once: %s", names[names.duplicated()])
        for name in names.unique():
            parts_of[name].append(part)
            if not os.path.isfile(root / folder / name):  # also where a name is too long to be one
                source = f"{path.relative_to(root).as_posix()} '{shown(name)}'"
                found, remedy = f"none in {folder}", "add the image, or remove the line"
                rejected.append(Rejection(source, "no image of this name", found, remedy))
    parts: dict[str, str | None] = {}
    for image in images:
        if len(parts_of[image]) > 1:
            source, found = f"{folder}/{image}", ", ".join(parts_of[image])
            remedy = "keep its name in one of the lists"
            rejected.append(Rejection(source, "in several parts of the official split", found, remedy))
        else:
            parts[image] = next(iter(parts_of[image]), None)
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
