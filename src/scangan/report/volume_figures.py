"""Figures of synthetic volumes: three planes, slices by position, consistency, detection by size; and a GIF.

CT-SGAN (Pesaranghader et al.), figures 1, A.1, A.2 and 3(b). The patient's left is on the right, in sagittal slices the
back; the head is up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from scangan.arms import find_arm
from scangan.ct.window import VOI_WINDOW as WINDOW
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.files import atomic
from scangan.report.scan_figures import ORANGE, SKY
from scangan.report.style import BLUE, VERMILION, house_figure, lines_of

MIDDLE = (0.6, 0.5, 0.4)  # of the height, from the lowest slice
REGIONS = (0.85, 0.71, 0.57, 0.43, 0.29, 0.15)  # from apex to base
GAP = 2  # white pixels between slices
SOURCE_COLOURS = ("0.15", VERMILION, BLUE, ORANGE, SKY, "#CC79A7")  # the real volumes first
MARKERS = ("o", "s", "^", "D", "v", "P")
GIF_SLICES, GIF_EDGE, GIF_GREYS, GIF_MS = 64, 128, 32, 80  # 32 greys of noise take 7 bits a pixel: 0.9 MB


def planes_figure(
    volumes: Mapping[str, np.ndarray],
    path: str | Path,
    facts: Facts,
    window: tuple[float, float] = WINDOW,
) -> None:
    """Middle axial, coronal and sagittal slice of one volume of each source, real beside synthetic (figure 1).

    volumes: title -> int16 [S, S, S] in HU; shown within `window`.
    """
    with house_figure(path, facts, (0.6 + 2.1 * max(len(volumes), 2), 6.9)) as figure:
        axes = figure.subplots(3, len(volumes), squeeze=False)
        for column, (title, volume) in zip(axes.T, volumes.items(), strict=True):
            middle = len(volume) // 2
            # z runs to the head: up.
            planes = {"axial": volume[middle], "coronal": volume[::-1, middle], "sagittal": volume[::-1, :, middle]}
            for ax, plane in zip(column, planes.values(), strict=True):
                _show(ax, plane, window)
            column[0].set_title(title)
        for ax, name in zip(axes[:, 0], planes, strict=True):
            ax.set_ylabel(name)


def middle_figure(
    volumes: Mapping[str, Sequence[np.ndarray]],
    path: str | Path,
    facts: Facts,
    window: tuple[float, float] = WINDOW,
) -> None:
    """Axial slices of the middle region, a column a volume, at the same heights in each source (figure A.1).

    volumes: source -> several volumes, int16 [S, S, S] in HU, as many of each source.
    """
    mosaics = {
        source: [[volume[int(height * len(volume))] for volume in own] for height in MIDDLE]
        for source, own in volumes.items()
    }
    note = f"rows: {', '.join(f'{height:.0%}' for height in MIDDLE)} of the height; columns: volumes"
    _mosaic_figure(mosaics, path, facts, note, window)


def regions_figure(
    volumes: Mapping[str, Sequence[np.ndarray]],
    path: str | Path,
    facts: Facts,
    window: tuple[float, float] = WINDOW,
) -> None:
    """Axial slices from apex to base, a row a volume, at corresponding heights in each source (figure A.2).

    volumes: source -> several volumes, int16 [S, S, S] in HU, as many of each source.
    """
    mosaics = {
        source: [[volume[int(height * len(volume))] for height in REGIONS] for volume in own]
        for source, own in volumes.items()
    }
    note = "rows: volumes; columns: from apex to base"
    _mosaic_figure(mosaics, path, facts, note, window)


def consistency_figure(descriptions: Mapping[str, pd.DataFrame], path: str | Path, facts: Facts) -> None:
    """Do slices follow each other as in real volumes, and are there lungs of a real size?

    descriptions: source -> what `metrics.volumes.describe_volumes` returns; the real ones first. Left and middle:
    cumulative share of volumes over the mean difference of neighbouring axial slices, and over lung volume (of masks
    that did not fail). Right: that difference at each height, median over volumes, band: 25 to 75%.
    """
    with house_figure(path, facts, (9.0, 3.2)) as figure:
        differences, lungs, profiles = figure.subplots(1, 3)
        for (name, rows), colour in zip(descriptions.items(), SOURCE_COLOURS, strict=False):
            usable = rows[rows["lung_check"] == ""]
            # Of the first source, the real one, a wider line: another may lie upon it.
            style = {"color": colour, "linewidth": 2.2 if colour == SOURCE_COLOURS[0] else 1.3}
            label = f"{name} ({len(rows)} volumes, {rows['two_lungs'].mean():.0%} with two lungs)"
            for ax, values in (
                (differences, rows["difference_axial_hu"].dropna()),
                (lungs, usable["lung_volume_ml"] / 1000),
            ):
                if len(values):
                    ax.ecdf(values, **style)
            # Where no volume shows the body it is NaN, and nothing is drawn.
            profile = pd.DataFrame(rows["axial_differences_hu"].tolist(), dtype=float).quantile([0.25, 0.5, 0.75])
            heights = (np.arange(profile.shape[1]) + 1) / (profile.shape[1] + 1)
            low, median, high = profile.to_numpy()
            profiles.fill_between(heights, low, high, color=colour, alpha=0.15, linewidth=0)
            profiles.plot(heights, median, label=label, **style)
        differences.set(xlabel="difference of neighbouring slices, HU", ylabel="share of volumes")
        lungs.set(xlabel="lung volume, litres")
        profiles.set(xlabel="height, from the lowest slice", ylabel="difference, HU", xlim=(0, 1))
        figure.legend(*profiles.get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=8)


def detection_figure(scores: pd.DataFrame, path: str | Path, facts: Facts) -> None:
    """Accuracy over the diameter of simulated nodules, for each arm, with 95% intervals; dashed: chance (figure 3b).

    scores: `arm, diameter_mm, metric, value, ci_low, ci_high, seeds, cases`, as `metrics.detection.score_sizes` or
    `report.classification_tables.sizes_table` give. Rows without a diameter, and arms of a sweep, are not shown.
    Raises DataError if nothing is left. Arms stand slightly apart.
    """
    of_sweep = scores["arm"].map(lambda arm: find_arm(arm).synthetic_share is not None).astype(bool)
    chosen = scores[(scores["metric"] == "accuracy") & scores["diameter_mm"].notna() & ~of_sweep]
    if chosen.empty:
        raise DataError("scores: diameter_mm: found none, allowed: accuracy of at least one diameter")
    diameters = np.sort(chosen["diameter_mm"].unique())
    arms = list(chosen["arm"].unique())
    lines = lines_of(arms)
    step = np.diff(diameters).min(initial=2.0) / (3 * len(arms))
    with house_figure(path, facts, (5.4, 3.6)) as figure:
        ax = figure.subplots()
        ax.axhline(0.5, color="0.5", linewidth=0.8, linestyle="--", label="chance")
        for number, (arm, marker) in enumerate(zip(arms, cycle(MARKERS), strict=False)):
            colour, dashes = lines[arm]
            rows = chosen[chosen["arm"] == arm].sort_values("diameter_mm")
            places = rows["diameter_mm"] + step * (number - (len(arms) - 1) / 2)
            ax.vlines(places, rows["ci_low"], rows["ci_high"], color=colour, linewidth=1.2)
            ax.plot(places, rows["value"], marker, ls=dashes, color=colour, markersize=5, linewidth=0.8, label=arm)
        ax.set_xticks(diameters, [f"{diameter:g}" for diameter in diameters])
        ax.set(xlabel="diameter of the nodules, mm", ylabel="accuracy, mean over seeds")
        cases = chosen["cases"].unique()
        ax.set_title(f"balanced test set of {_range(cases)} volumes, 95% intervals", loc="left")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=8)


def scroll_gif(volume: np.ndarray, path: str | Path, comment: str, window: tuple[float, float] = WINDOW) -> None:
    """A GIF through a volume's axial slices, from the lowest up, below 1 MB whatever the volume's size.

    volume: int16 [S, S, S] in HU. comment: stands in the file; say there that the volume is synthetic. At most 64
    slices are shown, evenly spaced, reduced to at most 128 x 128 pixels and 32 greys.
    """
    low, high = window
    edge, slices = min(len(volume), GIF_EDGE), min(len(volume), GIF_SLICES)
    frames = []
    for place in np.linspace(0, len(volume) - 1, slices).round().astype(int):
        grey = ((volume[place].astype(np.float32) - low) / (high - low)).clip(0, 1)
        small = np.asarray(Image.fromarray(grey).resize((edge, edge), Image.Resampling.BOX))
        frame = Image.fromarray(np.rint(small * (GIF_GREYS - 1)).astype(np.uint8), mode="L")
        frame.putpalette(np.linspace(0, 255, GIF_GREYS).round().astype(np.uint8).repeat(3).tobytes())
        frames.append(frame)
    with atomic(path) as temporary:
        frames[0].save(
            temporary, save_all=True, append_images=frames[1:], duration=GIF_MS, loop=0, comment=comment.encode()
        )


def _mosaic_figure(
    mosaics: Mapping[str, Sequence[Sequence[np.ndarray]]],
    path: str | Path,
    facts: Facts,
    note: str,
    window: tuple[float, float],
) -> None:
    """For each source a mosaic of slices [S, S], rows of columns; two mosaics beside each other. note: of what."""
    rows, columns = math.ceil(len(mosaics) / 2), min(2, len(mosaics))
    tiles = next(iter(mosaics.values()))
    width, height = 0.85 * len(tiles[0]), 0.85 * len(tiles)
    size = (columns * (width + 0.3), rows * (height + 0.3) + 0.3)
    with house_figure(path, facts, size, f"{note}; {facts.study}") as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(mosaics) :]:
            ax.axis("off")
        for ax, (source, slices) in zip(axes, mosaics.items(), strict=False):
            _show(ax, _mosaic(slices), window)
            ax.set_title(source)


def _mosaic(slices: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Slices [S, S] in rows and columns as one picture, NaN (white) between them."""
    padded = [
        [np.pad(each.astype(np.float32), ((0, GAP),) * 2, constant_values=np.nan) for each in row] for row in slices
    ]
    return np.block(padded)[:-GAP, :-GAP]


def _show(ax: Axes, image: np.ndarray, window: tuple[float, float]) -> None:
    ax.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _range(counts: np.ndarray) -> str:
    return str(counts.min()) if len(counts) == 1 else f"{counts.min()} to {counts.max()}"
