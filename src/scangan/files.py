"""Files that appear under their names only when they are whole, so that a killed job leaves nothing half-written.

And the line that names a file which cannot be read, whatever its parser met.
"""

from __future__ import annotations

import glob
import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from scangan.errors import DataError, ScanganError

MOST_LETTERS = 200  # of what a library says of a damaged file


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


def scratch_folder(path: str | Path) -> TemporaryDirectory[str]:
    """A temporary folder beside `path`, for what becomes it in the end; it goes with all that is in it.

    Example: `with scratch_folder(images) as folder: ...; zip_folder(Path(folder), temporary)`.
    """
    path = Path(path)
    return TemporaryDirectory(dir=path.parent, prefix=".", suffix=f".{path.name}")


def remove_temporary(path: str | Path) -> None:
    """Remove what processes that were killed have left of writing `path`. Only for who is alone in writing it."""
    path = Path(path)
    for left in path.parent.glob(f".????????.{glob.escape(path.name)}"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


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


@contextmanager
def reading(path: str | Path, field: str, allowed: str) -> Iterator[None]:
    """Around what reads a file: whatever goes wrong, one line names it.

    Example: `with reading(path, "table", "a whole parquet table"): table = pd.read_parquet(path)`.
    Raises DataError, `path: field: found ..., allowed: ...`: if there is no such file, if it is a folder, a pipe or a
    device, and for any exception within, as parsers meet damage with nearly all of them; ours go through as they are.
    """
    try:
        if not Path(path).is_file():
            kind = "a folder" if Path(path).is_dir() else "no regular file" if Path(path).exists() else "no such file"
            raise DataError(f"{path}: {field}: found {kind}, allowed: {allowed}")
        yield
    except ScanganError:
        raise
    except Exception as error:
        raise DataError(f"{path}: {field}: found {said(error)}, allowed: {allowed}") from error


def said(error: Exception) -> str:
    """What an exception says, as a part of one line: printable, and not too long."""
    words = re.sub(r"<class '(.*?)'>", r"\1", " ".join(str(error).split()))
    if isinstance(error, MemoryError):
        words = "more than fits into memory"
    elif not words or isinstance(error, KeyError):  # whose words are the key alone
        words = f"damaged content ({type(error).__name__}{' ' + words if words else ''})"
    words = "".join(letter if letter.isprintable() else "?" for letter in words)
    return words if len(words) <= MOST_LETTERS else f"{words[:MOST_LETTERS]}..."
