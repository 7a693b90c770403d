"""Scans of a study of volumes as cubes, on whose grid all nodules are edited: in scans, in tests, in synthetic volumes.

`frame_scans` makes the cubes; `free_scans` keeps them twice, as the mix left them and without any nodule.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scangan.config import VoiCut
from scangan.data.scan_store import NODULE_TYPES, SCAN_TYPES, read_scans, write_volumes
from scangan.data.voi import CENTRE
from scangan.data.volume_set import VolumeWriter, cube_positions, frame_volume
from scangan.rejected import REJECTED_TYPES, Rejection, rejected_table
from scangan.synthesis.mix import WITH, WITHOUT, erase_nodules
from scangan.synthesis.paste import Fill
from scangan.synthesis.volumes import find_lungs

log = logging.getLogger(__name__)


def frame_scans(
    volumes: str | Path, scans: pd.DataFrame, nodules: pd.DataFrame, out: str | Path, *, size: int, spacing_mm: float
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Write each scan of a batch as a cube, see `volume_set.frame_volume`, to the scan store `out`.

    volumes: the batch's scan store; scans, nodules: its tables. The lungs are those that are found in the cube, as they
    are in synthetic volumes.
    Returns the tables of the cubes, `SCAN_TYPES` and `NODULE_TYPES`, and as rows of `REJECTED_TYPES` the nodules whose
    centres lie beyond their cube; none counts as an error.
    """
    rows, framed, rejected = [], [nodules[:0]], []
    with write_volumes(Path(out)) as write:
        for scan, hounsfield, lungs, labels in read_scans([volumes], scans):
            grid = (scan["spacing_mm"], scan["lung_check"], size, spacing_mm)
            positions = cube_positions(lungs, *grid)
            cube = frame_volume(hounsfield, lungs, *grid)
            own = nodules[nodules.scan_id == scan["scan_id"]]
            inside, beyond = _place_nodules(own, positions)
            found = find_lungs(cube, spacing_mm)
            write(scan["scan_id"], cube, found.mask, _frame_labels(labels, positions, inside))
            origin = {
                f"origin_{axis}_mm": scan[f"origin_{axis}_mm"] + along[0] * scan["spacing_mm"]
                for axis, along in zip("zyx", positions, strict=True)
            }
            made = {"spacing_mm": spacing_mm, "lung_check": found.failure, "lung_volume_ml": found.volume_ml}
            made |= dict.fromkeys(("depth", "height", "width"), size)
            if pd.notna(scan["nodules"]):
                made["nodules"] = len(inside)
            rows.append(scan | origin | made)
            framed.append(inside)
            remedy = "choose a larger grid"
            rejected += [
                Rejection(f"{scan['scan_id']}-n{number}", "nodule beyond the cube", "its centre", remedy, counted=False)
                for number in beyond.nodule
            ]
    tables = pd.DataFrame(rows, columns=list(SCAN_TYPES)), pd.concat(framed, ignore_index=True)[list(NODULE_TYPES)]
    return tables[0].astype(SCAN_TYPES), tables[1].astype(NODULE_TYPES), rejected_table(rejected)


def _place_nodules(nodules: pd.DataFrame, positions: Sequence[np.ndarray]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of a nodule table with their centres in a cube's voxels: those within the cube, and the others."""
    size = len(positions[0])
    centres = {
        name: (nodules[name] - along[0]) / (along[1] - along[0]) for name, along in zip(CENTRE, positions, strict=True)
    }
    placed = nodules.assign(**centres)
    inside = ((placed[CENTRE] >= -0.5) & (placed[CENTRE] <= size - 0.5)).all(axis=1)
    return placed[inside], placed[~inside]


def _frame_labels(labels: np.ndarray, positions: Sequence[np.ndarray], nodules: pd.DataFrame) -> np.ndarray:
    """The labels of a cube's nodules, uint8 [S, S, S]: of the nearest voxel, and at least the one at each centre."""
    nearest = [np.rint(along).astype(int) for along in positions]
    within = [(along >= 0) & (along < length) for along, length in zip(nearest, labels.shape, strict=True)]
    clipped = [along.clip(0, length - 1) for along, length in zip(nearest, labels.shape, strict=True)]
    framed = labels[np.ix_(*clipped)] * (within[0][:, None, None] & within[1][:, None] & within[2])
    framed[~np.isin(framed, nodules.nodule)] = 0
    for row in nodules.itertuples():
        if not (framed == row.nodule).any():
            framed[tuple(round(getattr(row, axis)) for axis in CENTRE)] = row.nodule
    return framed


def free_scans(
    cohort: str,
    volumes: str | Path,
    mixed: str | Path,
    scans: pd.DataFrame,
    nodules: pd.DataFrame,
    mixed_nodules: pd.DataFrame,
    free_files: tuple[str | Path, str | Path],
    mixed_files: tuple[str | Path, str | Path],
    *,
    size: int,
    erase: Fill,
    voi: VoiCut,
    seed: int,
    erased_up_to_mm: float = math.inf,
) -> pd.DataFrame:
    """Write the cubes of a batch as a set of volumes in two versions: as the mix left them, and free of nodules.

    volumes, mixed: stores of the cubes before and after the mix; nodules, mixed_nodules: what there is in them.
    free_files, mixed_files: volumes and manifest of each version. Free of nodules is a scan as it was, without shams,
    if it never had any; as the mix left it, if that erased all; of any other, those that it had are erased.
    Returns as rows of `REJECTED_TYPES` the scans from which not every nodule could be erased: they have no version
    without nodules.
    """
    rejected = []
    with VolumeWriter(*free_files, size) as free, VolumeWriter(*mixed_files, size) as as_mixed:
        both = zip(read_scans([volumes], scans), read_scans([mixed], scans), strict=True)
        for (scan, hounsfield, _, labels), (_, after, _, _) in both:
            row: dict[str, Any] = {
                name: scan[name] for name in ("patient_id", "data", "lung_volume_ml", "lung_check", "spacing_mm")
            }
            row |= {"volume_id": scan["scan_id"], "source": cohort}
            left = int((mixed_nodules.scan_id == scan["scan_id"]).sum())
            as_mixed.write(after, row | {"version": "mixed", "label": WITH if left else WITHOUT, "nodules": left})
            own = nodules[nodules.scan_id == scan["scan_id"]]
            if own.empty:
                without = hounsfield
            elif not left:
                without = after
            else:
                edited = erase_nodules(scan, hounsfield, labels, own, erase, voi, seed, erased_up_to_mm)
                if edited.has_nodules:
                    rejected.append(edited.rejected.assign(source=scan["scan_id"], counted=True))
                    continue
                without = edited.hounsfield
            free.write(without, row | {"version": "free", "label": WITHOUT, "nodules": 0})
    log.info("%s: %d scans, %d without a version free of nodules", cohort, len(scans), len(rejected))
    tables = [table.drop_duplicates("source") for table in rejected] or [rejected_table()]
    return pd.concat(tables, ignore_index=True).astype(REJECTED_TYPES)
