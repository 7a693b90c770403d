"""Room on the disk, asked for before the first job and not in the middle of the night."""

from __future__ import annotations

import shutil
from pathlib import Path

from scangan.errors import DataError

MARGIN = 1.01  # what cannot be compressed is stored with headers of its own
GB = 1e9


def disk_need(volumes: int, size: int, versions: int = 1) -> int:
    """Bytes that volumes of size^3 take on the disk at most: 2 a voxel, and 1% for the files' headers.

    versions: how many sets are kept, such as 2: with and without nodules. Compression makes it less; the phantom's
    chests take 0.4 to 0.5 of it.
    """
    return round(MARGIN * 2 * volumes * size**3 * versions)


def check_disk(folder: str | Path, need: int) -> None:
    """Raise DataError if less than `need` bytes are free where a folder is, or would be made."""
    existing = next(each for each in (Path(folder).absolute(), *Path(folder).absolute().parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if free < need:
        raise DataError(
            f"{folder}: disk: found {free / GB:.1f} GB free, needed: {need / GB:.1f} GB; "
            "make room, or ask for fewer or smaller volumes"
        )
