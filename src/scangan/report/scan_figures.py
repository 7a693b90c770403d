"""Figures and a table of a CT cohort: its scans with lungs and nodules, and its nodules beside those of LIDC-IDRI."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from scangan.facts import Facts
from scangan.report.style import BLUE, VERMILION, house_figure

LUNG_WINDOW = (-1350, 150)  # Hounsfield
SKY, ORANGE = "#56B4E9", "#E69F00"  # both clear on grey, for every kind of colour vision
BARS = {"color": BLUE, "alpha": 0.45}
LINE = {"color": VERMILION, "histtype": "step", "linewidth": 1.4}
COLUMNS = 6
DISTRIBUTION_COLUMNS = ["study", "source", "quantity", "statistic", "value", "data", "scale"]
# Keys of a source of nodules. The radius is that of the sphere of a nodule's volume; the outline's is the readers'.
COUNT, RADIUS, OUTLINE = "nodules per scan", "radius mm", "outline radius mm"
STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "sd": lambda values: np.std(values, ddof=1) if len(values) > 1 else np.nan,
    "q05": lambda values: np.quantile(values, 0.05),
    "q25": lambda values: np.quantile(values, 0.25),
    "median": np.median,
    "q75": lambda values: np.quantile(values, 0.75),
    "q95": lambda values: np.quantile(values, 0.95),
}


def contact_sheet(
    scans: Iterable[tuple[Mapping[str, Any], np.ndarray, np.ndarray, np.ndarray]],
    path: str | Path,
    facts: Facts,
    most: int = 24,
) -> None:
    """One axial slice of each of the first `most` scans, with the outlines of lungs and nodules.

    scans: (row, hounsfield [Z, Y, X], lungs [Z, Y, X], nodules [Z, Y, X], 0 or the nodule's number). They are read one
    by one, so that an iterator holds one volume at a time. row: of the scan table, with `scan_id`, `nodules` (NaN: not
    annotated), `lung_check`, and `equivalent_diameter_mm`, the largest nodule's, NaN without one.
    The slice goes through the largest nodule, else through the widest part of the lungs, else through the middle. The
    patient's right is on the left.
    """
    panels = [(row, *_slice(hounsfield, lungs, nodules)) for row, hounsfield, lungs, nodules in islice(scans, most)]
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / COLUMNS)
    with house_figure(path, facts, (1.7 * max(columns, 3), 0.5 + 1.75 * rows)) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes:
            ax.axis("off")
        for ax, (row, image, lungs, nodules) in zip(axes, panels, strict=False):
            low, high = LUNG_WINDOW
            ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
            _outline(ax, lungs, SKY, 0.6)
            _outline(ax, nodules, ORANGE, 0.9)
            ax.set_title(f"{row['scan_id']}\n{_size(row)}", fontsize=6)
            if row["lung_check"]:
                failure = fill(f"lung mask failed: {row['lung_check']}", 36)
                box = {"facecolor": VERMILION, "edgecolor": "none", "pad": 1.5}
                ax.text(0.03, 0.05, failure, transform=ax.transAxes, fontsize=5, color="white", bbox=box)
        handles = [Line2D([], [], color=SKY, label="lungs"), Line2D([], [], color=ORANGE, label="nodules")]
        figure.legend(handles=handles, loc="outside upper right", ncols=2, fontsize=7)


def _slice(hounsfield: np.ndarray, lungs: np.ndarray, nodules: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The slice [Y, X] of each to show."""
    sizes = np.bincount(nodules.ravel(), minlength=2)[1:]
    shown = nodules == sizes.argmax() + 1 if sizes.any() else lungs > 0
    number = shown.sum((1, 2)).argmax() if shown.any() else len(shown) // 2
    return hounsfield[number], lungs[number] > 0, nodules[number] > 0


def _outline(ax: Axes, mask: np.ndarray, colour: str, width: float) -> None:
    if mask.any():
        ax.contour(mask.astype(float), levels=[0.5], colors=colour, linewidths=width)


def _size(row: Mapping[str, Any]) -> str:
    if pd.isna(row["nodules"]):
        return "not annotated"
    if row["nodules"] == 0:
        return "no nodule"
    return f"{row['nodules']:.0f} nodule{'s' if row['nodules'] > 1 else ''}, {row['equivalent_diameter_mm']:.1f} mm"


def radii(nodules: pd.DataFrame) -> dict[str, np.ndarray]:
    """Both radii in mm of the nodules of a table: of the sphere of the same volume, and of the readers' outline."""
    diameters = {RADIUS: nodules.equivalent_diameter_mm, OUTLINE: nodules.diameter_mm}
    return {name: diameter.to_numpy(float) / 2 for name, diameter in diameters.items()}


def nodule_distributions(
    sources: Mapping[str, Mapping[str, np.ndarray]], data: Mapping[str, str], path: str | Path, facts: Facts
) -> None:
    """Histograms of the number of nodules a scan and of their radii, in each source (CT-SGAN's figure B.3).

    sources: name -> its `COUNT`, one value a scan, and what `radii` gives, one value a nodule; the first of two
    sources, the LIDC database, is drawn as bars, the second, the cohort, as a line. data: name of a source -> `real` or
    `phantom`: the bars are of real patients whatever the cohort is.
    """
    facts = replace(facts, data=" and ".join(dict.fromkeys(data[name] for name in sources)))
    # Bins of counts lie around whole numbers.
    panels = ((COUNT, "scans", -0.5), (RADIUS, "nodules", 0), (OUTLINE, "nodules", 0))
    with house_figure(path, facts, (9.6, 3.2)) as figure:
        for ax, (quantity, unit, first) in zip(figure.subplots(1, 3), panels, strict=True):
            values = {name: np.asarray(source[quantity]) for name, source in sources.items()}
            largest = max(each.max(initial=1) for each in values.values())
            bins = np.arange(first, largest + 1.5)
            for (name, each), style in zip(values.items(), (BARS, LINE), strict=True):
                weights = np.full(len(each), 100 / max(1, len(each)))
                label = f"{name}, {data[name]} ({len(each)} {unit})"
                ax.hist(each, bins, weights=weights, label=label, **style)
            ax.set_xlabel(quantity)
            ax.set_ylabel(f"% of {unit}")
            ax.legend(loc="lower left", bbox_to_anchor=(0, 1))


def distribution_table(
    sources: Mapping[str, Mapping[str, np.ndarray]], data: Mapping[str, str], facts: Facts
) -> pd.DataFrame:
    """The numbers behind `nodule_distributions`, one a row; arguments as there.

    Columns: study, source, quantity (nodules per scan | radius mm | outline radius mm), statistic (mean, sd, q05, q25,
    median, q75, q95, n; NaN where there is no value, and for the sd of one), value, data, scale.
    """
    rows = []
    for source, quantities in sources.items():
        for quantity, values in quantities.items():
            for statistic, of in STATISTICS.items():
                rows.append((source, quantity, statistic, float(of(values)) if len(values) else np.nan))
            rows.append((source, quantity, "n", len(values)))
    table = facts.assign(pd.DataFrame(rows, columns=["source", "quantity", "statistic", "value"]))
    return table.assign(data=table["source"].map(data))[DISTRIBUTION_COLUMNS]
