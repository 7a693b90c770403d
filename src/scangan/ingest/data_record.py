"""What a data folder held when it was last read, so that a plan notices what was added, changed, renamed or removed.

A plan takes names, sizes and times alone: a second for 100,000 files. What the files held when they were last read is
kept in a record; a file whose size or time has changed since is compared with it, so that touching a file, or copying a
folder without its times, is no change.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from scangan.files import atomic
from scangan.ingest.listing import ListedFile, list_data
from scangan.progress import Progress

AT_ONCE = 8  # files that are read at once: a network's disk answers late, and hashing leaves Python to others


class _Known(NamedTuple):
    """What a file held when it was last read. modified_ns: its time then, which stands for that content in the state.

    seen_ns: another time at which it was found to hold the same.
    """

    size: int
    modified_ns: int
    seen_ns: int
    sha256: str


def record_of(root_name: str, results: str | Path) -> Path:
    """Where it is kept what the data of these results held: beside what Snakemake knows of a run, and under no result.

    root_name: the folder's key in `data_roots`.
    """
    name = hashlib.sha256(f"{root_name}\0{os.path.normpath(results)}".encode()).hexdigest()[:16]
    return Path(".snakemake/scangan") / f"{name}.json"


def data_state(root: str | Path, record: str | Path) -> str:
    """A digest of a data folder that changes if a file was added, removed or renamed, or holds something else.

    record: what `record_data` wrote, if it did. Only files of the same size and another time are read.
    Raises DataError if `root` is no folder.
    """
    files = list_data(root)
    known = _Record.read(record)
    if known.listing != _digest_of(files):
        known = known.compared_with(Path(root), files)
        if known.files:
            known.write(record)  # so that a touched file is read once
    return known.state


def record_data(root: str | Path, record: str | Path) -> dict[str, Any]:
    """Read every file whose content the record does not know, and write the record anew.

    Returns `files` and `bytes`, how many, and `content`, a digest of all paths and contents.
    Raises DataError if `root` is no folder.
    """
    files = list_data(root)
    known = _Record.read(record).compared_with(Path(root), files)
    names = [known.name_of(file) for file in files]
    done = 0.0
    unread = [(name, file) for name, file in zip(names, files, strict=True) if not known.holds(name, file)]
    hashes = _hash_all(Path(root), [file for _, file in unread])
    with Progress(total=len(unread), initial=0, description="reading the data once", unit="file") as progress:
        for (name, file), sha256 in zip(unread, hashes, strict=True):
            known.files[name] = _Known(file.size, file.modified_ns, file.modified_ns, sha256)
            progress.update(steps=1, gigabytes=(done := done + file.size / 1e9))
    known.files = {name: known.files[name] for name in names}
    known.write(record)
    contents = (f"{file.path}\0{known.files[name].sha256}" for name, file in zip(names, files, strict=True))
    return {"files": len(files), "bytes": sum(file.size for file in files), "content": _digest(contents)}


@dataclass
class _Record:
    """What is known of a data folder.

    salt: with it paths are hashed, for they may name a patient. listing: digest of paths, sizes and times as they were
    at the last look. state: see `data_state`. files: by hashed path.
    """

    salt: str
    listing: str = ""
    state: str = ""
    files: dict[str, _Known] = field(default_factory=dict)

    def name_of(self, file: ListedFile) -> str:
        path = file.path.encode(errors="surrogateescape")
        return hashlib.blake2b(path, key=self.salt.encode(), digest_size=12).hexdigest()

    def holds(self, name: str, file: ListedFile) -> bool:
        """Whether it is known what a file holds that has this size and time."""
        known = self.files.get(name)
        return known is not None and known.size == file.size and file.modified_ns in (known.modified_ns, known.seen_ns)

    def compared_with(self, root: Path, files: list[ListedFile]) -> _Record:
        """The record after a look at the folder as it is now."""
        known = dict(self.files)
        names = [self.name_of(file) for file in files]
        touched = [
            (name, file)
            for name, file in zip(names, files, strict=True)
            if name in known and known[name].size == file.size and not self.holds(name, file)
        ]
        for (name, file), sha256 in zip(touched, _hash_all(root, [file for _, file in touched]), strict=True):
            if sha256 and sha256 == known[name].sha256:
                known[name] = known[name]._replace(seen_ns=file.modified_ns)
        now = _Record(self.salt, _digest_of(files), files=known)
        contents = (
            file if not now.holds(name, file) else ListedFile(file.path, file.size, known[name].modified_ns)
            for name, file in zip(names, files, strict=True)
        )
        now.state = _digest_of(contents)
        return now

    @staticmethod
    def read(path: str | Path) -> _Record:
        """The record, or an empty one where there is none, or none that is whole."""
        try:
            stored = json.loads(Path(path).read_text(encoding="ascii"))
            files = {name: _Known(*known) for name, known in stored.pop("files").items()}
            return _Record(**stored, files=files)
        except (OSError, ValueError, KeyError, TypeError):
            return _Record(secrets.token_hex(16))

    def write(self, path: str | Path) -> None:
        with atomic(path) as temporary:
            temporary.touch(mode=0o600)
            stored = {"salt": self.salt, "listing": self.listing, "state": self.state, "files": self.files}
            temporary.write_text(json.dumps(stored), encoding="ascii")


def _digest_of(files: Iterable[ListedFile]) -> str:
    return _digest(f"{file.path}\0{file.size}\0{file.modified_ns}" for file in files)


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:32]


def _hash_all(root: Path, files: list[ListedFile]) -> Iterator[str]:
    """The hash of each file, in order, as they come."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda file: _hash(root / file.path), files)


def _hash(path: Path) -> str:
    """SHA-256 of what a file holds; empty for one that cannot be read, which is for its reader to say."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
