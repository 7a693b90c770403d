"""Volumes with classes: NIfTI, MetaImage and NRRD files and DICOM series, in folders, one a class, or beside a CSV.

A volume is turned to the axes of the patient that are nearest to its own, seen through a window as black to white, and
resized to a cube. Nothing is interpolated between axes: an oblique scan stays as it was taken.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scangan.config import VolumeFolder
from scangan.data.store import resize_volume
from scangan.ingest.cohort import Append, Ingested
from scangan.ingest.data_files import list_files
from scangan.ingest.dicom import Series, find_series, read_series
from scangan.ingest.hounsfield import check_hounsfield, check_labels
from scangan.ingest.image_folder import class_each, find_class_folders, list_beside, parts_of
from scangan.ingest.images import Listed, Picture, name_patients, read_all, source_of
from scangan.ingest.labelled_images import list_rows
from scangan.ingest.volume_files import fill_unknown, open_volume, read_volume_file
from scangan.ingest.volume_headers import DATA_SUFFIXES, SUFFIXES
from scangan.rejected import Rejection, Unusable

AT_ONCE = 8  # cubes in memory


@dataclass(frozen=True)
class Found:
    """The volumes below a folder: files, and series by a path for each, that of their folder.

    files: of volumes, sorted. series: path -> series; of several in one folder each has a number behind the folder's
    path. rejected: what else lies there.
    """

    files: list[Path]
    series: dict[Path, Series]
    rejected: list[Rejection]

    @property
    def paths(self) -> list[Path]:
        """One for each volume."""
        return [*self.files, *self.series]


def read_cohort(root: Path, settings: VolumeFolder, data: str, append: Append) -> Ingested:
    """Read volumes as cubes, see `readers.Reader.read`; ordered by path.

    Raises DataError also if the CSV or one of its columns is missing.
    """
    root = Path(root)
    found = find_volumes(root, settings)
    listing, rejected = _list(root, settings, found)
    parts = parts_of(listing, root, settings.classes) if settings.labels is None else {}

    def read(listed: Listed) -> Picture:
        return read_volume(listed.file, found.series.get(listed.file), settings)

    allowed = f"{' '.join(SUFFIXES)}, or DICOM series"
    return read_all(read, root, listing, rejected, settings, data, append, allowed, parts=parts, at_once=AT_ONCE)


def list_cohort(root: Path, settings: VolumeFolder) -> tuple[list[Listed], list[Rejection]]:
    """The volumes of all classes, of which headers alone were read, and what else lies there."""
    return _list(Path(root), settings, find_volumes(root, settings))


def _list(root: Path, settings: VolumeFolder, found: Found) -> tuple[list[Listed], list[Rejection]]:
    if settings.labels is not None:
        listing, rejected = list_rows(root, settings, found.paths)
    else:
        folders, _ = find_class_folders(root, settings.classes)
        inside = [path for path in found.paths if any(path.is_relative_to(root / folder) for folder in folders)]
        listing, rejected = class_each(root, folders, inside)
        listing, nobodys = name_patients(listing, root, settings.patient_from, folders)
        rejected += nobodys + list_beside(root, folders, sorted(set(found.paths) - set(inside)))
    readable = []
    for listed in listing:
        try:
            if listed.file not in found.series:
                check_edges(open_volume(listed.file).header.shape, settings.min_slices)
        except Unusable as error:
            rejected.append(error.of(source_of(listed.file, root)))
        else:
            readable.append(listed)
    return readable, found.rejected + rejected


def find_volumes(root: Path, settings: VolumeFolder) -> Found:
    """The volumes below a folder, by the endings of files and the headers of all others.

    Raises DataError if the folder is missing.
    """
    files, rejected = list_files(root)
    files = [file for file in files if settings.labels is None or file != Path(root, settings.labels)]
    volumes = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    others = [file for file in files if not file.name.lower().endswith((*SUFFIXES, *DATA_SUFFIXES))]
    series, findings = find_series(others, root, settings.modality)
    return Found(volumes, _paths_of(series), rejected + findings)


def _paths_of(series: Sequence[Series]) -> dict[Path, Series]:
    """A path for each series: of its folder, with a number where several lie in one."""
    folders: dict[Path, list[Series]] = {}
    for each in series:
        folders.setdefault(Path(os.path.commonpath([file.parent for file in each.files])), []).append(each)
    return {
        folder if len(own) == 1 else folder / f"series{number}": each
        for folder, own in sorted(folders.items())
        for number, each in enumerate(own, 1)
    }


def check_edges(shape: tuple[int, ...], min_slices: int) -> None:
    """Raise Unusable if a volume of this shape is a picture."""
    if min(shape) < min_slices:
        found = f"{' x '.join(map(str, shape[::-1]))} voxels, allowed: {min_slices} or more along each edge"
        raise Unusable("too few slices", found, "remove the file, or lower `min_slices`")


def read_volume(path: Path, series: Series | None, settings: VolumeFolder) -> Picture:
    """A volume as a cube [1, S, S, S] in [0, 1], of a file or of a DICOM series.

    Raises Unusable for one that is damaged, too thin, of labels, without contrast or, of CT, not in Hounsfield units.
    """
    voxels, affine, patient_id = _read_voxels(path, series, settings)
    check_edges(voxels.shape, settings.min_slices)
    voxels, spacing_mm = turn_to_patient(voxels, affine)
    low, high = settings.window
    scale = f"CT, {low:g} to {high:g} HU"
    if settings.modality == "MR":
        scale = "MR, percentiles {:g} to {:g}".format(*settings.percentiles)
        low, high = np.percentile(voxels[voxels != 0] if voxels.any() else voxels, settings.percentiles).tolist()
    grey = ((voxels.astype(np.float32) - low) / max(high - low, float(np.finfo(np.float32).tiny))).clip(0, 1)
    if np.ptp(grey) == 0:
        raise Unusable("no contrast", f"{voxels.min():g} to {voxels.max():g}", "remove it, or correct its window")
    cube, voxel_mm = to_cube(grey, spacing_mm, settings)
    return Picture(cube[None], scale, patient_id=patient_id, spacing_mm=voxel_mm)


def _read_voxels(path: Path, series: Series | None, settings: VolumeFolder) -> tuple[np.ndarray, np.ndarray, str]:
    """Voxels [slices, rows, columns], their affine, and the patient as a header has it, or nothing."""
    if series is not None:
        scan = read_series(series.files, settings.modality, settings.min_slices)
        if settings.modality == "CT":
            check_hounsfield(scan.voxels, "correct RescaleIntercept in the headers")
        return scan.voxels, scan.affine, series.patient_id
    if settings.modality == "CT":
        return *read_volume_file(path, "CT", None), ""
    volume = open_volume(path)
    voxels = volume.read()
    if (unknown := ~np.isfinite(voxels)).any():
        voxels[unknown] = 0
        fill_unknown(voxels, unknown, "MR")
    check_labels(voxels)
    return voxels, volume.header.affine, ""


def turn_to_patient(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Permute and flip the axes of a volume to the nearest of the patient's: [Z, Y, X] and its spacing (z, y, x), mm.

    voxels: [slices, rows, columns]. affine: (column, row, slice, 1) -> LPS mm.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    share = affine[:3, :3] / spacing  # of the patient's axes (rows) in the volume's (columns)
    left = np.abs(share)
    axis_of = [0, 0, 0]
    for _ in range(3):
        patient, own = np.unravel_index(left.argmax(), (3, 3))
        axis_of[patient] = int(own)
        left[patient], left[:, own] = -1, -1
    # Arrays count their axes from the last one.
    order = [2 - axis_of[patient] for patient in (2, 1, 0)]
    turned = voxels.transpose(order)
    flipped = [place for place, patient in enumerate((2, 1, 0)) if share[patient, axis_of[patient]] < 0]
    z, y, x = (float(spacing[axis_of[patient]]) for patient in (2, 1, 0))
    return np.flip(turned, tuple(flipped)), (z, y, x)


def to_cube(
    grey: np.ndarray, spacing_mm: tuple[float, float, float], settings: VolumeFolder
) -> tuple[np.ndarray, float]:
    """A volume [Z, Y, X] in [0, 1] as a cube of `settings.image_size`; its voxels' size, mm (NaN if stretched)."""
    size = settings.image_size
    if settings.fit == "stretch":
        return resize_volume(np.ascontiguousarray(grey), (size, size, size)).clip(0, 1), float("nan")
    extents = [length * step for length, step in zip(grey.shape, spacing_mm, strict=True)]
    target_mm = settings.spacing_mm or max(extents) / size
    inner, edges = [], []
    for length, step in zip(grey.shape, spacing_mm, strict=True):
        kept = min(length, max(1, round(size * target_mm / step)))
        first = (length - kept) // 2
        inner.append(slice(first, first + kept))
        edges.append(min(size, max(1, round(kept * step / target_mm))))
    small = resize_volume(np.ascontiguousarray(grey[tuple(inner)]), (edges[0], edges[1], edges[2])).clip(0, 1)
    before = [(size - edge) // 2 for edge in edges]
    return np.pad(small, [(b, size - edge - b) for b, edge in zip(before, edges, strict=True)]), target_mm
