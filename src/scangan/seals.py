"""What a job's results held when it wrote them, so that what changed since is not taken for a result.

Snakemake looks at times alone, and a disk, a copy or a hand changes files without asking. A job seals its outputs as it
ends: their times and a hash of their content. The next job checks the seals of its inputs before it reads them, and a
plan those of all results, by size and times; it reads again only what differs in these.

Snakemake removes outputs that are to be written anew. If their job then fails, or is stopped, it takes what was made of
them for up to date, for nobody seems to need them. So a job notes what it begins, and of what its outputs were made.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from scangan.errors import DataError
from scangan.files import atomic

FOLDER = Path(".snakemake/scangan/seals")
# Larger files, such as batches of volumes, are known by their size alone: they are zips, whose chunks carry checksums
# that every reader checks.
LARGE = 2**30
# Files dated later than this many seconds from now were written before the clock was set back.
TOLERANCE = 1.0


@dataclass(frozen=True)
class Seal:
    """Of one output, a file or a folder.

    files: below a folder, as they were written; `.` is a file itself. What somebody adds later is not looked at.
    times: digest of their sizes and times when they were last read, empty where they were found changed. content:
    digest of what they hold, empty while their job is at it. inputs: what they were made of.
    """

    path: str
    files: list[str]
    times: str
    content: str
    inputs: list[str] = field(default_factory=list)

    @staticmethod
    def of(path: Path, inputs: Iterable[str | Path] = ()) -> Seal:
        """Of an output as it is now."""
        files = [str(file.relative_to(path)) for file in _files(path)]
        return Seal(str(path), files, _times(path, files), _content(path, files), [str(file) for file in inputs])

    @property
    def holds(self) -> bool:
        """Whether the output is what it was; told from its content."""
        return _content(Path(self.path), self.files) == self.content

    @property
    def times_now(self) -> str:
        return _times(Path(self.path), self.files)

    def write(self) -> None:
        with atomic(_seal_of(self.path)) as temporary:
            temporary.write_text(json.dumps(asdict(self)))


def seal(outputs: Iterable[str | Path], inputs: Iterable[str | Path] = ()) -> None:
    """Remember what a job has written, and of what."""
    for path in outputs:
        Seal.of(Path(path), inputs).write()


def begin(outputs: Iterable[str | Path]) -> None:
    """Note outputs that are about to be written anew: until they are sealed, they are none."""
    for path in outputs:
        Seal(str(path), [], times="", content="").write()


def check_seals(inputs: Iterable[str | Path]) -> None:
    """Raise DataError, a line for each, if sealed inputs hold something else; the next plan then makes them anew.

    What is not sealed, such as a user's own files, is not looked at.
    """
    changed = [each for path in inputs if (each := _read(_seal_of(path))) and not each.holds]
    for each in changed:
        replace(each, times="").write()
    if changed:
        raise DataError(
            "\n".join(
                f"{each.path}: content: found changed since it was written, allowed: as its job wrote it; "
                "run the same command again, and it is made anew"
                for each in changed
            )
        )


def changed_results(results: str | Path) -> list[str]:
    """The outputs below a folder of results that are there, and not what their jobs wrote."""
    changed = []
    for each in _below(results):
        if each.times != (now := each.times_now):
            if not each.holds:
                changed.append(each.path)
            else:
                replace(each, times=now).write()
    return sorted(changed)


def out_of_date(results: str | Path) -> list[str]:
    """The outputs below a folder of results that are there, and were made of what a job was to make anew, and has not.

    Also where something stands between them that is not there: a failed training's images, and a table of these.
    """
    seals = [each for each in map(_read, FOLDER.glob("[!.]*.json")) if each and Path(each.path).is_relative_to(results)]
    lost = {each.path for each in seals if not each.content and not Path(each.path).exists()}
    found: set[str] = set()
    while made_of_lost := [each for each in seals if each.path not in lost | found and lost.intersection(each.inputs)]:
        for each in made_of_lost:
            (found if Path(each.path).exists() else lost).add(each.path)
    return sorted(found)


def bring_back(results: str | Path) -> None:
    """Give results dated in the future times up to now, in the same order: the clock was set back since.

    Without it whatever is made of them now would seem older than they are.
    """
    now = time.time_ns()
    marks = [_time_mark(Path(each.path)) for each in _below(results)]
    future = {mark: found for mark in marks if (found := mark.stat().st_mtime_ns) > now + TOLERANCE * 1e9}
    for mark, found in future.items():
        earlier = found - (max(future.values()) - now)
        os.utime(mark, ns=(earlier, earlier))


def _below(results: str | Path) -> Iterator[Seal]:
    """The seals of what is there below a folder of results."""
    for file in FOLDER.glob("[!.]*.json"):
        each = _read(file)
        if each and Path(each.path).is_relative_to(results) and Path(each.path).exists():
            yield each


def _seal_of(path: str | Path) -> Path:
    return FOLDER / f"{hashlib.sha256(os.fsencode(Path(path))).hexdigest()[:24]}.json"


def _read(file: Path) -> Seal | None:
    """A seal, or None where there is none, or none that is whole: then there is nothing to compare with."""
    try:
        return Seal(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _files(path: Path) -> list[Path]:
    """A file, or all files of a folder, less hidden ones: Snakemake has one of its own there."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.rglob("[!.]*") if each.is_file())


def _time_mark(path: Path) -> Path:
    """The file whose time Snakemake takes for an output's."""
    mark = path / ".snakemake_timestamp"
    return mark if mark.exists() else path


def _times(path: Path, files: list[str]) -> str:
    status = [(path / file).stat() for file in files if (path / file).exists()]
    return _digest(f"{each.st_size} {each.st_mtime_ns} {each.st_ctime_ns}" for each in status)


def _content(path: Path, files: list[str]) -> str:
    return _digest(f"{file} {_hash(path / file)}" for file in files)


def _hash(file: Path) -> str:
    if not file.is_file():
        return "missing"
    size = file.stat().st_size
    if size > LARGE:
        return str(size)
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
