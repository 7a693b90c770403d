"""The scan store: the scans of a cohort, each on one isotropic grid, their tables, and the images cut from them.

Made by `scangan.ingest.scans`. Whoever reads it waits for no DICOM reader, annotations or torch to be imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec

from scangan import config
from scangan.data.store import MANIFEST_TYPES, check_ids, fit_square, missing_chunk, open_zip
from scangan.errors import DataError
from scangan.files import atomic, reading, scratch_folder, zip_folder
from scangan.rejected import REJECTED_TYPES, Rejection, check_rejected, rejected_table

log = logging.getLogger(__name__)

CENTRAL_LUNGS = 0.8  # share of the lungs' height that slices are taken from,
CENTRAL_VOLUME = 0.5  # and of the volume's where there is no plausible lung mask
ARRAYS = {"hounsfield": "int16", "lungs": "uint8", "nodules": "uint8"}
CHUNK_SLICES = 16
REQUIRED = "none is needed: require_nodules asks for scans with nodules"

SCAN_TYPES = {
    "scan_id": "str",
    "patient_id": "str",
    "data": "str",
    "spacing_mm": "float64",
    "origin_x_mm": "float64",
    "origin_y_mm": "float64",
    "origin_z_mm": "float64",
    "depth": "int64",
    "height": "int64",
    "width": "int64",
    "modality": "str",
    "manufacturer": "str",
    "kernel": "str",
    "native_spacing_x_mm": "float64",
    "native_spacing_y_mm": "float64",
    "native_spacing_z_mm": "float64",
    "native_slices": "int64",
    "nodules": "Int64",  # missing where nobody looked for any
    "lung_volume_ml": "float64",
    "lung_check": "str",
    "sha256": "str",
}
NODULE_TYPES = {
    "scan_id": "str",
    "nodule": "int64",
    "x_mm": "float64",
    "y_mm": "float64",
    "z_mm": "float64",
    "z_voxel": "float64",
    "y_voxel": "float64",
    "x_voxel": "float64",
    "diameter_mm": "float64",  # of the readers' outlines; a nodule's size is `equivalent_diameter_mm`
    "spread_mm": "float64",
    "equivalent_diameter_mm": "float64",
    "volume_mm3": "float64",
    "readers": "int64",
    "malignancy": "float64",
    "subtlety": "float64",
    "texture": "float64",
}


@dataclass(frozen=True)
class BatchFiles:
    """The files of one batch.

    volumes: the scans' arrays, Zarr v3 in a zip, all [Z, Y, X]: `<scan_id>/hounsfield` int16, `<scan_id>/lungs` uint8
    (0 or 1), `<scan_id>/nodules` uint8 (0 or the nodule's number). scans, nodules, rejected: parquet tables of
    `SCAN_TYPES`, `NODULE_TYPES` and `REJECTED_TYPES`.
    """

    volumes: Path
    scans: Path
    nodules: Path
    rejected: Path


@contextmanager
def write_volumes(path: Path) -> Iterator[Callable[[str, np.ndarray, np.ndarray, np.ndarray], None]]:
    """Write the arrays of scans as they come; the file appears on clean exit only. The same scans give the same bytes.

    Example: `with write_volumes(path) as write: write(scan_id, hounsfield, lungs, nodules)`, all [Z, Y, X].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(path) as folder:
        zarr.create_group(folder)

        def write(scan_id: str, hounsfield: np.ndarray, lungs: np.ndarray, nodules: np.ndarray) -> None:
            for (name, kind), values in zip(ARRAYS.items(), (hounsfield, lungs, nodules), strict=True):
                array = np.asarray(values, kind)
                zarr.create_array(
                    folder,
                    name=f"{scan_id}/{name}",
                    data=array,
                    chunks=(min(CHUNK_SLICES, len(array)), *array.shape[1:]),
                    compressors=BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
                    config={"write_empty_chunks": True},  # a chunk that is missing was lost, and is no zeros
                )

        yield write
        with atomic(path) as temporary:
            zip_folder(Path(folder), temporary)


def write_parquet(path: Path, rows: pd.DataFrame, types: dict[str, str]) -> None:
    """Write the columns of `types`, in this order, as parquet."""
    with atomic(path) as temporary:
        rows.reindex(columns=list(types)).astype(types).to_parquet(temporary, index=False)


def gather_batches(
    batches: Sequence[BatchFiles], rejected: pd.DataFrame, settings: config.Gathering
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The scans and nodules of all batches, in the order of their pseudonyms, and the rejected.

    rejected: of `index_scans`; these rows come first.
    With `settings.require_nodules` scans without any are left out, and named among the rejected.
    Raises DataError if no scan is left, or if more than `settings.max_rejected` of the scans are rejected.
    """
    scans, nodules, refused = (
        pd.concat([_read_table(getattr(batch, name), types) for batch in batches], ignore_index=True)
        for name, types in (("scans", SCAN_TYPES), ("nodules", NODULE_TYPES), ("rejected", REJECTED_TYPES))
    )
    refused = pd.concat([rejected.astype(REJECTED_TYPES), refused], ignore_index=True)
    check_rejected(refused, len(scans), settings.max_rejected, "data", "scans")
    check_ids("data", scans["scan_id"])
    for batch in batches:
        _check_whole(batch)
    scans = scans.sort_values("scan_id", ignore_index=True)
    if settings.require_nodules:
        has_some = (scans["nodules"].fillna(0) > 0).astype(bool)
        without = [
            Rejection(row.scan_id, "no nodule", "not annotated" if pd.isna(row.nodules) else "0", REQUIRED, False)
            for row in scans[~has_some].itertuples()
        ]
        log.info("require_nodules: %d of %d scans left out", len(without), len(scans))
        refused = pd.concat([refused, rejected_table(without)], ignore_index=True)
        scans = scans[has_some].reset_index(drop=True)
        if scans.empty:
            raise DataError(f"data: require_nodules: found no nodule in {len(without)} scans, allowed: one in some")
    return scans, nodules.sort_values(["scan_id", "nodule"], ignore_index=True), refused


def _check_whole(batch: BatchFiles) -> None:
    """Raise DataError unless a batch has a row for each scan of which it has voxels, and voxels for each row."""
    with reading(batch.volumes, "scans", "a whole Zarr group in a zip"):
        _, members = open_zip(batch.volumes)
    stored = {name.split("/")[0] for name in members if "/" in name}
    listed = set(_read_table(batch.scans, SCAN_TYPES)["scan_id"])
    if odd := sorted(stored ^ listed):
        there = "voxels and no row" if odd[0] in stored else "a row and no voxels"
        raise DataError(f"{batch.scans}: {odd[0]}: found {there}, allowed: both; remove the file and run again")


def _read_table(path: Path, types: dict[str, str]) -> pd.DataFrame:
    with reading(path, "table", "a whole parquet table of an ingested batch"):
        return pd.read_parquet(path)[list(types)].astype(types)


def read_scan_table(path: str | Path) -> pd.DataFrame:
    """The scan table of a cohort, as written by `DataFrame.to_csv(index=False)`.

    Raises DataError, naming the file, if it is missing or of another kind.
    """
    with reading(path, "scans", "the table of an ingested cohort"):
        # A scanner may be called `NA`; only numbers may be missing.
        numbers = [name for name, kind in SCAN_TYPES.items() if kind != "str"]
        return pd.read_csv(
            path,
            dtype=SCAN_TYPES,
            usecols=list(SCAN_TYPES),
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
        )


def read_batch(scans: str | Path, nodules: str | Path, cohort: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scans and nodules of a batch's parquet tables that the cohort's scan table kept, with the patients it says."""
    batch, found = _read_table(Path(scans), SCAN_TYPES), _read_table(Path(nodules), NODULE_TYPES)
    patients = read_scan_table(cohort).set_index("scan_id").patient_id
    kept = batch[batch.scan_id.isin(patients.index)].reset_index(drop=True)
    found = found[found.scan_id.isin(kept.scan_id)].reset_index(drop=True)
    return kept.assign(patient_id=kept.scan_id.map(patients).astype("str")), found


def read_batches(
    scans: Sequence[str | Path], nodules: Sequence[str | Path], cohorts: Sequence[str | Path]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What `read_batch` reads, of several batches of several cohorts; the three are of the same length."""
    tables = zip(*(read_batch(*paths) for paths in zip(scans, nodules, cohorts, strict=True)), strict=True)
    all_scans, all_nodules = (pd.concat(each, ignore_index=True) for each in tables)
    return all_scans, all_nodules


def scan_manifest(scans: pd.DataFrame, label: str) -> pd.DataFrame:
    """Manifest rows of scans, a row each, all of one label: so a cohort of volumes is split like one of images."""
    rows = scans[["scan_id", "patient_id", "data", "spacing_mm", "sha256"]].rename(columns={"scan_id": "image_id"})
    rows = rows.assign(label=label, source=scans.scan_id)
    return rows.reindex(columns=list(MANIFEST_TYPES)).astype(MANIFEST_TYPES)


def read_scans(
    volumes: Sequence[str | Path], scans: pd.DataFrame
) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]]:
    """The scans of a table, one at a time, in its order.

    scans: rows of a scan table, which may have more columns. Yields a row and, all [Z, Y, X], its Hounsfield units
    (int16), lungs (bool) and nodules (uint8: 0, or the nodule's number).
    Raises DataError, naming the file, if a store is missing or truncated, and if no store holds a scan.
    """
    with ExitStack() as stack:
        groups: dict[str, tuple[str | Path, Any, set[str]]] = {}
        for path in volumes:
            with reading(path, "scans", "a whole Zarr group in a zip"):
                store, members = open_zip(path)
                group = zarr.open_group(store, mode="r")
                groups |= {scan_id: (path, group, members) for scan_id in group.group_keys()}
            stack.callback(store.close)
        for row in scans.to_dict("records"):
            scan_id = row["scan_id"]
            if scan_id not in groups:
                raise DataError(f"{', '.join(map(str, volumes))}: scans: found no {scan_id}, allowed: all of the table")
            path, group, members = groups[scan_id]
            with reading(path, scan_id, "a whole scan"):
                arrays = {name: group[f"{scan_id}/{name}"] for name in ARRAYS}
                _check_arrays(arrays, scan_id, members)
                hounsfield, lungs, nodules = (array[:] for array in arrays.values())
            yield row, hounsfield, lungs.astype(bool), nodules


def _check_arrays(arrays: dict[str, zarr.Array], scan_id: str, members: set[str]) -> None:
    """Raise ValueError unless a scan's arrays have their types and one shape, and lack no chunk."""
    shape = arrays["hounsfield"].shape
    for name, array in arrays.items():
        if array.dtype != ARRAYS[name] or array.shape != shape or len(shape) != 3:
            raise ValueError(f"{name} {array.dtype} {list(array.shape)} in place of {ARRAYS[name]} [Z, Y, X]")
        if missing := missing_chunk(array, members, f"{scan_id}/{name}"):
            raise ValueError(f"no {missing}")


def cut_slices(
    hounsfield: np.ndarray, lungs: np.ndarray, scan: dict[str, Any], settings: config.Slicing
) -> tuple[np.ndarray, pd.DataFrame]:
    """Axial slices of a scan as images.

    hounsfield, lungs: [Z, Y, X]. scan: its row of the scan table. `settings.slices_per_scan` slices lie evenly over the
    central 80% of the lungs' height (one: in the middle), or over the central half of the volume where `lung_check`
    says that the lungs were not found; fewer where there are fewer slices than that.
    Returns float32 [n, channels, size, size], `settings.window` as 0 to 1, front at the top and the patient's left on
    the right, and manifest rows, whose spacing is that of the images.
    """
    heights = np.flatnonzero(lungs.any((1, 2))) if not scan["lung_check"] else np.arange(len(hounsfield))
    share = CENTRAL_LUNGS if not scan["lung_check"] else CENTRAL_VOLUME
    margin = (heights[-1] - heights[0]) * (1 - share) / 2
    parts = np.linspace(0, 1, settings.slices_per_scan) if settings.slices_per_scan > 1 else np.array([0.5])
    chosen = np.unique(np.rint(heights[0] + margin + parts * (heights[-1] - heights[0] - 2 * margin)).astype(int))
    low, high = settings.window
    grey = ((hounsfield[chosen].astype(np.float32) - low) / (high - low)).clip(0, 1)
    images = np.stack([fit_square(plane[None], settings.image_size) for plane in grey])
    rows = pd.DataFrame({"image_id": [f"{scan['scan_id']}-z{z}" for z in chosen]}).assign(
        patient_id=scan["patient_id"],
        label=settings.label,
        source=scan["scan_id"],
        data=scan["data"],
        spacing_mm=scan["spacing_mm"] * max(hounsfield.shape[1:]) / settings.image_size,
    )
    rows = rows.reindex(columns=list(MANIFEST_TYPES)).astype(MANIFEST_TYPES)
    return np.repeat(images, settings.channels, axis=1), rows
