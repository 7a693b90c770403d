"""Figures of the nodule eraser and injector: VOIs, whole slices before and after, asked and measured diameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse

from scangan.ct.grids import blank, sphere
from scangan.ct.window import VOI_WINDOW
from scangan.data.scan_store import read_scans
from scangan.data.voi import VoiSet
from scangan.facts import Facts
from scangan.report.style import BLUE, VERMILION, house_figure

ORANGE = "#E69F00"
# As `synthesis.mix` calls them, and as rows are called.
ACTIONS = {"erase": "erased", "inject": "injected", "sham": "sham: edited without a nodule"}
TOLERANCE = 0.2  # of the diameter, that the band shows
ZOOM_RADII, ZOOM_MM = 3.0, 20.0  # half the edge of the enlarged part: radii, but at least so many mm
MARKERS = ("o", "^", "s", "D")
COLOURS = (BLUE, VERMILION, ORANGE, "0.5")


class Edit(NamedTuple):
    """One place of a scan that was edited.

    title: of the row, as `erased, 8.2 mm`. before, after: [Z, Y, X] in HU. centre_voxel_zyx, spacing_mm_zyx: the place
    in voxels, with fractions, and their size. radius_mm: the nodule's.
    """

    title: str
    before: np.ndarray
    after: np.ndarray
    centre_voxel_zyx: Sequence[float]
    spacing_mm_zyx: Sequence[float]
    radius_mm: float


def voi_figure(rows: Sequence[tuple[str, Mapping[str, np.ndarray]]], path: str | Path, facts: Facts) -> None:
    """A VOI a row, in three orthogonal planes through its centre: axial, coronal, sagittal.

    rows: (title, column -> VOI [S, S, S] in HU), with the same columns in each, as `before`, `masked`, `after`,
    `truth`. Shown from -1000 to 400 HU; the patient's left, and in the sagittal plane the back, is on the right.
    """
    columns = list(rows[0][1])
    with house_figure(path, facts, (0.5 + 2.3 * len(columns), 0.6 + 0.76 * len(rows))) as figure:
        axes = figure.subplots(len(rows), len(columns), squeeze=False)
        for line, (title, vois) in zip(axes, rows, strict=True):
            for ax, column in zip(line, columns, strict=True):
                _show(ax, _three_planes(vois[column]))
            line[0].set_ylabel(fill(title, 14), fontsize=7, rotation=0, ha="right", va="center")
        for ax, column in zip(axes[0], columns, strict=True):
            ax.set_title(column)


def slice_figure(edits: Sequence[Edit], path: str | Path, facts: Facts) -> None:
    """The whole axial slice through each edited place, before and after, the place circled and enlarged beside them.

    The front is at the top and the patient's left on the right; from -1000 to 400 HU. The circle has the nodule's
    radius and half as much again, so that its edge stays visible.
    """
    with house_figure(path, facts, (9.0, 0.4 + 2.3 * len(edits))) as figure:
        axes = figure.subplots(len(edits), 4, squeeze=False)
        for line, edit in zip(axes, edits, strict=True):
            z, y, x = edit.centre_voxel_zyx
            _, height, width = (2 * 1.5 * edit.radius_mm / step for step in edit.spacing_mm_zyx)
            _, down, across = (max(ZOOM_RADII * edit.radius_mm, ZOOM_MM) / step for step in edit.spacing_mm_zyx)
            for number, (name, volume) in enumerate((("before", edit.before), ("after", edit.after))):
                whole, enlarged = line[number], line[2 + number]
                for ax in (whole, enlarged):
                    _show(ax, volume[int(np.clip(round(z), 0, len(volume) - 1))])
                    ax.set_aspect(edit.spacing_mm_zyx[1] / edit.spacing_mm_zyx[2])
                    ax.set_title(name if ax is whole else f"{name}, enlarged", fontsize=8)
                whole.add_patch(Ellipse((x, y), width, height, fill=False, color=ORANGE, linewidth=1))
                # Not beyond the scan: where the place is near its border, the part shown is moved.
                rows, columns = volume.shape[1:]
                enlarged.set_xlim(*_within(x, across, columns))
                enlarged.set_ylim(*_within(y, down, rows)[::-1])
            line[0].set_ylabel(fill(edit.title, 20), fontsize=8)


def diameter_figure(diameters: Mapping[str, tuple[np.ndarray, np.ndarray]], path: str | Path, facts: Facts) -> None:
    """Measured against asked diameters in mm, with the line of equal ones and a band of 20% about it.

    diameters: name of a kind of nodules (at most 4), as `injected`, `real` -> asked [N], and measured [N]; NaN where no
    nodule was found: those stand on the axis, and in the legend. The legend has the median of |measured / asked - 1|,
    where such a nodule counts as 1.
    """
    with house_figure(path, facts, (4.2, 4.2)) as figure:
        ax = figure.subplots()
        asked, measured = (np.concatenate([pair[which] for pair in diameters.values()]) for which in (0, 1))
        most = 1.08 * max(asked.max(), np.nanmax(measured, initial=0))
        line = np.array([0, most])
        ax.fill_between(
            line, line * (1 - TOLERANCE), line * (1 + TOLERANCE), color="0.9", zorder=0, label=f"±{TOLERANCE:.0%}"
        )
        ax.plot(line, line, color="0.4", linewidth=0.8, zorder=1)
        for (name, (one, other)), colour, marker in zip(diameters.items(), COLOURS, MARKERS, strict=False):
            missing = np.isnan(other)
            error = np.median(np.abs(np.nan_to_num(other) / one - 1))
            label = f"{name}: n {len(one)}, median error {error:.0%}"
            label += f", {missing.sum()} not found" if missing.any() else ""
            ax.scatter(
                one,
                np.nan_to_num(other),
                linewidths=0,
                label=label,
                zorder=2,
                color=colour,
                marker=marker,
                s=16,
                alpha=0.7,
                clip_on=False,
            )
        ax.set(xlim=(0, most), ylim=(0, most), aspect="equal")
        ax.set_xlabel("asked diameter mm")
        ax.set_ylabel("measured diameter mm")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)


def _three_planes(voi: np.ndarray) -> np.ndarray:
    """Axial, coronal and sagittal plane beside each other, NaN (white) between them: [S, 3 S + 2]."""
    middle = len(voi) // 2
    gap = np.full((len(voi), 1), np.nan)
    # z runs to the head: up.
    return np.hstack([voi[middle], gap, voi[::-1, middle], gap, voi[::-1, :, middle]])


def _show(ax: Axes, image: np.ndarray) -> None:
    low, high = VOI_WINDOW
    ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _within(place: float, half: float, length: int) -> tuple[float, float]:
    """Limits of an axis about a place, moved into an image of `length` pixels."""
    half = min(half, length / 2)
    place = min(max(place, half - 0.5), length - 0.5 - half)
    return place - half, place + half


def compared_vois(
    truth: VoiSet, injected: VoiSet, erased: VoiSet, real: VoiSet, margin_mm: float, each: int = 4
) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Rows for `voi_figure`: `each` places from the smallest nodule to the largest, and a real one of each size.

    truth, injected, erased: the same healthy VOIs, with a nodule injected, and with that erased again.
    """
    rows = []
    for place in _spread(truth, each):
        diameter = truth.table.equivalent_diameter_mm.iloc[place]
        nearest = (real.table.equivalent_diameter_mm - diameter).abs().to_numpy().argmin()
        mask = sphere(truth.voxels.shape[-1], truth.table.spacing_mm.iloc[place], diameter / 2 + margin_mm)
        columns = {
            "before": truth.voxels[place],
            "masked": blank(truth.voxels[place], mask),
            "injected": injected.voxels[place],
            "erased again": erased.voxels[place],
            "a real nodule": real.voxels[nearest],
        }
        rows.append((f"{diameter:.0f} mm; real: {real.table.equivalent_diameter_mm.iloc[nearest]:.0f} mm", columns))
    return rows


def find_edits(
    done: pd.DataFrame, scans: pd.DataFrame, before: Sequence[str | Path], after: Sequence[str | Path], each: int = 2
) -> list[Edit]:
    """Rows for `slice_figure`: the largest places of each of `ACTIONS`, of `each` different scans.

    done: `DONE_TYPES` of `synthesis.mix`. before, after: stores of all scans of the table.
    """
    done = done.sort_values("diameter_mm", ascending=False).drop_duplicates(["action", "scan_id"])
    chosen = done.groupby("action").head(each).sort_values("action", kind="stable")
    rows = scans[scans.scan_id.isin(chosen.scan_id)]
    unedited, edited = (
        {scan["scan_id"]: values for scan, values, *_ in read_scans(paths, rows)} for paths in (before, after)
    )
    spacing = rows.set_index("scan_id").spacing_mm
    return [
        Edit(
            f"{ACTIONS[row.action]}, {row.diameter_mm:.1f} mm",
            unedited[row.scan_id],
            edited[row.scan_id],
            (row.z_voxel, row.y_voxel, row.x_voxel),
            (spacing[row.scan_id],) * 3,
            row.diameter_mm / 2,
        )
        for row in chosen.itertuples()
    ]


def _spread(vois: VoiSet, each: int) -> list[int]:
    """Indices of VOIs evenly from the smallest diameter to the largest."""
    order = vois.table.equivalent_diameter_mm.to_numpy().argsort(kind="stable")
    return order[np.linspace(0, len(order) - 1, min(each, len(order))).round().astype(int)].tolist()
