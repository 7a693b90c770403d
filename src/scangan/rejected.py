"""What cannot be used, and why: one record for files, images, scans, patients and nodules.

Readers raise `Unusable`, or write down a `Rejection`; a table of these, with the columns of `REJECTED_TYPES`, is what
lies in files, stops a run that lost too much, and is counted below the tables.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scangan.errors import DataError

log = logging.getLogger(__name__)

REJECTED_TYPES = {"source": "str", "reason": "str", "found": "str", "remedy": "str", "counted": "bool"}
REASONS_SHOWN = 3
KEPT = "kept: "  # begins the reason of what is listed, and used all the same


@dataclass(frozen=True)
class Rejection:
    """One thing that cannot be used.

    source: which, such as a path below the data's root. reason: short and generic, fit for grouping. found: the
    details. remedy: what to do. counted: whether something of the cohort is lost by it; false for what was never a part
    of it. identifiers: names and numbers of persons that pseudonymisation has to hide; they stand in no table.
    """

    source: str
    reason: str
    found: str
    remedy: str
    counted: bool = True
    identifiers: frozenset[str] = frozenset()


class Unusable(DataError):
    """A file, image, scan or patient that cannot be used: a rejection before its source is known.

    reason, found, remedy, counted: as of `Rejection`; found names files by their last part only.
    """

    def __init__(self, reason: str, found: str, remedy: str, counted: bool = True) -> None:
        super().__init__(f"{reason}: found {found}; {remedy}")
        self.reason, self.found, self.remedy, self.counted = reason, found, remedy, counted

    def of(self, source: str, identifiers: frozenset[str] = frozenset()) -> Rejection:
        """The record to keep of it."""
        return Rejection(source, self.reason, self.found, self.remedy, self.counted, identifiers)


def rejected_table(rejections: Iterable[Rejection] = ()) -> pd.DataFrame:
    """A row each, in their order, with the columns of `REJECTED_TYPES`; in one line, whatever a file's name holds."""
    rows = [[printable(getattr(rejection, name)) for name in REJECTED_TYPES] for rejection in rejections]
    return pd.DataFrame(rows, columns=list(REJECTED_TYPES)).astype(REJECTED_TYPES)


def printable(value: str | bool) -> str | bool:
    """A text whose line breaks, control characters and undecodable bytes are written as escapes; others as they are."""
    if isinstance(value, bool):
        return value
    if value.isspace():  # a name that nobody would see
        return value.encode("unicode_escape").decode().replace(" ", r"\x20")
    if value.isprintable():
        return value
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in value)


def read_rejected(path: str | Path) -> pd.DataFrame:
    """A table of rejections that was written by `DataFrame.to_csv(index=False)`."""
    return pd.read_csv(path, dtype=REJECTED_TYPES, keep_default_na=False)[list(REJECTED_TYPES)]


def list_reasons(rejected: pd.DataFrame, shown: int | None = None) -> str:
    """How often each reason stands there, the most frequent ones first: `3 missing slices, 1 not DICOM`.

    shown: how many reasons at most; `, ...` stands for the others.
    """
    counts = rejected["reason"].value_counts()
    listed = ", ".join(f"{count} {reason}" for reason, count in counts.head(shown or len(counts)).items())
    return listed + (", ..." if shown and len(counts) > shown else "")


def describe_rejected(rejected: pd.DataFrame) -> str:
    """For an error's line: ` (3 missing slices, 1 not DICOM; first a/b: 2 of 60)`, or nothing."""
    if rejected.empty:
        return ""
    first = rejected.iloc[0]
    return f" ({list_reasons(rejected, REASONS_SHOWN)}; first {first.source}: {first.found})"


def log_rejected(rejected: pd.DataFrame) -> None:
    """A warning for each rejection that counts."""
    for row in rejected[rejected["counted"]].itertuples():
        log.warning("rejected: %s: %s: found %s; %s", row.source, row.reason, row.found, row.remedy)


def check_rejected(
    rejected: pd.DataFrame, usable: int, max_rejected: float, where: str | Path, what: str, allowed: str = "at least 1"
) -> None:
    """Warn of what was rejected, and stop where too little is left.

    usable: how many there are besides. where: what the error's line begins with, such as the data's root. what: in the
    plural. allowed: what a usable one would have been.
    Raises DataError if none is usable, and if more than the share `max_rejected` of all was rejected; what does not
    count is left aside.
    """
    log_rejected(rejected)
    counted = rejected[rejected["counted"]]
    total = usable + len(counted)
    if not usable:
        raise DataError(f"{where}: {what}: found none that is usable{describe_rejected(counted)}, allowed: {allowed}")
    if len(counted) > max_rejected * total:
        raise DataError(
            f"{where}: max_rejected: found {len(counted)} of {total} {what} rejected{describe_rejected(counted)}, "
            f"allowed: {math.floor(max_rejected * total)} ({max_rejected:g})"
        )


def rejected_note(rejected: pd.DataFrame, usable: int, what: str, path: str | Path) -> str:
    """The lines below a table that say how many were left out of how many, why, and where they are listed.

    What is listed there, but kept, is passed over.
    usable: how many there are besides; what: in the plural.
    """
    lines = []
    rejected = rejected[~is_kept(rejected)]
    for is_counted, said in ((True, f"{what} rejected"), (False, "other files or series left out")):
        chosen = rejected[rejected["counted"] == is_counted]
        if len(chosen):
            share = f"{len(chosen)} of {usable + len(chosen)}" if is_counted else f"{len(chosen)}"
            lines.append(f"{share} {said} ({list_reasons(chosen)}): see {path}")
    return "\n".join(lines)


def is_kept(rejected: pd.DataFrame) -> pd.Series:
    """Which rows are of something that is used all the same: bool [N]."""
    return rejected["reason"].str.startswith(KEPT)


def left_out_note(rejected: pd.DataFrame, path: str | Path) -> str:
    """The line below a table of something else that says what was left out on the way to it."""
    return "" if rejected.empty else f"left out: {list_reasons(rejected)} (see {path})"
