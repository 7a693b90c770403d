"""Volumes of interest: small isotropic cubes around nodules, and around healthy places of the lungs.

A VOI is float32 [S, S, S] in Hounsfield units, its axes z, y, x (LPS), its centre (voxel (S - 1) / 2 along each axis)
at the nodule's; where the scan's voxels are as large, at the nearest place on them (`ct.grids.on_voxels`). Networks see
`VOI_WINDOW` as -1 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import zarr
from scipy.spatial import KDTree
from zarr.codecs import BloscCodec

from scangan.config import VoiCut
from scangan.ct.grids import MOST_DENSE, MOST_OUTSIDE, Numbers, cut_voi, dense_share, fits, on_voxels, outside_share
from scangan.data.split import SPLITS, assert_patients_apart
from scangan.data.store import CHUNK_BYTES, check_ids, missing_chunk, open_zip
from scangan.errors import DataError
from scangan.files import atomic, reading, scratch_folder, zip_folder
from scangan.rejected import Rejection, rejected_table

AT_ONCE = 256  # VOIs that are read at once
TRIES = 1000  # random places that are looked at for one healthy VOI
VOI_TYPES = {
    "voi_id": "str",
    "scan_id": "str",
    "patient_id": "str",
    "kind": "str",
    "equivalent_diameter_mm": "float64",
    "z_voxel": "float64",
    "y_voxel": "float64",
    "x_voxel": "float64",
    "spacing_mm": "float64",
    "data": "str",
}
CENTRE = ["z_voxel", "y_voxel", "x_voxel"]


def largest_mm(settings: VoiCut) -> float:
    """The diameter of the largest nodule that fits a VOI with its margin."""
    return settings.size * settings.spacing_mm - 2 * settings.margin_mm


@dataclass(frozen=True)
class VoiSet:
    """VOIs and their table, in the same order.

    voxels: float32 [N, S, S, S] in HU. table: N rows with the columns of `VOI_TYPES`: `kind` is nodule or healthy;
    `equivalent_diameter_mm` the nodule's, or that of the sphere that was found healthy; z, y, x_voxel the centre in the
    voxels of the scan it was cut from; `spacing_mm` the VOI's.
    """

    voxels: np.ndarray
    table: pd.DataFrame

    def __post_init__(self) -> None:
        if self.voxels.ndim != 4 or len(self.voxels) != len(self.table):
            raise ValueError(f"VOIs {self.voxels.shape} do not fit a table of {len(self.table)} rows")

    def __len__(self) -> int:
        return len(self.table)

    def select(self, mask_or_index: Any) -> VoiSet:
        """The VOIs that a boolean mask, or an array of positions, names."""
        chosen = np.asarray(mask_or_index)
        if chosen.size == 0 and chosen.dtype != bool:
            chosen = chosen.astype(int)
        return VoiSet(self.voxels[chosen], self.table.iloc[chosen].reset_index(drop=True))

    @staticmethod
    def concatenate(sets: Sequence[VoiSet]) -> VoiSet:
        """All VOIs of `sets`, one set after the other."""
        voxels = np.concatenate([vois.voxels for vois in sets])
        return VoiSet(voxels, pd.concat([vois.table for vois in sets], ignore_index=True))


def cut_nodule_vois(
    scans: Iterable[tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]],
    nodules: pd.DataFrame,
    settings: VoiCut,
) -> tuple[VoiSet, pd.DataFrame]:
    """VOIs centred on the nodules of scans, in the order of the scans and the table.

    scans: as `scan_store.read_scans` gives them. nodules: rows of a nodule table; those of other scans are left alone.
    Returns the VOIs, and as rows of `REJECTED_TYPES` the nodules that have none: without a diameter, too large for the
    VOI with its margin, marked by too few readers, or too far beyond the scan's border. None counts as an error.
    """
    kept, rejected = _Kept(settings), []
    of_scan = dict(list(nodules.groupby("scan_id")))
    for scan, hounsfield, _, _ in scans:
        for row in of_scan.get(scan["scan_id"], nodules[:0]).to_dict("records"):
            name = f"{scan['scan_id']}-n{int(row['nodule'])}"
            centre = [row[axis] for axis in CENTRE]
            if why_not := _refuse_nodule(row, hounsfield.shape, scan["spacing_mm"], centre, settings):
                rejected.append(Rejection(name, *why_not, counted=False))
            else:
                kept.add(name, scan, hounsfield, centre, "nodule", row["equivalent_diameter_mm"])
    return kept.together(), rejected_table(rejected)


def _refuse_nodule(
    row: dict[str, Any], shape: Sequence[int], spacing_mm: float, centre: Sequence[float], settings: VoiCut
) -> tuple[str, str, str] | None:
    """Reason, what was found, and remedy; None for a nodule that has a VOI."""
    diameter = row["equivalent_diameter_mm"]
    if not diameter > 0:
        return "nodule without a diameter", f"{diameter:g} mm", "annotate it, or leave it out"
    if diameter > largest_mm(settings):
        remedy = f"choose a larger VOI or a smaller margin; allowed: {largest_mm(settings):g} mm"
        return "nodule larger than the VOI", f"{diameter:.1f} mm", remedy
    if row.get("readers", settings.min_readers) < settings.min_readers:
        return (
            "nodule of too few readers",
            f"{row['readers']:g}",
            f"min_readers: found {settings.min_readers}, lower it",
        )
    beyond = outside_share(shape, (spacing_mm,) * 3, centre, settings.size, settings.spacing_mm)
    if beyond > MOST_OUTSIDE:
        return "nodule at the border of the scan", f"{beyond:.0%} of the VOI beyond it", "choose a smaller VOI"
    return None


def cut_healthy_vois(
    scans: Iterable[tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]],
    nodules: pd.DataFrame,
    settings: VoiCut,
    per_scan: int,
    diameters_mm: Sequence[float],
    seed: int,
) -> tuple[VoiSet, pd.DataFrame]:
    """VOIs at random places of the lungs, away from every nodule of any reader.

    scans, nodules: as for `cut_nodule_vois`. per_scan: how many of each scan. diameters_mm: of the spheres, drawn with
    replacement from those that fit the VOI. A centre, and the sphere as far as `settings.inside_share` of its radius,
    lie in the lungs, and no more than half of the sphere's lung is as bright as vessels; the sphere is at least
    `margin_mm` from each voxel of the scan's nodules, and from the spheres of the table. A scan's VOIs depend on the
    seed and its `scan_id` alone.
    Returns the VOIs, and as rows of `REJECTED_TYPES` the scans whose lung mask failed, and spheres without a place.
    Raises DataError if no diameter fits the VOI.
    """
    fitting = np.asarray(diameters_mm, float)
    fitting = fitting[(fitting > 0) & (fitting <= largest_mm(settings))]
    if not fitting.size:
        found = f"{np.min(diameters_mm):g} mm at least" if np.size(diameters_mm) else "none"
        raise DataError(f"voi: diameters_mm: found {found}, allowed: one up to {largest_mm(settings):g} mm")
    kept, rejected = _Kept(settings), []
    of_scan = dict(list(nodules.groupby("scan_id")))
    for scan, hounsfield, lungs, labels in scans:
        if scan["lung_check"] or not lungs.any():
            why_not = ("lung mask failed", scan["lung_check"] or "no lung", "remove the scan, or mend its mask")
            rejected.append(Rejection(scan["scan_id"], *why_not, counted=False))
            continue
        rng = np.random.default_rng([seed, *scan["scan_id"].encode()])
        avoid = _Avoid(of_scan.get(scan["scan_id"], nodules[:0]), labels, scan["spacing_mm"])
        places = np.flatnonzero(lungs)
        for number in range(1, per_scan + 1):
            name, diameter = f"{scan['scan_id']}-h{number}", float(rng.choice(fitting))
            centre = _healthy_place(rng, places, lungs, hounsfield, scan["spacing_mm"], avoid, diameter / 2, settings)
            if centre is None:
                found = f"none of {diameter:.1f} mm in {TRIES} tries"
                why_not = ("no healthy place", found, "choose smaller diameters or fewer VOIs")
                rejected.append(Rejection(name, *why_not, counted=False))
            else:
                kept.add(name, scan, hounsfield, centre, "healthy", diameter)
    return kept.together(), rejected_table(rejected)


class _Avoid:
    """The nodules of a scan: voxels of any reader's consensus, and spheres of the table."""

    def __init__(self, nodules: pd.DataFrame, labels: np.ndarray, spacing_mm: float) -> None:
        marked = np.argwhere(labels) * spacing_mm
        self.marked = KDTree(marked) if len(marked) else None
        self.centres = nodules[CENTRE].to_numpy(float) * spacing_mm
        self.radii = nodules.equivalent_diameter_mm.fillna(0).to_numpy(float) / 2

    def clear(self, centre_mm: np.ndarray, distance_mm: float) -> bool:
        """Whether a place, (z, y, x) in mm, is at least this far from all of them."""
        if (np.linalg.norm(self.centres - centre_mm, axis=1) < self.radii + distance_mm).any():
            return False
        return self.marked is None or self.marked.query(centre_mm)[0] >= distance_mm


def _healthy_place(
    rng: np.random.Generator,
    places: np.ndarray,
    lungs: np.ndarray,
    hounsfield: np.ndarray,
    spacing_mm: float,
    avoid: _Avoid,
    radius_mm: float,
    settings: VoiCut,
) -> np.ndarray | None:
    spacing = (spacing_mm,) * 3
    for flat in rng.choice(places, TRIES):
        # Nodules do not sit on the grid either.
        centre = np.array(np.unravel_index(flat, lungs.shape)) + rng.uniform(-0.5, 0.5, 3)
        if (
            avoid.clear(centre * spacing_mm, radius_mm + settings.margin_mm)
            and fits(lungs, spacing, centre, settings.inside_share * radius_mm)
            and dense_share(lungs, hounsfield, spacing, centre, radius_mm) <= MOST_DENSE
            and outside_share(lungs.shape, spacing, centre, settings.size, settings.spacing_mm) <= MOST_OUTSIDE
        ):
            return centre
    return None


class _Kept:
    """VOIs as they are cut."""

    def __init__(self, settings: VoiCut) -> None:
        self.settings = settings
        self.voxels: list[np.ndarray] = []
        self.rows: list[tuple[Any, ...]] = []

    def add(
        self,
        name: str,
        scan: dict[str, Any],
        hounsfield: np.ndarray,
        centre: Numbers,
        kind: str,
        diameter_mm: float,
    ) -> None:
        size, voi_mm = self.settings.size, self.settings.spacing_mm
        spacing = (scan["spacing_mm"],) * 3
        self.voxels.append(cut_voi(hounsfield, spacing, on_voxels(centre, spacing, size, voi_mm), size, voi_mm))
        self.rows.append((name, scan["scan_id"], scan["patient_id"], kind, diameter_mm, *centre, voi_mm, scan["data"]))

    def together(self) -> VoiSet:
        table = pd.DataFrame(self.rows, columns=list(VOI_TYPES)).astype(VOI_TYPES)
        size = self.settings.size
        return VoiSet(np.array(self.voxels, np.float32).reshape(-1, size, size, size), table)


class VoiWriter:
    """Writes VOIs as they are cut, whatever their number: one Zarr v3 array in a zip, int16 [N, S, S, S] in whole HU,
    and their table as parquet.

    Example:
        with VoiWriter(voxels_path, table_path, size=64) as writer:
            writer.append(vois)

    Both files appear under their names on clean exit only, the table last. The same VOIs give the same bytes.
    """

    def __init__(self, voxels_path: str | Path, table_path: str | Path, size: int) -> None:
        self.voxels_path, self.table_path, self.size = Path(voxels_path), Path(table_path), size
        self._tables = [pd.DataFrame(columns=list(VOI_TYPES)).astype(VOI_TYPES)]

    def __enter__(self) -> Self:
        self.voxels_path.parent.mkdir(parents=True, exist_ok=True)
        # A zip can only grow, but an appended array rewrites its last chunk: so the array grows in a folder.
        self._scratch = scratch_folder(self.voxels_path)
        self._array: zarr.Array = zarr.create_array(
            self._scratch.name,
            shape=(0, *(self.size,) * 3),
            chunks=(max(1, CHUNK_BYTES // (2 * self.size**3)), *(self.size,) * 3),
            dtype="int16",
            compressors=BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
            config={"write_empty_chunks": True},  # a chunk that is missing was lost, and is no zeros
        )
        return self

    def append(self, vois: VoiSet) -> None:
        """Add VOIs. Raises ValueError on a missing column, and on NaN."""
        if missing := set(VOI_TYPES) - set(vois.table.columns):
            raise ValueError(f"the table of VOIs lacks {sorted(missing)}")
        if np.isnan(vois.voxels).any():
            raise ValueError("VOIs hold NaN")
        limits = np.iinfo(np.int16)
        self._array.append(np.rint(vois.voxels).clip(limits.min, limits.max).astype("<i2"))
        self._tables.append(vois.table[list(VOI_TYPES)])

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._scratch:
            if kind is None:
                table = pd.concat(self._tables, ignore_index=True).astype(VOI_TYPES)
                with atomic(self.table_path) as rows, atomic(self.voxels_path) as packed:
                    table.to_parquet(rows, index=False)
                    zip_folder(Path(self._scratch.name), packed)


def write_vois(voxels_path: str | Path, table_path: str | Path, vois: VoiSet) -> None:
    """Write all VOIs of a set at once, see `VoiWriter`."""
    with VoiWriter(voxels_path, table_path, vois.voxels.shape[-1]) as writer:
        writer.append(vois)


def read_vois(voxels_path: str | Path, table_path: str | Path) -> VoiSet:
    """Read what `VoiWriter` wrote.

    Raises DataError, naming the file, if one is missing, truncated or of another kind, and if they differ in length.
    """
    with _opened(voxels_path, table_path) as (array, table):
        return VoiSet(_read(array, np.arange(len(table))), table)


def read_parts_of_vois(
    voxels_path: str | Path, table_path: str | Path, split_path: str | Path, names: Sequence[str] = SPLITS
) -> dict[str, VoiSet]:
    """VOIs by the part of their patients (`names` of SPLITS); the table has the column `cohort` as well.

    split_path: `split.csv` of a study of volumes, whose images are scans and whose labels are cohorts.
    """
    split = pd.read_csv(split_path, dtype="str", keep_default_na=False)
    assert_patients_apart(split, "split")
    scans, parts = split.set_index("image_id"), {}
    with _opened(voxels_path, table_path) as (array, table):
        table = table.assign(cohort=table.scan_id.map(scans.label))
        part_of = table.scan_id.map(scans.split).to_numpy()
        for name in names:
            rows = np.flatnonzero(part_of == name)
            parts[name] = VoiSet(_read(array, rows), table.iloc[rows].reset_index(drop=True))
    return parts


@contextmanager
def _opened(voxels_path: str | Path, table_path: str | Path) -> Iterator[tuple[zarr.Array, pd.DataFrame]]:
    """The voxels, none of them read, and their table."""
    with reading(table_path, "table", "a whole parquet table of VOIs"):
        table = pd.read_parquet(table_path)[list(VOI_TYPES)].astype(VOI_TYPES)
    check_ids(table_path, table["voi_id"])
    with reading(voxels_path, "voxels", "a whole Zarr array in a zip"):
        store, members = open_zip(voxels_path)
        array = zarr.open_array(store, mode="r")
        size = array.shape[-1]
        if array.shape != (len(table), size, size, size) or array.dtype != np.int16 or array.chunks[1:] != (size,) * 3:
            raise DataError(
                f"{voxels_path}: voxels: found {array.dtype} {list(array.shape)}, "
                f"allowed: int16 [{len(table)}, S, S, S], as {table_path} has rows"
            )
        if missing := missing_chunk(array, members):
            raise DataError(f"{voxels_path}: voxels: found no {missing}, allowed: all chunks")
        yield array, table
        store.close()


def _read(array: zarr.Array, rows: np.ndarray) -> np.ndarray:
    """Some VOIs as float32; few are held in both types."""
    voxels = np.empty((len(rows), *array.shape[1:]), np.float32)
    for first in range(0, len(rows), AT_ONCE):
        voxels[first : first + AT_ONCE] = array.oindex[rows[first : first + AT_ONCE]]
    return voxels
