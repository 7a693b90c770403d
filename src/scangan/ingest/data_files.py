"""The files of a data folder as every reader gets them: those that can be opened, and the others by name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from scangan.ingest.listing import readable_name, walk
from scangan.rejected import Rejection


class DataFiles(NamedTuple):
    """What a reader may open, sorted; and what none can: names that are not UTF-8, broken links, closed folders."""

    files: list[Path]
    rejected: list[Rejection]


def list_files(root: str | Path, any_name: bool = False) -> DataFiles:
    """The files of a data folder, see `listing.list_data`.

    A name that is not UTF-8 cannot stand in a table, and takes some libraries down: such a file is rejected by a
    readable form of its name, unless `any_name` says that names matter to nobody.
    Raises DataError if `root` is no folder.
    """
    listed, unlisted = walk(root)
    files, rejected = [], [Rejection(*each) for each in unlisted]
    for file in listed:
        if (name := readable_name(file.path)) == file.path or any_name:
            files.append(Path(root, file.path))
        else:
            remedy = "rename the file (an archive made on Windows: unpack it with its encoding)"
            rejected.append(Rejection(name, "name is not UTF-8", name, remedy))
    return DataFiles(sorted(files), rejected)
