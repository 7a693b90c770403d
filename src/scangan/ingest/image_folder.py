"""Images in folders, one a class; these may lie in folders `train`, `val` and `test`, which are a split of its own."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from scangan.config import ImageFolder
from scangan.errors import DataError
from scangan.ingest.cohort import Append, Ingested
from scangan.ingest.data_files import list_files
from scangan.ingest.images import Listed, find_images, name_patients, read_listed, same_id, without_ending
from scangan.rejected import Rejection

log = logging.getLogger(__name__)

PARTS = {  # part -> how its folder may be called, in any case
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def read_cohort(root: Path, settings: ImageFolder, data: str, append: Append) -> Ingested:
    """Read a folder of images, see `readers.Reader.read`; ordered by path."""
    root = Path(root)
    listing, rejected = list_cohort(root, settings)
    parts = parts_of(listing, root, settings.classes)
    return read_listed(root, listing, rejected, settings, data, append, parts=parts)


def list_cohort(root: Path, settings: ImageFolder) -> tuple[list[Listed], list[Rejection]]:
    """The images of the classes' folders, none of which was opened, and what else lies there."""
    folders, _ = find_class_folders(root, settings.classes)
    files, rejected = list_files(root)
    listing, more = list_folders(root, folders, files)
    listing, nobodys = name_patients(listing, root, settings.patient_from, folders)
    return listing, rejected + more + nobodys + list_beside(root, folders, files)


def parts_of(listing: Sequence[Listed], root: Path, classes: Mapping[str, str | int]) -> dict[str, str]:
    """The part of each image of the data set's own split, if the classes' folders lie in folders of parts."""
    _, part_of_folder = find_class_folders(root, classes)
    parts = {
        each.image_id: part for each in listing for folder, part in part_of_folder.items() if _lies_in(each, folder)
    }
    if parts:
        log.info("%s: brings a split of its own, in %s; `split.method: official` takes it", root, ", ".join(PARTS))
    return parts


def _lies_in(listed: Listed, folder: str) -> bool:
    return listed.image_id.startswith(f"{folder}/")


def find_class_folders(root: Path, classes: Mapping[str, str | int]) -> tuple[dict[str, str], dict[str, str]]:
    """Each folder of a class, as a path below the root, and the class; and the part of those that lie in one.

    classes: name of each class -> its folder.
    Raises DataError if a class has none.
    """
    direct = {str(value): name for name, value in classes.items() if (root / str(value)).is_dir()}
    if len(direct) == len(classes):
        return direct, {}
    folders, parts = {}, {}
    for entry in sorted(root.glob("*/")):
        part = next((part for part, names in PARTS.items() if entry.name.casefold() in names), None)
        for name, value in classes.items():
            if part and (entry / str(value)).is_dir():
                folders[f"{entry.name}/{value}"], parts[f"{entry.name}/{value}"] = name, part
    for name, value in classes.items():
        if name not in (folders if folders else direct).values():
            found = ", ".join(sorted(path.name for path in root.glob("*/"))) or "none"
            raise DataError(
                f"{root / str(value)}: classes.{name}: found no such folder, allowed: one of those there: {found}"
            )
    return folders, parts


def list_folders(root: Path, folders: Mapping[str, str], files: Sequence[Path]) -> tuple[list[Listed], list[Rejection]]:
    """Each image in the classes' folders, of nobody yet; what is no image, and what shares an id: the path less ending.

    folders: path of each below the root -> its class. files: all below the root.
    """
    rejected, images = [], []
    for folder in folders:
        found, others = find_images((file for file in files if file.is_relative_to(root / folder)), root)
        rejected += others
        images += found
    listing, same = class_each(root, folders, images)
    return listing, rejected + same


def class_each(root: Path, folders: Mapping[str, str], images: Sequence[Path]) -> tuple[list[Listed], list[Rejection]]:
    """Each image, or folder of a series, with the class of its folder, of nobody yet; and those that share an id."""
    by_id: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for file in images:
        name = next(name for folder, name in folders.items() if file.is_relative_to(root / folder))
        by_id[without_ending(file.relative_to(root))].append((file, name))
    rejected = [
        same_id(file, [other for other, _ in same], root)
        for same in by_id.values()
        if len(same) > 1
        for file, _ in same
    ]
    single = {image_id: same[0] for image_id, same in by_id.items() if len(same) == 1}
    return [Listed(file, image_id, name, None) for image_id, (file, name) in single.items()], rejected


def list_beside(root: Path, folders: Mapping[str, str], files: Sequence[Path]) -> list[Rejection]:
    """The folders and files that belong to no class."""
    above = {parent for folder in folders for parent in PurePath(folder).parents}
    beside: Counter[str] = Counter()
    for file in files:
        path = file.relative_to(root)
        if not any(path.is_relative_to(folder) for folder in folders):
            chain = [path, *path.parents]
            beside[next(each for each in reversed(chain) if each not in above).as_posix()] += 1
    remedy = "nothing to do, or name its folder in `classes`"
    return [
        Rejection(source, "of no class", f"{count} file{'s' * (count > 1)}", remedy, counted=False)
        for source, count in sorted(beside.items())
    ]
