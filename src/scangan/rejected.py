"""What cannot be used, and why: one record for files, images, scans and patients."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from scangan.errors import DataError

REASONS_SHOWN = 3


class Rejected(list):
    """Rows of `source, reason, remedy`: what is left out of the cohort, why, and what to do about it."""

    def add(self, source: str, reason: str, remedy: str) -> None:
        self.append((source, reason, remedy))

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self, columns=["source", "reason", "remedy"], dtype="str")

    def __str__(self) -> str:
        first = "; ".join(f"{source}: {reason}" for source, reason, _ in self[:REASONS_SHOWN])
        return first + ("; ..." if len(self) > REASONS_SHOWN else "")


class ScanRejected(DataError):
    """A file or scan that cannot be used.

    reason: short and generic, fit for grouping. found: details; names files by their last part only.
    remedy: what to do. counted: whether a scan is lost by it; false for what was never a scan of this kind.
    """

    def __init__(self, reason: str, found: str, remedy: str, counted: bool = True) -> None:
        super().__init__(f"{reason}: found {found}; {remedy}")
        self.reason, self.found, self.remedy, self.counted = reason, found, remedy, counted


@dataclass(frozen=True)
class Finding:
    """A file that belongs to no series, or a series of several patients.

    source: the path under the root of the file, or of the folder around the series; the rest as in ScanRejected and
    Series.
    """

    source: str
    reason: str
    found: str
    remedy: str
    counted: bool
    identifiers: frozenset[str]
