"""Whose a file is, by its path alone: for files whose headers name no patient."""

from __future__ import annotations

import re
from pathlib import PurePath

from scangan.rejected import Unusable

FOLDER = "folder"
# A part of a path in BIDS, the standard by which sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz is named.
BIDS_SUBJECT = re.compile(r"(?:^|/)(sub-[0-9A-Za-z]+)(?=[/_.]|$)")


def patient_in_path(path: PurePath, patient_from: str | None) -> str | None:
    """The patient that a path names; None if it names none.

    path: relative to the data's root, or to a class's folder. patient_from: `folder`, the topmost folder below it; any
    other text is a regular expression, searched in the path with `/`, whose first group, or else whole match, is the
    patient; None: the part `sub-<label>` of BIDS.

    Example:
        patient_in_path(PurePath("site1/P07/ct.nii.gz"), r"/(P\\d+)/")  # "P07"
    """
    if patient_from == FOLDER:
        return path.parts[0] if len(path.parts) > 1 else None
    match = (BIDS_SUBJECT if patient_from is None else re.compile(patient_from)).search(path.as_posix())
    if match is None:
        return None
    return match[1 if match.re.groups else 0] or None


def no_patient(found: str) -> Unusable:
    """What to raise where `patient_from` finds no patient. found: the path, or its last part."""
    remedy = "correct patient_from, or rename the file"
    return Unusable("no patient in its path", f"{found}, allowed: a path in which patient_from finds one", remedy)
