"""Axial slices of BRATS (Menze et al. 2015), chosen and labelled as in Han et al. 2018, section 3.2.

A patient is a folder with one T1 after contrast and a segmentation, anywhere below the root:

BraTS19_2013_1_1/BraTS19_2013_1_1_t1ce.nii.gz, ..._seg.nii.gz         2017 and later; 2023 says -t1c, -seg
brats_2013_pat0001_1/VSD.Brain.XX.O.MR_T1c.54514/*.mha, ...OT.54517/  2016: each sequence in a folder of its name

The paper reads the high-grade gliomas: let the root be the folder `HGG`. It discards "too small/big images", those
whose label contradicts the picture, and "unclear boundary images", by eye or by rules that it does not print; the rules
here and the thresholds of `config.Brats` are ours.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from scangan.config import Brats
from scangan.data.store import MANIFEST_TYPES, fit_square
from scangan.errors import DataError
from scangan.ingest.cohort import DROPPED_COLUMNS, Append, Ingested
from scangan.ingest.volume_files import SUFFIXES, open_volume
from scangan.rejected import Unusable, check_rejected, rejected_table

log = logging.getLogger(__name__)

T1C, SEGMENTATION = (
    re.compile(rf"(?:^|[._-])(?:{names})(?=[._-]|$)", re.IGNORECASE) for names in ("t1ce|t1c|t1gd", "segm?|ot")
)
SEQUENCE = re.compile(r"(?:^|[._-])(?:t1(?:ce|c|gd|n)?|t2[wf]?|flair|segm?|ot)(?=[._-]|$)", re.IGNORECASE)
# Some releases number a patient's visits, each in a folder: brats_tcia_pat117_0002, BraTS-GLI-00008-101.
VISIT = re.compile(r"^(brats_(?:2013|tcia)_pat\d+|BraTS-[A-Z]+-\d+)[_-]\d+$", re.IGNORECASE)
MOST_LABEL = 4  # 1 necrosis, 2 oedema, (3 non-enhancing, until 2016,) 4 enhancing; all are tumour
SAME = 0.01  # relative: spacings, and cosines of directions, that differ less are the same
MOST_NEGATIVE = 0.05  # share of a brain's voxels; interpolation overshoots by a few, normalisation makes it half

OUTSIDE, SKIPPED = "outside the slices asked for", "between the slices asked for"
SMALL, LARGE = "brain too small", "brain too large"
AMBIGUOUS, BOUNDARY = "tumour of ambiguous size", "at the tumour's boundary"
TAKEN = "taken"


def read_cohort(root: Path, settings: Brats, data: str, append: Append) -> Ingested:
    """Read the slices of all patients below `root`, see `readers.Reader.read`.

    Images have their front at the top and the patient's left on the right, ordered by patient and upwards; `patient_id`
    is the name of the patient's folder without the number of the visit. They are handed over patient by patient.
    """
    root = Path(root)
    counts: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    rejected = []
    patients = find_patients(root)
    names = Counter(folder.name for folder in patients)
    for folder, files in patients.items():
        source = folder.relative_to(root).as_posix()
        try:
            if names[folder.name] > 1:
                raise Unusable(
                    "another folder has the same name", folder.name, "remove one, or give each a name of its own"
                )
            head, labelled, spacing_mm = _read_patient(folder, files, settings)
        except Unusable as error:
            rejected.append(error.of(source))
            continue
        tumour_mm2 = np.count_nonzero(labelled, axis=(1, 2)) * spacing_mm**2
        brain_mm2 = np.count_nonzero(head, axis=(1, 2)) * spacing_mm**2
        fates = judge_slices(tumour_mm2, brain_mm2, settings)
        counts.update(fates)
        taken = np.flatnonzero(fates == TAKEN)
        if len(taken) == 0:
            log.warning("%s: no slice of this patient is taken", source)
            continue
        has_tumour = tumour_mm2[taken] > settings.tumour_mm2[0]
        rows = pd.DataFrame(
            {
                "image_id": [f"{folder.name}-z{z:03d}" for z in taken],
                "patient_id": VISIT.sub(r"\1", folder.name),
                "label": np.where(has_tumour, *settings.classes),
                "source": source,
                "data": data,
                "spacing_mm": spacing_mm * settings.padded_size / settings.image_size,
            }
        )
        labels.update(rows.label)
        rows = rows.reindex(columns=list(MANIFEST_TYPES)).astype(MANIFEST_TYPES)
        append(_make_images(head[taken], settings), rows)

    table, usable = rejected_table(rejected), len(patients) - len(rejected)
    allowed = "at least 1, a folder with *_t1ce.nii.gz and *_seg.nii.gz"
    check_rejected(table, usable, settings.max_rejected, root, "patients", allowed)
    for name in settings.classes:
        if not labels[name]:
            raise DataError(f"{root}: slices: found none of class '{name}', allowed: at least 1")
    reasons = (OUTSIDE, SKIPPED, SMALL, LARGE, AMBIGUOUS, BOUNDARY)
    dropped = [(reason, counts[reason]) for reason in reasons]
    log.info("%s: %d of %d patients; %s", root, usable, len(patients), dict(labels))
    return Ingested(table, dropped=pd.DataFrame(dropped, columns=DROPPED_COLUMNS))


def find_patients(root: Path) -> dict[Path, list[Path]]:
    """The patients' folders below `root`, in order, and the volume files of each; hidden ones are left out."""
    patients = defaultdict(list)
    for path in sorted(Path(root).rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.name.lower().endswith(SUFFIXES) and path.is_file() and not hidden:
            # A folder named after a sequence holds that sequence, of the patient whose folder it lies in.
            in_sequence = path.parent != Path(root) and SEQUENCE.search(path.parent.name)
            patients[path.parent.parent if in_sequence else path.parent].append(path)
    return dict(sorted(patients.items()))


def judge_slices(tumour_mm2: np.ndarray, brain_mm2: np.ndarray, settings: Brats) -> np.ndarray:
    """Say of each slice of a volume whether it is taken, or why not: the first reason that holds.

    tumour_mm2, brain_mm2: [Z], areas in each slice, from the feet upwards. Returns str [Z], `TAKEN` or the reason.
    """
    numbers = np.arange(len(tumour_mm2))
    first, last = settings.slices
    most_without, least_with = settings.tumour_mm2
    has_tumour = tumour_mm2 > most_without
    # Slices outside the range count, too: a tumour may end just beyond it.
    changes = np.flatnonzero(has_tumour[1:] != has_tumour[:-1]) + 0.5
    near = (abs(numbers[:, None] - changes) < settings.boundary_slices).any(1)
    return np.select(
        [
            (numbers < first) | (numbers > last),
            (numbers - first) % settings.every != 0,
            brain_mm2 < settings.brain_mm2[0],
            brain_mm2 > settings.brain_mm2[1],
            has_tumour & (tumour_mm2 < least_with),
            near,
        ],
        [OUTSIDE, SKIPPED, SMALL, LARGE, AMBIGUOUS, BOUNDARY],
        TAKEN,
    )


def _read_patient(folder: Path, files: list[Path], settings: Brats) -> tuple[np.ndarray, np.ndarray, float]:
    """The head, in [0, 1] and 0 outside the brain, and its labels, both [Z, Y, X]; the size of a pixel, mm."""
    t1c = _read_oriented(_only(files, T1C, "T1 after contrast", "*_t1ce.nii.gz or *T1c*.mha", folder))
    segmentation = _read_oriented(_only(files, SEGMENTATION, "segmentation", "*_seg.nii.gz or *OT*.mha", folder))
    for field, found, allowed in (
        ("shapes", segmentation.GetSize(), t1c.GetSize()),
        ("spacings", segmentation.GetSpacing(), t1c.GetSpacing()),
        ("directions", segmentation.GetDirection(), t1c.GetDirection()),
    ):
        # Origins are not compared: releases of BRATS differ in theirs, and its labels go by voxel.
        if len(found) != len(allowed) or not np.allclose(found, allowed, rtol=SAME, atol=SAME):
            reason = f"{field} of segmentation and T1 after contrast differ"
            raise Unusable(reason, f"{_say(found)} and {_say(allowed)}", "replace the file that is wrong")
    width, height, depth = t1c.GetSize()
    if depth <= settings.slices[1]:
        raise Unusable("too few slices", f"{depth}, allowed: {settings.slices[1] + 1} or more", "lower `slices`")
    if max(width, height) > settings.padded_size:
        found = f"{width}x{height}, allowed: {settings.padded_size} or less"
        raise Unusable("planes too large", found, "raise `padded_size`")
    across, down, _ = t1c.GetSpacing()
    if not math.isclose(across, down, rel_tol=SAME):
        raise Unusable("pixels are not square", f"{across:g} x {down:g} mm", "resample the volume")
    return (
        _normalise(sitk.GetArrayFromImage(t1c), settings.white_percentile),
        _check_labels(sitk.GetArrayFromImage(segmentation)),
        across,
    )


def _only(files: list[Path], pattern: re.Pattern, what: str, allowed: str, folder: Path) -> Path:
    """The one file that is named, or lies in a folder named, by the pattern."""
    found = [
        path
        for path in files
        if pattern.search(path.name) or (path.parent != folder and pattern.search(path.parent.name))
    ]
    if len(found) != 1:
        names = ", ".join(path.name for path in found or files)
        reason = f"{'several files are' if found else 'no file is'} the {what}"
        raise Unusable(reason, f"{names}; allowed: one {allowed}", "complete the folder, or remove it")
    return found[0]


def _read_oriented(path: Path) -> sitk.Image:
    """A NIfTI or MetaImage volume as float32, its axes turned to (left, back, up). Raises Unusable."""
    try:
        return sitk.DICOMOrient(open_volume(path, sitk.sitkFloat32), "LPS")
    except Unusable as error:
        remedy = "replace the file, or remove the patient"
        raise Unusable(error.reason, f"{error.found} ({path.name})", remedy) from error


def _normalise(head: np.ndarray, white_percentile: float) -> np.ndarray:
    """Scale a volume so that 0, outside the brain, stays 0, and the percentile of the brain's intensity becomes 1."""
    if not np.isfinite(head).all():
        raise Unusable("intensities are not all numbers", "NaN or infinity", "replace the T1 after contrast")
    brain = head[head != 0]
    if brain.size == 0 or brain.max() <= 0:
        raise Unusable("the T1 after contrast is empty", "no voxel above 0", "replace the T1 after contrast")
    if (negative := (brain < 0).mean()) > MOST_NEGATIVE:
        found = f"{negative:.0%} of the brain below 0, allowed: {MOST_NEGATIVE:.0%}"
        raise Unusable("intensities were normalised before", found, "supply the volume as it was released")
    return (head / np.percentile(brain[brain > 0], white_percentile)).clip(0, 1).astype(np.float32)


def _check_labels(labels: np.ndarray) -> np.ndarray:
    found = np.unique(labels)
    if not np.isin(found, np.arange(MOST_LABEL + 1)).all():
        said = f"{found.min():g} to {found.max():g}, allowed: whole numbers from 0 to {MOST_LABEL}"
        raise Unusable("the segmentation holds no labels of BRATS", said, "replace the segmentation")
    if not found.any():
        raise Unusable("the segmentation is empty", "no tumour", "segment the tumour, or remove the patient")
    return labels.astype(np.uint8)


def _make_images(planes: np.ndarray, settings: Brats) -> np.ndarray:
    """Planes [n, Y, X], zero-padded around their centre, then scaled: [n, channels, image_size, image_size]."""
    free = [settings.padded_size - length for length in planes.shape[1:]]
    padded = np.pad(planes, [(0, 0), *((space // 2, space - space // 2) for space in free)])
    if settings.image_size != settings.padded_size:
        padded = fit_square(padded, settings.image_size)
    return np.repeat(padded[:, None], settings.channels, axis=1)


def _say(values: tuple) -> str:
    return " x ".join(f"{value:g}" for value in values)
