"""Images in folders, one a class: no patients are known, so each image is a patient of its own."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from scangan.config import Images
from scangan.errors import DataError
from scangan.ingest.cohort import Append, Ingested
from scangan.ingest.images import Listed, find_images, read_listed, same_id
from scangan.rejected import Rejection


def read_cohort(root: Path, settings: Images, data: str, append: Append) -> Ingested:
    """Read a folder of images, see `readers.Reader.read`; ordered by class folder and path."""
    listing, rejected = list_folders(Path(root), settings.classes)
    return read_listed(Path(root), listing, rejected, settings, data, append)


def list_folders(root: Path, classes: dict[str, str | int]) -> tuple[list[Listed], list[Rejection]]:
    """Each image in the classes' folders, and those that share an id: the path without its ending.

    classes: name of each class -> its folder.
    Raises DataError if a folder is missing.
    """
    by_id: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for name, value in classes.items():
        folder = root / str(value)
        if not folder.is_dir():
            found = ", ".join(sorted(path.name for path in root.glob("*/"))) or "none"
            raise DataError(f"{folder}: classes.{name}: found no such folder, allowed: one of those there: {found}")
        for file in find_images(folder):
            by_id[file.relative_to(root).with_suffix("").as_posix()].append((file, name))
    rejected = [
        same_id(file, [other for other, _ in same], root)
        for same in by_id.values()
        if len(same) > 1
        for file, _ in same
    ]
    single = {image_id: same[0] for image_id, same in by_id.items() if len(same) == 1}
    return [Listed(file, image_id, name, image_id) for image_id, (file, name) in single.items()], rejected
