"""The files of a data folder: one lister for every reader, and for the plan that notices changes.

Links are followed. What is hidden, what systems leave in folders, and results of ours are no data, wherever they lie.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from scangan.errors import DataError
from scangan.files import atomic

# What systems leave in folders, and is nobody's data; hidden files and folders are not looked at either.
NOT_DATA = {"Thumbs.db", "desktop.ini", "__MACOSX"}
RESULTS_MARK = ".scangan-results"  # a file in every folder of results, by which it is known


class ListedFile(NamedTuple):
    """A file below a data folder: its path below it, with `/`, its size and the time of its last change."""

    path: str
    size: int
    modified_ns: int


class Unlisted(NamedTuple):
    """What leads to no file below a data folder, such as a broken link or a closed folder, and why.

    The fields are those of `rejected.Rejection`.
    """

    source: str
    reason: str
    found: str
    remedy: str
    counted: bool = True


def list_data(root: str | Path) -> list[ListedFile]:
    """Every file of a data folder, sorted by path, whatever its name.

    Raises DataError if `root` is no folder.
    """
    return walk(root)[0]


def readable_name(path: str | Path) -> str:
    """A path as text that any file can hold: bytes that are not UTF-8 as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def mark_results(folder: str | Path) -> None:
    """Make a folder known as results, which no reader takes for data."""
    mark = Path(folder, RESULTS_MARK)
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        with atomic(mark) as path:
            path.write_text("Results of Scangan, and no data: its readers pass by this folder.\n", encoding="ascii")


def walk(root: str | Path) -> tuple[list[ListedFile], list[Unlisted]]:
    """Every file of a data folder, as `list_data`, and the links and folders that lead to none."""
    if not Path(root).is_dir():
        raise DataError(f"{root}: root: found no such folder, allowed: a folder of data")
    files, unlisted = [], []
    folders, seen = [("", str(root))], set()
    while folders:
        prefix, folder = folders.pop()
        real = os.path.realpath(folder)
        if prefix and os.path.exists(f"{folder}/{RESULTS_MARK}"):
            continue
        if real in seen:
            remedy = "nothing to do, or remove the link"
            unlisted.append(Unlisted(readable_name(prefix[:-1]), "a folder again", "a link to it", remedy, False))
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in NOT_DATA]
        except OSError as error:
            if not prefix:
                raise DataError(f"{root}: root: found a folder that cannot be read ({error.strerror})") from error
            found, remedy = error.strerror or type(error).__name__, "allow reading it, or remove it"
            unlisted.append(Unlisted(readable_name(prefix[:-1]), "unreadable folder", found, remedy))
            continue
        inner = sorted(entry.name for entry in visible if _is(entry.is_dir))
        folders += [(f"{prefix}{name}/", f"{folder}/{name}") for name in reversed(inner)]
        for entry in visible:
            if _is(entry.is_file):
                status = entry.stat()
                files.append(ListedFile(prefix + entry.name, status.st_size, status.st_mtime_ns))
            elif not _is(entry.is_dir):
                reason, found = "not a file", "a pipe, socket or device"
                if entry.is_symlink():
                    reason, found = "broken link", f"a link to {readable_name(os.readlink(entry.path))}"
                unlisted.append(Unlisted(readable_name(prefix + entry.name), reason, found, "replace or remove it"))
    return sorted(files), sorted(unlisted)


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry is a file, or a folder; a link to itself is neither."""
    try:
        return kind()
    except OSError:
        return False
