"""Scans of a study of volumes as cubes: once as the mix left them, and once without any nodule."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from scangan.config import VoiCut
from scangan.data.scan_store import read_scans
from scangan.data.volume_set import VolumeWriter, frame_volume
from scangan.rejected import REJECTED_TYPES, rejected_table
from scangan.synthesis.mix import WITH, WITHOUT, erase_nodules
from scangan.synthesis.paste import Fill

log = logging.getLogger(__name__)


def frame_scans(
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
    spacing_mm: float,
    erase: Fill,
    voi: VoiCut,
    seed: int,
) -> pd.DataFrame:
    """Write each scan of a batch as a cube, see `volume_set.frame_volume`, in two versions.

    volumes, mixed: stores of the scans before and after the mix; nodules, mixed_nodules: what there is in them.
    free_files, mixed_files: volumes and manifest of each version. A scan that the mix left without nodules is free of
    them already; of any other, those that it had before the mix are erased, if it had any.
    Returns as rows of `REJECTED_TYPES` the scans from which not every nodule could be erased: they have no version
    without nodules.
    """
    rejected = []
    with VolumeWriter(*free_files, size) as free, VolumeWriter(*mixed_files, size) as as_mixed:
        both = zip(read_scans([volumes], scans), read_scans([mixed], scans), strict=True)
        for (scan, hounsfield, lungs, labels), (_, after, _, _) in both:

            def cube(voxels, scan=scan, lungs=lungs):
                return frame_volume(voxels, lungs, scan["spacing_mm"], scan["lung_check"], size, spacing_mm)

            row = {name: scan[name] for name in ("patient_id", "data", "lung_volume_ml", "lung_check")}
            row |= {"volume_id": scan["scan_id"], "source": cohort, "spacing_mm": spacing_mm}
            left = int((mixed_nodules.scan_id == scan["scan_id"]).sum())
            as_mixed.write(cube(after), row | {"version": "mixed", "label": WITH if left else WITHOUT, "nodules": left})
            if left:
                own = nodules[nodules.scan_id == scan["scan_id"]]
                edited = erase_nodules(scan, hounsfield, labels, own, erase, voi, seed)
                if edited.has_nodules:
                    rejected.append(edited.rejected.assign(source=scan["scan_id"], counted=True))
                    continue
                after = edited.hounsfield
            free.write(cube(after), row | {"version": "free", "label": WITHOUT, "nodules": 0})
    log.info("%s: %d scans, %d without a version free of nodules", cohort, len(scans), len(rejected))
    tables = [table.drop_duplicates("source") for table in rejected] or [rejected_table()]
    return pd.concat(tables, ignore_index=True).astype(REJECTED_TYPES)
