"""Axial slices of BRATS (Menze et al. 2015), chosen and labelled as in Han et al. 2018, section 3.2.

A patient, or a visit of one, is a folder with one T1 after contrast and a segmentation, anywhere below the root:

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
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from scangan.config import Brats
from scangan.data.store import MANIFEST_TYPES, fit_square
from scangan.errors import DataError
from scangan.ingest.cohort import DROPPED_COLUMNS, Append, Ingested
from scangan.ingest.data_files import list_files
from scangan.ingest.patients import no_patient, patient_in_path
from scangan.ingest.volume_files import fill_unknown, open_volume
from scangan.ingest.volume_headers import SUFFIXES
from scangan.rejected import Rejection, Unusable, check_rejected, rejected_table

log = logging.getLogger(__name__)

T1C, SEGMENTATION = (
    re.compile(rf"(?:^|[._-])(?:{names})(?=[._-]|$)", re.IGNORECASE) for names in ("t1ce|t1c|t1gd", "segm?|ot")
)
SEQUENCE = re.compile(r"(?:^|[._-])(?:t1(?:ce|c|gd|n)?|t2[wf]?|flair|segm?|ot)(?=[._-]|$)", re.IGNORECASE)
# Some releases number a patient's visits, each in a folder: brats_tcia_pat117_0002, BraTS-GLI-00008-101.
VISIT = re.compile(r"^(brats_(?:2013|tcia)_pat\d+|BraTS-[A-Z]+-\d+)[_-]\d+$", re.IGNORECASE)
SESSION = re.compile(r"^ses-[0-9a-z]+$|^ses(sion)?[-_]?\d+$", re.IGNORECASE)  # a folder of a visit, within a patient's
SUFFIX = re.compile(r"\.(nii(\.gz)?|mha|mhd)$", re.IGNORECASE)
MOST_LABEL = 4  # 1 necrosis, 2 oedema, (3 non-enhancing, until 2016,) 4 enhancing; all are tumour
SAME = 0.01  # relative: spacings, and cosines of directions, that differ less are the same
MOST_VOXELS = 2**26  # of a file; a head of 1 mm voxels has 9 million
MOST_NEGATIVE = 0.05  # share of a brain's voxels; interpolation overshoots by a few, normalisation makes it half

OUTSIDE, SKIPPED = "outside the slices asked for", "between the slices asked for"
SMALL, LARGE = "brain too small", "brain too large"
AMBIGUOUS, BOUNDARY = "tumour of ambiguous size", "at the tumour's boundary"
TAKEN = "taken"


def read_cohort(root: Path, settings: Brats, data: str, append: Append) -> Ingested:
    """Read the slices of all patients below `root`, see `readers.Reader.read`.

    Images have their front at the top and the patient's left on the right, ordered by patient and upwards; `patient_id`
    is what `settings.patient_from` finds, or else the name of the patient's folder without the number of the visit; of
    folders `ses-1` within it, that of the folder above. They are handed over visit by visit.
    """
    root = Path(root)
    counts: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    files, unopened = list_files(root)
    rejected: list[Rejection] = []
    refused = 0
    visits = find_visits(files, root)
    folders = Counter(folder.name for folder in visits)
    owners = {folder: _owner(folder, root) for folder in visits}
    namesakes = Counter(owner.name for owner in set(owners.values()))
    for folder, of_visit in visits.items():
        source = folder.relative_to(root).as_posix()
        try:
            patient = _patient_in_paths(of_visit, root, settings.patient_from)
            if patient is None and namesakes[owners[folder].name] > 1:
                remedy = "remove one, give each a name of its own, or set patient_from"
                raise Unusable("another folder has the same name", owners[folder].name, remedy)
            head, labelled, spacing_mm = _read_visit(folder, of_visit, root, settings)
        except Unusable as error:
            # A file that cannot be opened explains why one is missing.
            lost = [each for each in unopened if each.source.startswith(f"{source}/")]
            unopened = [each for each in unopened if each not in lost]
            rejected += lost or [error.of(source)]
            refused += 1
            continue
        tumour_mm2 = np.count_nonzero(labelled, axis=(1, 2)) * spacing_mm**2
        brain_mm2 = np.count_nonzero(head, axis=(1, 2)) * spacing_mm**2
        fates = judge_slices(tumour_mm2, brain_mm2, settings)
        counts.update(fates)
        taken = np.flatnonzero(fates == TAKEN)
        if len(taken) == 0:
            log.warning("%s: no slice of this patient is taken", source)
            continue
        unique = folders[folder.name] == 1 and owners[folder] == folder
        visit = folder.name if unique else source.replace("/", "_")
        has_tumour = tumour_mm2[taken] > settings.tumour_mm2[0]
        rows = pd.DataFrame(
            {
                "image_id": [f"{visit}-z{z:03d}" for z in taken],
                "patient_id": patient or VISIT.sub(r"\1", owners[folder].name),
                "label": np.where(has_tumour, *settings.classes),
                "source": source,
                "data": data,
                "spacing_mm": spacing_mm * settings.padded_size / settings.image_size,
            }
        )
        labels.update(rows.label)
        rows = rows.reindex(columns=list(MANIFEST_TYPES)).astype(MANIFEST_TYPES)
        append(_make_images(head[taken], settings), rows)

    table, usable = rejected_table(rejected + unopened), len(visits) - refused
    allowed = "at least 1, a folder with *_t1ce.nii.gz and *_seg.nii.gz"
    check_rejected(table, usable, settings.max_rejected, root, "patients", allowed)
    for name in settings.classes:
        if not labels[name]:
            raise DataError(f"{root}: slices: found none of class '{name}', allowed: at least 1")
    reasons = (OUTSIDE, SKIPPED, SMALL, LARGE, AMBIGUOUS, BOUNDARY)
    dropped = [(reason, counts[reason]) for reason in reasons]
    log.info("%s: %d of %d patients; %s", root, usable, len(visits), dict(labels))
    return Ingested(table, dropped=pd.DataFrame(dropped, columns=DROPPED_COLUMNS))


def find_visits(files: Iterable[Path], root: Path) -> dict[Path, list[Path]]:
    """The folders of patients, or of their visits, in order, and the volume files of each; files: all below `root`."""
    visits = defaultdict(list)
    for path in files:
        if path.name.lower().endswith(SUFFIXES):
            # A folder named after a sequence holds that sequence, of the patient whose folder it lies in.
            in_sequence = path.parent != root and SEQUENCE.search(path.parent.name)
            visits[path.parent.parent if in_sequence else path.parent].append(path)
    return dict(sorted(visits.items()))


def _owner(folder: Path, root: Path) -> Path:
    """The folder that is named after the patient: of a session's folder, the one above, if that is below the root."""
    return folder.parent if SESSION.search(folder.name) and root not in (folder, folder.parent) else folder


def _patient_in_paths(files: list[Path], root: Path, patient_from: str | None) -> str | None:
    """Of the files of a visit. Raises Unusable if a patient is asked for that is not there."""
    found = (patient_in_path(file.relative_to(root), patient_from) for file in files)
    patient = next(filter(None, found), None)
    if patient is None and patient_from is not None:
        raise no_patient(files[0].relative_to(root).as_posix())
    return patient


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


def _read_visit(folder: Path, files: list[Path], root: Path, settings: Brats) -> tuple[np.ndarray, np.ndarray, float]:
    """The head, in [0, 1] and 0 outside the brain, and its labels, both [Z, Y, X]; the size of a pixel, mm."""
    t1c = _read_oriented(_only(files, T1C, "T1 after contrast", "*_t1ce.nii.gz or *T1c*.mha", folder, root))
    segmentation = _read_oriented(_only(files, SEGMENTATION, "segmentation", "*_seg.nii.gz or *OT*.mha", folder, root))
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


def _only(files: list[Path], pattern: re.Pattern, what: str, allowed: str, folder: Path, root: Path) -> Path:
    """The one file that is named, or lies in a folder named, by the pattern; of several, the one named like its folder.

    `X_seg.nii.gz` of the folder X is taken rather than `X_seg_old.nii.gz`.
    """
    found = [
        path
        for path in files
        if pattern.search(path.name) or (path.parent != folder and pattern.search(path.parent.name))
    ]
    if len(found) > 1:
        parts = folder.relative_to(root).parts or (root.name,)
        own = {"_".join(parts[first:last]).lower() for first, last in combinations(range(len(parts) + 1), 2)}
        named = [path for path in found if pattern.sub("", SUFFIX.sub("", path.name), 1).lower() in own]
        if len(named) == 1:
            others = ", ".join(path.name for path in found if path != named[0])
            log.warning("%s: %s is the %s, not %s", folder.relative_to(root), named[0].name, what, others)
            found = named
    if len(found) != 1:
        names = ", ".join(path.name for path in found or files)
        reason = f"{'several files are' if found else 'no file is'} the {what}"
        raise Unusable(reason, f"{names}; allowed: one {allowed}", "complete the folder, or remove it")
    return found[0]


def _read_oriented(path: Path) -> sitk.Image:
    """A NIfTI or MetaImage volume as float32, its axes turned to (left, back, up). Raises Unusable."""
    try:
        volume = open_volume(path)
        if (found := math.prod(volume.header.shape)) > MOST_VOXELS:
            raise Unusable("volume too large", f"{found} voxels, allowed: {MOST_VOXELS}", "resample the volume")
        image = sitk.GetImageFromArray(volume.read())
    except Unusable as error:
        remedy = "replace the file, or remove the patient"
        raise Unusable(error.reason, f"{error.found} ({path.name})", remedy) from error
    spacing = np.linalg.norm(volume.header.affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((volume.header.affine[:3, :3] / spacing).ravel().tolist())
    return sitk.DICOMOrient(image, "LPS")


def _normalise(head: np.ndarray, white_percentile: float) -> np.ndarray:
    """Scale a volume so that 0, outside the brain, stays 0, and the percentile of the brain's intensity becomes 1."""
    if (unknown := ~np.isfinite(head)).any():
        fill_unknown(head, unknown, "MR")
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
