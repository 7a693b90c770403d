"""Nodules put into a user's own scans, or taken out of them, as a CSV file asks.

The file has the columns `series, x_mm, y_mm, z_mm, diameter_mm, action`: a place in the patient's frame (LPS: x to the
left, y to the back, z to the head, as DICOM has it; NIfTI viewers show RAS, with the signs of x and y turned), and
`inject` or `erase`. `series` is a SeriesInstanceUID, the name of the folder that holds the series, the name of a NIfTI
or MetaImage file, or the path of one of these below the data folder.

What cannot be done is rejected row by row, with the reason; all else is done, in the order of the file, on the scan's
own grid. Example:

    injector, eraser = (Filling.read(folder / "generator.safetensors", folder / "generator.json") for folder in trained)
    settings = EditSettings(eraser.voi, seed=0, erased_up_to_mm=eraser.told_up_to_mm)
    done, rejected = edit_own_scans(root, Path("edits.csv"), out, injector.fill, eraser.fill, settings)
"""

from __future__ import annotations

import csv
import logging
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from scangan.config import VoiCut
from scangan.ct.grids import MOST_OUTSIDE, Numbers, ball, cut_voi, outside_share
from scangan.ct.lungs import LungMask, lung_mask
from scangan.ct.volume import Volume
from scangan.data.voi import largest_mm
from scangan.errors import DataError
from scangan.files import atomic_folder
from scangan.ingest.data_files import list_files
from scangan.ingest.dicom import PADDING, RawScan, find_series, read_series
from scangan.ingest.export import write_dicom_series, write_nifti
from scangan.ingest.volume_files import read_volume_file
from scangan.ingest.volume_headers import DATA_SUFFIXES, SUFFIXES
from scangan.rejected import REJECTED_TYPES, Unusable
from scangan.synthesis.paste import Fill, fill_place

log = logging.getLogger(__name__)

PLACE = ["x_mm", "y_mm", "z_mm"]
CENTRE = ["z_voxel", "y_voxel", "x_voxel"]
ACTIONS = ("erase", "inject")
EDIT_TYPES = {
    "line": "int64",  # of the CSV file, whose header is line 1
    "series": "str",
    **dict.fromkeys([*PLACE, "diameter_mm"], "float64"),
    "action": "str",
}
# The voxels are those of the scan as its files hold it: slice, row and column, from 0.
ACCEPTED_TYPES = EDIT_TYPES | dict.fromkeys(CENTRE, "float64") | {"seed": "int64"}
DONE_TYPES = ACCEPTED_TYPES | {"changed_voxels": "int64"}
# A row that is rejected is found by its line: a table of its own for whoever wrote the CSV file.
REJECTED_ROW_TYPES = {"line": "int64", "series": "str"} | {
    name: REJECTED_TYPES[name] for name in ("reason", "found", "remedy")
}
MOST_SHEAR = math.sin(math.radians(2))  # of a gantry tilt; it moves a voxel at a VOI's edge, 32 mm away, by about 1 mm

# Reason, what was found, remedy.
Refusal = tuple[str, str, str]


@dataclass(frozen=True)
class EditSettings:
    """How scans are edited. voi: what the networks were trained on. seed: row k of the file has the seed `seed` + its
    line. least_lung: share of a VOI that must be lung, for the networks know nothing else. erased_up_to_mm: the
    greatest diameter that the eraser was told of in its training; of larger nodules it leaves a hole of air.
    """

    voi: VoiCut = field(default_factory=VoiCut)
    seed: int = 0
    least_lung: float = 0.05
    erased_up_to_mm: float = math.inf


@dataclass(frozen=True)
class ScanFiles:
    """A scan in a folder. name: its SeriesInstanceUID, or the volume file's path below the folder, with /.

    also: other names by which a CSV may call it. files: of the series, or the one volume file.
    """

    name: str
    also: frozenset[str]
    files: tuple[Path, ...]

    @property
    def is_volume_file(self) -> bool:
        """NIfTI or MetaImage, not DICOM."""
        return self.files[0].name.lower().endswith(SUFFIXES)


def edit_own_scans(
    root: Path, edits: Path, out: Path, fill_injector: Fill, fill_eraser: Fill, settings: EditSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Edit the scans of a folder as a CSV file asks; see the module for the file and an example.

    root: folder of DICOM series and volume files. out: a new or empty folder outside of it, for the edited scans (a
    DICOM series as DICOM, in a folder named after its source's uid; a volume file as NIfTI, at the source's path) and
    the two tables that are returned: `edits_done.csv` (DONE_TYPES) and `edits_rejected.csv` (REJECTED_ROW_TYPES). It
    appears whole or not at all.
    Raises DataError if root, edits or out cannot be used.
    """
    root, out = Path(root), Path(out)
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{out}: out: found a folder within the data folder, allowed: one outside of it")
    with atomic_folder(out) as new:
        done, rejected = _edit_scans(root, edits, new, fill_injector, fill_eraser, settings)
        done.to_csv(new / "edits_done.csv", index=False)
        rejected.to_csv(new / "edits_rejected.csv", index=False)
    return done, rejected


def _edit_scans(
    root: Path, edits: Path, out: Path, fill_injector: Fill, fill_eraser: Fill, settings: EditSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows, unreadable = read_edits(edits)
    of_scan, unknown = match_scans(rows, find_scans(root))
    all_done, all_rejected = [], [unreadable, unknown]
    for number, (scan_files, mine) in enumerate(of_scan, 1):
        started = time.monotonic()
        try:
            scan = read_scan(scan_files)
            accepted, rejected = check_edits(mine, scan, scan_lungs(scan), settings)
            if len(accepted):
                edited, done = edit_scan(scan, accepted, fill_injector, fill_eraser, settings)
                write_edited(out, scan_files, edited, done, settings)
                all_done.append(done)
        except Unusable as refused:
            why_not = (refused.reason, refused.found, refused.remedy)
            rejected = _rejected((row.line, row.series, *why_not) for row in mine.itertuples())
        all_rejected.append(rejected)
        seconds = time.monotonic() - started
        counts = (len(mine) - len(rejected), len(rejected))
        log.info("scan %d of %d: %d edits done, %d rejected, %.1f s", number, len(of_scan), *counts, seconds)
    done = pd.concat([_table([], DONE_TYPES), *all_done]).sort_values("line", ignore_index=True)
    rejected = pd.concat(all_rejected).sort_values("line", ignore_index=True)
    for row in rejected.itertuples():
        log.warning("%s: line %d rejected: %s (found %s)", Path(edits).name, row.line, row.reason, row.found)
    return done, rejected


# What is asked for


def read_edits(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a CSV file that can be understood (EDIT_TYPES), and those that cannot (REJECTED_ROW_TYPES).

    Columns may stand in any order, and others beside them are left alone.
    Raises DataError if the file cannot be read as CSV in UTF-8, or lacks a column.
    """
    path = Path(path)
    columns = [column for column in EDIT_TYPES if column != "line"]
    rows, rejected = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened, strict=True)
            header = [name.strip() for name in reader.fieldnames or []]
            if missing := [column for column in columns if column not in header]:
                found = ", ".join(header) or "an empty file"
                raise DataError(f"{path}: header: found {found}, without {missing[0]}, allowed: {', '.join(columns)}")
            reader.fieldnames = header
            for row in reader:
                why_not, values = _read_row(row, columns)
                if why_not:
                    rejected.append((reader.line_num, row["series"] or "", *why_not))
                else:
                    rows.append({"line": reader.line_num, **values})
    except OSError as error:
        raise DataError(f"{path}: found {error.strerror}, allowed: a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: found {error}, allowed: a CSV file in UTF-8") from error
    return _table(rows, EDIT_TYPES), _rejected(rejected)


def _read_row(row: dict[Any, Any], columns: Sequence[str]) -> tuple[Refusal | None, dict[str, Any]]:
    """row: as `csv.DictReader` gives it: None for a missing field, a list under None of fields beyond the header."""
    if None in row or None in row.values():
        fields = sum(value is not None for name, value in row.items() if name) + len(row.get(None, ()))
        return ("wrong number of fields", str(fields), "write one field for each column of the header"), {}
    values: dict[str, Any] = {column: row[column].strip() for column in columns}
    if not values["series"]:
        return ("no series", "an empty field", "write a SeriesInstanceUID, or a folder's or file's name"), {}
    if values["action"] not in ACTIONS:
        return ("unknown action", values["action"] or "an empty field", f"write {' or '.join(ACTIONS)}"), {}
    for column in (*PLACE, "diameter_mm"):
        try:
            number = float(values[column])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            return ("not a number", f"{column} {values[column] or 'empty'}", "write mm, with a decimal point"), {}
        values[column] = number
    if values["diameter_mm"] <= 0:
        return ("no diameter", f"{values['diameter_mm']:g} mm", "write the nodule's diameter in mm"), {}
    return None, values


# The scans


def find_scans(root: Path) -> list[ScanFiles]:
    """The CT series and volume files of a folder tree, ordered by name. Raises DataError if there is no such folder."""
    root = Path(root)
    files, rejected = list_files(root)
    volumes = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    # A MetaImage header may keep its voxels in a file beside it.
    parts = {file.with_suffix(suffix) for file in volumes for suffix in DATA_SUFFIXES} | set(volumes)
    series, findings = find_series([file for file in files if file not in parts], root)
    scans = []
    for each in series:
        folder = Path(os.path.commonpath([file.parent for file in each.files]))
        also = frozenset({folder.name, folder.relative_to(root).as_posix()})
        scans.append(ScanFiles(each.series_uid, also, each.files))
    for file in volumes:
        scans.append(ScanFiles(file.relative_to(root).as_posix(), frozenset({file.name}), (file,)))
    log.info("%s: %d scans; %d files belong to none", root, len(scans), len(findings) + len(rejected))
    return sorted(scans, key=lambda scan: scan.name)


def match_scans(
    rows: pd.DataFrame, scans: Sequence[ScanFiles]
) -> tuple[list[tuple[ScanFiles, pd.DataFrame]], pd.DataFrame]:
    """The scans that rows name, each with its rows in their order, and the rows whose series is unknown or ambiguous.

    rows: of EDIT_TYPES. One scan may go by several names.
    """
    called = defaultdict(list)
    for number, scan in enumerate(scans):
        for name in {scan.name, *scan.also}:
            called[name].append(number)
    of_scan, rejected = defaultdict(list), []
    for index, row in enumerate(rows.itertuples()):
        numbers = called.get(row.series, [])
        if len(numbers) == 1:
            of_scan[numbers[0]].append(index)
        elif numbers:
            remedy = "write the SeriesInstanceUID, or the path below the data folder"
            rejected.append((row.line, row.series, "ambiguous series", f"{len(numbers)} scans of that name", remedy))
        else:
            found = f"no {row.series} among {len(scans)} scans"
            remedy = "write a SeriesInstanceUID, or a folder's or file's name"
            rejected.append((row.line, row.series, "unknown series", found, remedy))
    return [(scans[number], rows.iloc[mine]) for number, mine in of_scan.items()], _rejected(rejected)


def read_scan(scan: ScanFiles) -> RawScan:
    """A scan on its own grid, as its files hold it.

    Raises Unusable if it cannot be read, and for slices sheared by a gantry tilt, on which no sphere is a sphere.
    """
    raw = (
        RawScan(*read_volume_file(scan.files[0], hounsfield_offset=None), {})
        if scan.is_volume_file
        else read_series(scan.files)
    )
    axes = raw.affine[:3, :3] / np.linalg.norm(raw.affine[:3, :3], axis=0)
    if (shear := np.abs(axes.T @ axes - np.eye(3)).max()) > MOST_SHEAR:
        found = f"{math.degrees(math.asin(min(1, shear))):.1f} degrees of gantry tilt"
        raise Unusable("tilted slices", found, "resample the scan to axes at right angles, allowed: 2 degrees")
    return raw


def patient_axes(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A view of a scan whose axes grow, as nearly as its own do, to the head, the back and the left; and its affine.

    voxels: [slices, rows, columns]. affine: [4, 4], (column, row, slice, 1) -> LPS mm. Returns [Z, Y, X], which shares
    its memory with `voxels`, and [4, 4], (x, y, z voxel, 1) -> LPS mm: nothing is interpolated, and what is written
    into the view stands in the scan.
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    _, native = linear_sum_assignment(-np.abs(axes))  # which of the scan's axes lies along x, y, z
    against = axes[range(3), native] < 0
    view = voxels.transpose(2 - native[::-1])
    turned = affine.copy()
    turned[:, :3] = affine[:, native] * np.where(against, -1, 1)
    turned[:3, 3] += affine[:3, native] @ (against * (np.array(view.shape[::-1]) - 1))
    return np.flip(view, tuple(2 - np.flatnonzero(against))), turned


def scan_lungs(scan: RawScan) -> LungMask:
    """The lungs of a scan, in the order of its own voxels: `mask` is bool [slices, rows, columns]."""
    hounsfield, affine = patient_axes(np.maximum(scan.voxels, PADDING["CT"]), scan.affine)
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    found = lung_mask(Volume(np.ascontiguousarray(hounsfield), spacing, tuple(affine[:3, 3].tolist())))
    mask = np.empty(scan.voxels.shape, bool)
    patient_axes(mask, scan.affine)[0][:] = found.mask
    return replace(found, mask=mask)


# What is done


def check_edits(
    rows: pd.DataFrame, scan: RawScan, lungs: LungMask, settings: EditSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that can be done on a scan (ACCEPTED_TYPES), and those that cannot (REJECTED_ROW_TYPES).

    rows: of EDIT_TYPES. lungs: in the order of the scan's voxels. A nodule is injected where its centre lies in the
    lung mask, and erased where it reaches it, as masks leave out large nodules at the wall. Reasons, in the order of
    their tests: lung mask failed; place outside the scan; diameter beyond the VOI, or below one of its voxels, or of a
    nodule to erase beyond those trained on; place outside the lungs; VOI beyond the scan; VOI without lung.
    """
    accepted, rejected = [], []
    for row in rows.to_dict("records"):
        centre = _to_voxels(scan.affine, [row[axis] for axis in PLACE])
        if why_not := _refuse(row, centre, scan, lungs, settings):
            rejected.append((row["line"], row["series"], *why_not))
        else:
            place = dict(zip(CENTRE, centre.tolist(), strict=True))
            accepted.append(row | place | {"seed": settings.seed + row["line"]})
    return _table(accepted, ACCEPTED_TYPES), _rejected(rejected)


def _refuse(
    row: dict[str, Any], centre: np.ndarray, scan: RawScan, lungs: LungMask, settings: EditSettings
) -> Refusal | None:
    voi, diameter, radius = settings.voi, row["diameter_mm"], row["diameter_mm"] / 2
    shape, spacing = np.array(scan.voxels.shape), _spacing(scan.affine)
    if lungs.failure:
        return "lung mask failed", lungs.failure, "leave out the scan, or use one of the whole chest"
    if ((centre < -0.5) | (centre > shape - 0.5)).any():
        place = ", ".join(f"{row[axis]:g}" for axis in PLACE)
        return "place outside the scan", f"({place}) mm", "write LPS mm; NIfTI viewers show x and y with other signs"
    if not voi.spacing_mm <= diameter <= largest_mm(voi):
        return (
            "diameter beyond the VOI" if diameter > largest_mm(voi) else "diameter below a voxel of the VOI",
            f"{diameter:g} mm",
            f"allowed: {voi.spacing_mm:g} to {largest_mm(voi):g} mm; other networks edit other sizes",
        )
    most = settings.erased_up_to_mm
    if row["action"] == "erase" and diameter > most:
        remedy = f"allowed: up to {most:g} mm; train an eraser for larger ones (nodules.voi.diameters_mm)"
        return "diameter beyond the eraser's training", f"{diameter:g} mm", remedy
    if not lungs.mask[tuple(np.rint(centre).astype(int).clip(0, shape - 1))]:
        box, away_mm = ball(shape, spacing, centre, radius)
        if row["action"] == "inject" or not (lungs.mask[box] & (away_mm <= radius)).any():
            wanted = "its centre" if row["action"] == "inject" else "a part of it"
            return "place outside the lungs", "no lung there", f"choose a place with {wanted} in the lungs"
    if (beyond := outside_share(shape, spacing, centre, voi.size, voi.spacing_mm)) > MOST_OUTSIDE:
        return (
            "VOI beyond the scan",
            f"{beyond:.0%} of it",
            f"choose a place further inside, {MOST_OUTSIDE:.0%} at most",
        )
    share = (cut_voi(lungs.mask, spacing, centre, voi.size, voi.spacing_mm) > 0.5).mean()
    if share < settings.least_lung:
        return "VOI without lung", f"{share:.1%} of it is lung", f"choose a place with {settings.least_lung:.1%}"
    return None


def edit_scan(
    scan: RawScan, rows: pd.DataFrame, fill_injector: Fill, fill_eraser: Fill, settings: EditSettings
) -> tuple[RawScan, pd.DataFrame]:
    """Do the edits of one scan, in the order of the rows; each sees what those before it left.

    rows: of ACCEPTED_TYPES. The fills get VOIs cut along the patient's axes, and return them with a nodule, or without.
    Returns a new scan on the same grid, equal to the bit beyond each nodule's radius and margin and within the range of
    values of the old one, and the rows with how many voxels each changed (DONE_TYPES).
    """
    fills = {"inject": fill_injector, "erase": fill_eraser}
    edited = scan.voxels.copy()
    hounsfield, affine = patient_axes(edited, scan.affine)
    spacing = _spacing(affine)
    limits = (int(edited.min()), int(edited.max()))
    changed = []
    for row in rows.to_dict("records"):
        centre, radius = _to_voxels(affine, [row[axis] for axis in PLACE]), row["diameter_mm"] / 2
        fill, seed = fills[row["action"]], row["seed"]
        changed.append(fill_place(hounsfield, spacing, centre, radius, fill, seed, settings.voi, limits))
    return replace(scan, voxels=edited), rows.assign(changed_voxels=changed).astype(DONE_TYPES)


def write_edited(out: Path, source: ScanFiles, edited: RawScan, done: pd.DataFrame, settings: EditSettings) -> Path:
    """Write an edited scan below `out`, marked as synthetic: the folder of a DICOM series, or a NIfTI file."""
    injected = int((done.action == "inject").sum())
    text = f"{injected} nodules injected, {len(done) - injected} erased"
    if not source.is_volume_file:
        if not re.fullmatch(r"\d[\d.]*", source.name):  # it becomes a folder's name, and comes from a file's header
            raise Unusable("invalid SeriesInstanceUID", source.name, "export the series again, allowed: 0 to 9 and .")
        folder = Path(out, source.name)
        derivation = f"{text} by 3D conditional GANs of Scangan, seed {settings.seed}; places: edits_done.csv"
        write_dicom_series(
            folder,
            edited.voxels,
            edited.affine,
            source=source.files,
            description="nodules edited",
            derivation=derivation,
            seed=settings.seed,
        )
        return folder
    # Not another suffix in place of the old one: scan.mha and scan.nii.gz may lie side by side.
    is_nifti = source.name.lower().endswith((".nii", ".nii.gz"))
    file = Path(out, source.name if is_nifti else f"{source.name}.nii.gz")
    write_nifti(file, edited.voxels, edited.affine, description=text)
    return file


def _spacing(affine: np.ndarray) -> np.ndarray:
    """mm along z, y, x."""
    return np.linalg.norm(affine[:3, :3], axis=0)[::-1]


def _to_voxels(affine: np.ndarray, place_mm: Numbers) -> np.ndarray:
    """A place (x, y, z) in LPS mm -> (z, y, x) in voxels, with fractions."""
    return np.linalg.solve(affine, [*place_mm, 1])[2::-1]


def _table(rows: Sequence[dict[str, object] | tuple[Any, ...]], types: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def _rejected(rows: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    return _table(list(rows), REJECTED_ROW_TYPES)
