"""The mix of CT-SGAN's figure 3a: nodules erased from half of one scanner's patients, put into half of the other's.

Before it the label names the scanner, and a classifier of nodules would learn to know the scanner. After it every
scanner has scans with nodules and scans without, half of each, and the label says nothing of the scanner.
Source: Pesaranghader et al., CT-SGAN, section 3 and figure 3a.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import find_objects

from scangan.config import VoiCut
from scangan.ct.grain import grain_ratio
from scangan.ct.grids import MOST_OUTSIDE, Numbers, ball, on_voxels, outside_share
from scangan.data.scan_store import NODULE_TYPES, read_scans, write_volumes
from scangan.data.split import SPLITS
from scangan.data.voi import CENTRE, largest_mm
from scangan.errors import DataError
from scangan.rejected import Rejection, rejected_table
from scangan.synthesis.paste import Fill, fill_place
from scangan.synthesis.placement import PLACED_TYPES, PlacementSettings, place_nodules

log = logging.getLogger(__name__)

WITH, WITHOUT = "nodules", "none"  # labels
LABELS = (WITH, WITHOUT)
# source: annotated | injected, empty where there is no nodule. grain: see `ct.grain.grain_ratio`.
PLACE_TYPES = {"scan_id": "str", "source": "str", "diameter_mm": "float64", "grain": "float64"}
MIX_COLUMNS = ["scan_id", "patient_id", "scanner", "label", "split"]
# `readers` is missing for an injected nodule, `seed` for an annotated one. source: annotated | injected.
MIXED_NODULE_TYPES = NODULE_TYPES | {"readers": "Int64", "place": "str", "seed": "Int64", "source": "str"}
# action: erase | inject | sham. diameter_mm: of the sphere that was filled, without its margin.
DONE_TYPES = {
    "scan_id": "str",
    "nodule": "int64",
    "action": "str",
    **dict.fromkeys(["x_mm", "y_mm", "z_mm", *CENTRE, "diameter_mm"], "float64"),
    "seed": "int64",
    "changed_voxels": "int64",
}


def choose_mix(scans: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Choose half of the patients of each scanner and part, whose scans change their label.

    scans: a row a scan with `scan_id, patient_id, scanner, label (nodules | none), split`.
    Returns the rows in their order with two more columns: `edit` (erase for a scan with nodules of a chosen patient,
    inject for one without, else empty) and `label_after`. The same rows in another order give the same choice.

    Within each scanner and part, patients who weigh the same (scans with nodules less those without) are halved apart.
    So half of the scans have nodules afterwards, whatever share had them before: LIDC's scans without a nodule are no
    exception, half of them are injected and none is erased. An odd patient is chosen or not so that the scanner's scans
    of this part come nearest to half with nodules; if both ways are as near, so that its share comes nearest to the
    other scanners' in this part, then so that the totals over the parts, of scans and of chosen patients, come nearest
    to half.
    Raises DataError for a missing column, a scan that is there twice, an unknown label or part, and a patient of two
    scanners or parts.
    """
    _check(scans)
    rng = np.random.default_rng([seed, 3])
    patients = (
        scans.assign(lean=np.where(scans.label == WITH, 1, -1))
        .groupby("patient_id", sort=True)
        .agg(scanner=("scanner", "first"), split=("split", "first"), lean=("lean", "sum"), scans=("lean", "size"))
    )
    chosen: list[str] = []
    excess = 0  # of patients chosen over patients not chosen
    total: dict[str, int] = defaultdict(int)  # of scans with nodules afterwards over scans without, of each scanner
    for part in SPLITS:
        shares: list[float] = []
        for scanner, cell in patients[patients.split == part].groupby("scanner", sort=True):
            odd = []
            for lean, alike in cell.groupby("lean", sort=True):
                shuffled = rng.permutation(alike.index.to_numpy())
                half = len(shuffled) // 2
                chosen += shuffled[:half].tolist()
                odd += [(shuffled[-1], int(lean))] * (len(shuffled) % 2)
            size, balance = int(cell.scans.sum()), 0
            for patient, lean in sorted(odd, key=lambda each: (-abs(each[1]), each[1])):
                options = []
                for take in (False, True):
                    change = -lean if take else lean
                    apart = max((abs((balance + change) / size - share) for share in shares), default=0.0)
                    totals = (abs(total[scanner] + change), abs(sum(total.values()) + change))
                    count = abs(excess + (1 if take else -1))
                    options.append((abs(balance + change), apart, *totals, count, rng.random(), take, change))
                *_, take, change = min(options)
                balance, total[scanner] = balance + change, total[scanner] + change
                excess += 1 if take else -1
                chosen += [patient] * take
            shares.append(balance / size)
    edit = pd.Series(np.where(scans.label == WITH, "erase", "inject"), scans.index, dtype="str")
    edit = edit.where(scans.patient_id.isin(chosen), "")
    after = scans.label.where(edit == "", edit.map({"erase": WITHOUT, "inject": WITH}))
    log.info(
        "mix: %d of %d patients; %d scans to erase, %d to inject",
        len(chosen),
        len(patients),
        (edit == "erase").sum(),
        (edit == "inject").sum(),
    )
    return scans.assign(edit=edit, label_after=after)


def _check(scans: pd.DataFrame) -> None:
    def refuse(field: str, found: object, allowed: str) -> None:
        raise DataError(f"mix: {field}: found {found}, allowed: {allowed}")

    if missing := [column for column in MIX_COLUMNS if column not in scans.columns]:
        refuse("columns", f"no {missing[0]}", ", ".join(MIX_COLUMNS))
    for column in MIX_COLUMNS:
        if scans[column].isna().any():
            refuse(column, "an empty field", "one for every scan")
    if len(twice := scans.scan_id[scans.scan_id.duplicated()]):
        refuse("scan_id", f"{twice.iloc[0]} twice", "each scan once")
    for column, allowed in (("label", LABELS), ("split", SPLITS)):
        if len(unknown := scans[column][~scans[column].isin(allowed)]):
            refuse(column, unknown.iloc[0], " | ".join(allowed))
    for column in ("scanner", "split"):
        counts = scans.groupby("patient_id")[column].nunique()
        if (counts > 1).any():
            refuse(column, f"{counts.max()} of patient {counts.idxmax()}", "one for all scans of a patient")


@dataclass(frozen=True)
class Edited:
    """A scan after its nodules were erased, or some were injected; arrays are [Z, Y, X].

    hounsfield: int16. nodules: uint8, 0 or the nodule's number. table: the nodules that are there now
    (MIXED_NODULE_TYPES). done: what was erased or injected (DONE_TYPES). rejected: what was not, and why
    (`rejected.REJECTED_TYPES`; none counts as an error).
    """

    hounsfield: np.ndarray
    nodules: np.ndarray
    table: pd.DataFrame
    done: pd.DataFrame
    rejected: pd.DataFrame

    @property
    def has_nodules(self) -> bool:
        """Whether any nodule is there now, erased in vain or injected."""
        return len(self.table) > 0

    @property
    def label(self) -> str:
        """nodules | none: the scan's true label after the mix, where `label_after` was what was intended."""
        return WITH if self.has_nodules else WITHOUT


def erase_nodules(
    scan: dict[str, Any],
    hounsfield: np.ndarray,
    labels: np.ndarray,
    nodules: pd.DataFrame,
    fill: Fill,
    voi: VoiCut,
    seed: int,
    erased_up_to_mm: float = math.inf,
) -> Edited:
    """Erase every nodule of a scan of the store, the largest first; each sees what those before it left.

    scan, hounsfield int16 [Z, Y, X], labels uint8 [Z, Y, X]: as `scan_store.read_scans` gives them. nodules: a nodule
    table; rows of other scans are left alone. fill: the eraser's. seed: the nodules' own come from it and `scan_id`.
    erased_up_to_mm: the greatest diameter that the eraser was told of in its training.

    The radius is that of the sphere of the nodule's volume, or larger, so that all annotated voxels lie within radius
    and margin. What cannot be erased stays, is rejected by name, and keeps its row and label: without a size, too large
    for the VOI with its margin or for the eraser, or too far beyond the scan's border. Where a sphere's margin ends and
    beyond, not one voxel changes.
    Raises DataError for a label without a row: that nodule would stay, and nobody would know.
    """
    nodules = _rows_of(scan, labels, nodules)
    spacing = (scan["spacing_mm"],) * 3
    seeds = _rng(seed, scan).integers(2**32, size=len(nodules))
    boxes = find_objects(labels)
    rows = [
        row | {"radius_mm": _radius(row, labels, boxes, scan["spacing_mm"], voi.margin_mm), "own_seed": int(own)}
        for row, own in zip(nodules.sort_values("nodule").to_dict("records"), seeds, strict=True)
    ]
    edited, remaining, done, rejected = hounsfield.copy(), labels.copy(), [], []
    limits = (int(hounsfield.min()), int(hounsfield.max()))
    for row in sorted(rows, key=lambda row: -row["radius_mm"]):
        centre, radius = [row[axis] for axis in CENTRE], row["radius_mm"]
        if why_not := _refuse(radius, centre, hounsfield.shape, spacing, voi, erased_up_to_mm):
            rejected.append(Rejection(f"{scan['scan_id']}-n{int(row['nodule'])}", *why_not, counted=False))
            continue
        # As the networks were trained: on the scan's voxels, where these are as large as the VOI's.
        place = on_voxels(centre, spacing, voi.size, voi.spacing_mm)
        changed = fill_place(edited, spacing, place, radius, fill, row["own_seed"], voi, limits)
        remaining[remaining == row["nodule"]] = 0
        made = {"action": "erase", "diameter_mm": 2 * radius, "seed": row["own_seed"], "changed_voxels": changed}
        done.append(row | made)
    left = nodules[~nodules.nodule.isin([row["nodule"] for row in done])]
    return Edited(edited, remaining, _annotated(left), _table(done, DONE_TYPES), rejected_table(rejected))


def inject_nodules(
    scan: dict[str, Any],
    hounsfield: np.ndarray,
    lungs: np.ndarray,
    labels: np.ndarray,
    nodules: pd.DataFrame,
    counts: Numbers | int,
    diameters_mm: Numbers | float,
    fill: Fill,
    placement: PlacementSettings,
    voi: VoiCut,
    seed: int,
) -> Edited:
    """Inject nodules into a scan of the store, the largest first; each sees what those before it left.

    scan, hounsfield int16, lungs bool, labels uint8, all [Z, Y, X]: as `scan_store.read_scans` gives them. nodules: a
    nodule table, whose rows of this scan are there already. counts, diameters_mm: what their number and sizes are drawn
    from, such as LIDC-IDRI's; zeros, and diameters that do not fit the VOI, are not drawn. fill: the injector's. seed:
    places, sizes and the nodules' own seeds come from it and `scan_id`.

    A new nodule's number goes on after the existing ones; its labels are its sphere, and at least one voxel. What has
    no place is rejected, and so is the scan if its lung mask failed: then `done` is empty, and `rejected` says why.
    Where a sphere's margin ends and beyond, not one voxel changes.
    Raises DataError if no count is above 0, if no diameter fits the VOI, and for a label without a row.
    """
    existing = _annotated(_rows_of(scan, labels, nodules))
    settings = (counts, diameters_mm, fill, placement, voi, seed)
    edited, done, refused = _fill_places(scan, hounsfield, lungs, existing, *settings, action="inject")
    numbered, spacing = labels.copy(), (scan["spacing_mm"],) * 3
    for row in done:
        box, away_mm = ball(labels.shape, spacing, [row[axis] for axis in CENTRE], row["diameter_mm"] / 2)
        numbered[box][away_mm <= max(row["diameter_mm"] / 2, away_mm.min())] = row["nodule"]
    injected = pd.DataFrame(done, columns=list(PLACED_TYPES)).assign(source="injected")
    # Its truth is the sphere that was asked for; how large it looks is another question (`metrics.nodules`).
    injected = injected.assign(volume_mm3=np.pi / 6 * injected.equivalent_diameter_mm.astype(float) ** 3)
    table = pd.concat([existing, injected], ignore_index=True) if len(injected) else existing
    return Edited(edited, numbered, _table(table, MIXED_NODULE_TYPES), _table(done, DONE_TYPES), refused)


def sham_nodules(
    scan: dict[str, Any],
    hounsfield: np.ndarray,
    lungs: np.ndarray,
    labels: np.ndarray,
    nodules: pd.DataFrame,
    counts: Numbers | int,
    diameters_mm: Numbers | float,
    fill: Fill,
    placement: PlacementSettings,
    voi: VoiCut,
    seed: int,
) -> Edited:
    """Edit a scan where `inject_nodules` would put nodules, and put none there: the same places, filled by the eraser.

    So a trace that edits leave says nothing of a scan's label. Arguments as there, `fill` the eraser's; nodules and
    labels stay as they are.
    """
    existing = _annotated(_rows_of(scan, labels, nodules))
    settings = (counts, diameters_mm, fill, placement, voi, seed)
    edited, done, refused = _fill_places(scan, hounsfield, lungs, existing, *settings, action="sham")
    return Edited(edited, labels, existing, _table(done, DONE_TYPES), refused)


def _fill_places(
    scan: dict[str, Any],
    hounsfield: np.ndarray,
    lungs: np.ndarray,
    existing: pd.DataFrame,
    counts: Numbers | int,
    diameters_mm: Numbers | float,
    fill: Fill,
    placement: PlacementSettings,
    voi: VoiCut,
    seed: int,
    *,
    action: str,
) -> tuple[np.ndarray, list[dict[str, Any]], pd.DataFrame]:
    """The scan with the places of new nodules filled, what was done (`DONE_TYPES` and more), and what was refused."""
    numbers, diameters = np.atleast_1d(counts), np.atleast_1d(np.asarray(diameters_mm, float))
    if not (numbers > 0).any():
        raise DataError(f"mix: counts: found {numbers.max() if numbers.size else 'none'}, allowed: one above 0")
    fitting = diameters[(diameters >= voi.spacing_mm) & (diameters <= largest_mm(voi))]
    if not fitting.size:
        found = f"{diameters.min():g} to {diameters.max():g} mm" if diameters.size else "none"
        raise DataError(
            f"mix: diameters_mm: found {found}, allowed: one from {voi.spacing_mm:g} to {largest_mm(voi):g} mm"
        )
    edited, done, rejected = hounsfield.copy(), [], []
    if scan["lung_check"]:
        why_not = ("lung mask failed", scan["lung_check"], "remove the scan, or mend its mask")
        refused = rejected_table([Rejection(scan["scan_id"], *why_not, counted=False)])
        return edited, [], refused
    spacing = (scan["spacing_mm"],) * 3
    placed, no_place = place_nodules(
        lungs,
        hounsfield,
        spacing,
        existing,
        numbers[numbers > 0],
        fitting,
        placement,
        _rng(seed, scan),
        scan_id=scan["scan_id"],
        origin_mm=[scan[f"origin_{axis}_mm"] for axis in "xyz"],
    )
    limits = (int(hounsfield.min()), int(hounsfield.max()))
    for row in placed.to_dict("records"):
        row, radius = _on_voxels(row, spacing, voi), row["equivalent_diameter_mm"] / 2
        centre = [row[axis] for axis in CENTRE]
        # In a corner of the scan the nodule itself may be inside, and most of its VOI not.
        if refusal := _refuse(radius, centre, hounsfield.shape, spacing, voi):
            rejected.append(Rejection(f"{scan['scan_id']}-n{row['nodule']}", *refusal, counted=False))
            continue
        changed = fill_place(edited, spacing, centre, radius, fill, row["seed"], voi, limits)
        done.append(row | {"action": action, "diameter_mm": 2 * radius, "changed_voxels": changed})
    return edited, done, pd.concat([no_place, rejected_table(rejected)], ignore_index=True)


def _on_voxels(row: dict[str, Any], spacing: Sequence[float], voi: VoiCut) -> dict[str, Any]:
    """A place moved to where a VOI's voxels are the scan's own, which is where its nodule will be."""
    centre = np.array([row[axis] for axis in CENTRE])
    place = on_voxels(centre, spacing, voi.size, voi.spacing_mm)
    moved_mm = (place - centre) * spacing
    at_mm = {f"{axis}_mm": row[f"{axis}_mm"] + moved for axis, moved in zip("zyx", moved_mm, strict=True)}
    return row | dict(zip(CENTRE, place, strict=True)) | at_mm


def _rows_of(scan: dict[str, Any], labels: np.ndarray, nodules: pd.DataFrame) -> pd.DataFrame:
    """The rows of one scan; every label has one."""
    nodules = nodules[nodules.scan_id == scan["scan_id"]]
    numbers = [number for number, box in enumerate(find_objects(labels), 1) if box is not None]
    if unknown := sorted(set(numbers) - set(nodules.nodule)):
        allowed = ", ".join(map(str, sorted(nodules.nodule))) or "none"
        raise DataError(f"{scan['scan_id']}: nodules: found label {unknown[0]} without a row, allowed: {allowed}")
    return nodules


def _rng(seed: int, scan: dict[str, Any]) -> np.random.Generator:
    return np.random.default_rng([seed, *scan["scan_id"].encode()])


def _radius(
    row: dict[str, Any], labels: np.ndarray, boxes: Sequence[tuple | None], spacing_mm: float, margin_mm: float
) -> float:
    """mm, such that the nodule's voxels lie within radius and margin; 0 for one that has no size."""
    size = row["equivalent_diameter_mm"]
    radius = size / 2 if size > 0 else 0.0
    number = int(row["nodule"])
    box = boxes[number - 1] if number <= len(boxes) else None
    if box is None:
        return radius
    voxels = np.argwhere(labels[box] == number) + [along.start for along in box]
    farthest = np.linalg.norm(voxels - [row[axis] for axis in CENTRE], axis=1).max() * spacing_mm
    return float(max(radius, farthest - margin_mm))


def _refuse(
    radius_mm: float,
    centre: Numbers,
    shape: Numbers,
    spacing: Numbers,
    voi: VoiCut,
    erased_up_to_mm: float = math.inf,
) -> tuple[str, str, str] | None:
    """Reason, what was found, and remedy; None for a nodule that can be erased or injected."""
    if not radius_mm > 0:
        return "nodule without a size", "no diameter and no voxels", "annotate it, or leave out the scan"
    if 2 * radius_mm > largest_mm(voi):
        remedy = f"choose a larger VOI or a smaller margin; allowed: {largest_mm(voi):g} mm"
        return "nodule larger than the VOI", f"{2 * radius_mm:.1f} mm", remedy
    if 2 * radius_mm > erased_up_to_mm:
        remedy = f"train the eraser for larger ones (nodules.voi.diameters_mm); allowed: {erased_up_to_mm:g} mm"
        return "nodule beyond the eraser's training", f"{2 * radius_mm:.1f} mm", remedy
    beyond = outside_share(shape, spacing, centre, voi.size, voi.spacing_mm)
    if beyond > MOST_OUTSIDE:
        return "nodule at the border of the scan", f"{beyond:.0%} of the VOI beyond it", "choose a smaller VOI"
    return None


def _annotated(nodules: pd.DataFrame) -> pd.DataFrame:
    """Rows of a nodule table as those of a mixed one; those that were mixed already stay as they are."""
    defaults = {"place": "", "source": "annotated"}
    return _table(
        nodules.assign(**{name: value for name, value in defaults.items() if name not in nodules}), MIXED_NODULE_TYPES
    )


def _places(scan: dict[str, Any], edited: Edited, margin_mm: float) -> pd.DataFrame:
    """A scan's nodules, and the places that were edited and have none, with the grain that is there."""
    without = edited.done[edited.done.action != "inject"]
    spacing = (scan["spacing_mm"],) * 3
    rows = []
    for table, size in ((edited.table, "equivalent_diameter_mm"), (without, "diameter_mm")):
        for row in table.to_dict("records"):
            centre, radius = [row[axis] for axis in CENTRE], row[size] / 2
            grain = grain_ratio(edited.hounsfield, spacing, centre, radius, margin_mm) if radius > 0 else np.nan
            rows.append((scan["scan_id"], row.get("source", ""), row[size], grain))
    return _table(rows, PLACE_TYPES)


def _table(rows: pd.DataFrame | Sequence[Any], types: dict[str, str]) -> pd.DataFrame:
    if not isinstance(rows, pd.DataFrame):
        rows = pd.DataFrame(rows, columns=list(types))
    return rows.reindex(columns=list(types)).astype(types).reset_index(drop=True)


def label_scans(scans: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """What `choose_mix` takes, from scan tables with a column `scanner`, and the split of the scans.

    A scan in which nobody looked for nodules counts as one without.
    """
    labels = np.where(scans.nodules.fillna(0) > 0, WITH, WITHOUT)
    parts = scans.scan_id.map(split.set_index("image_id").split)
    return scans.assign(label=labels, split=parts)[MIX_COLUMNS]


@dataclass(frozen=True)
class Mixer:
    """The mix, scan by scan: what was chosen, and all that it takes.

    edit: scan_id -> erase | inject | nothing, as `choose_mix` says. sham: scans for which nothing was chosen, with
    nodules or without, are edited by `sham_nodules`; else they stay. The rest: see `inject_nodules`, `erase_nodules`.
    """

    edit: pd.Series
    counts: Sequence[int]
    diameters_mm: Sequence[float]
    inject: Fill
    erase: Fill
    placement: PlacementSettings
    voi: VoiCut
    seed: int
    sham: bool = True
    erased_up_to_mm: float = math.inf

    def mix(
        self, scan: dict[str, Any], hounsfield: np.ndarray, lungs: np.ndarray, labels: np.ndarray, nodules: pd.DataFrame
    ) -> Edited:
        """A scan of the store after the mix."""
        own = nodules[nodules.scan_id == scan["scan_id"]]
        edit = self.edit[scan["scan_id"]]
        if edit == "erase":
            return erase_nodules(scan, hounsfield, labels, own, self.erase, self.voi, self.seed, self.erased_up_to_mm)
        arguments = (scan, hounsfield, lungs, labels, own, self.counts, self.diameters_mm)
        settings = (self.placement, self.voi, self.seed)
        if edit == "inject":
            return inject_nodules(*arguments, self.inject, *settings)
        if self.sham:
            return sham_nodules(*arguments, self.erase, *settings)
        return Edited(hounsfield, labels, _annotated(own), _table([], DONE_TYPES), rejected_table())


def edit_scans(
    volumes: str | Path, scans: pd.DataFrame, nodules: pd.DataFrame, mixer: Mixer, out: str | Path
) -> dict[str, pd.DataFrame]:
    """Write the scans of a batch after the mix to the scan store `out`, one at a time.

    volumes: the batch's scan store. scans, nodules: its tables. Returns the tables `nodules`, `done`, `rejected`, and
    `places` (`PLACE_TYPES`): where there is a nodule, or an edit left none.
    """
    tables: dict[str, list[pd.DataFrame]] = {"nodules": [], "done": [], "rejected": [], "places": []}
    with write_volumes(Path(out)) as write:
        for scan, hounsfield, lungs, labels in read_scans([volumes], scans):
            edited = mixer.mix(scan, hounsfield, lungs, labels, nodules)
            write(scan["scan_id"], edited.hounsfield, lungs, edited.nodules)
            tables["nodules"].append(edited.table)
            tables["done"].append(edited.done)
            tables["rejected"].append(edited.rejected)
            tables["places"].append(_places(scan, edited, mixer.voi.margin_mm))
            log.info("%s: %d edits done, %d refused", scan["scan_id"], len(edited.done), len(edited.rejected))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
