"""Patients in whose CT a nodule is known, by the table of abnormalities of the National Lung Screening Trial (NLST).

One row an abnormality on a screening CT: `pid` is the patient, DICOM's PatientID, and `sct_ab_desc` says what was seen.
"""

from __future__ import annotations

from pathlib import Path

from scangan.data.user_table import read_user_table, shown
from scangan.errors import DataError

COLUMNS = ("pid", "sct_ab_desc")
# 51: non-calcified nodule or mass of 4 mm or more. 52: non-calcified micronodules. 53: benign, calcified nodule.
# 62: six nodules or more that are not suspicious. The codes up to 65 are other findings.
NODULES = frozenset({51, 52, 53, 62})
KNOWN = range(51, 66)


def patients_with_nodules(path: str | Path) -> frozenset[str]:
    """The patients for whom the table lists a nodule, in any year: one that is found later was often there before.

    Codes may be written as SAS writes them, `51`, `51.0`, or `.M` for a missing one. Raises DataError, naming the file,
    as `read_user_table` does, and for another code.
    """
    table = read_user_table(path, COLUMNS)
    found = set()
    for line, (patient, code) in enumerate(table.itertuples(index=False), 2):
        if not code or code.startswith("."):
            continue
        try:
            number = float(code)
        except ValueError:
            number = 0.0
        if number not in KNOWN:
            raise DataError(f"{path}: sct_ab_desc: found {shown(code)} in row {line}, allowed: 51 to 65, or empty")
        if number in NODULES:
            found.add(patient.removesuffix(".0"))
    return frozenset(found)
