"""Files that appear under their names only when they are whole, so that a killed job leaves nothing half-written."""

from __future__ import annotations

import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scangan.errors import DataError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` (same suffix), fsynced and renamed to it on clean exit, removed on an error.

    Example: `with atomic(table) as temporary: frame.to_csv(temporary)`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, renamed to it on clean exit, removed with its files on an error.

    Raises DataError if `folder` holds files, which are never overwritten, or is one.
    """
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise DataError(f"{folder}: folder: found files, allowed: a new or an empty folder")
    temporary = folder.with_name(f".{secrets.token_hex(4)}.{folder.name}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.replace(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def zip_folder(folder: Path, target: Path) -> None:
    """Pack without time stamps, in a fixed order; chunks are compressed already."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.writestr(zipfile.ZipInfo(file.relative_to(folder).as_posix()), file.read_bytes())


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
