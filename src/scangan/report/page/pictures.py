"""Pictures within a page: figures of a run made smaller, and the plot of all differences."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from scangan.report.classification_tables import decimals_for
from scangan.report.style import STYLE, lines_of

QUALITY = 80  # of WebP, per cent


def embedded(path: str | Path, width: int) -> tuple[str, int, int]:
    """A figure, at most `width` pixels wide, as an address that holds the file itself; and its width and height."""
    with Image.open(path) as found:
        picture = found.convert("RGB")
    picture.thumbnail((width, 2 * width))
    return _address(picture), *picture.size


def _address(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def forest_plot(comparisons: Sequence[dict[str, Any]], margin: float, primary: str) -> str:
    """All differences with their intervals as an SVG's address, one below the other, each under its own words.

    comparisons: of `verdict.json`, the primary metric alone. margin: the band in which a difference does not matter.
    Narrow and with words above the lines, so that it can be read on a telephone.
    """
    lines = lines_of(dict.fromkeys(row["arm"] for row in comparisons))
    with rc_context(STYLE | {"svg.fonttype": "none", "svg.hashsalt": "scangan", "font.family": "sans-serif"}):
        figure = Figure(figsize=(5.0, 0.9 + 0.46 * len(comparisons)))
        ax = figure.subplots()
        ax.axvspan(-margin, margin, color="0.9", zorder=0)
        ax.axvline(0, color="0.3", linewidth=0.8)
        for place, row in enumerate(comparisons):
            line = lines[row["arm"]]
            write = partial(ax.text, y=place - 0.3, transform=ax.get_yaxis_transform(), fontsize=8.5, va="center")
            write(x=0, s=f"{row['arm']} − {row['against']}")
            write(x=1, s=difference_text(row), ha="right")
            if row["difference_low"] is not None:
                interval = [row["difference_low"], row["difference_high"]]
                # An interval of all that a difference can be says nothing, and should not look like a finding.
                says_nothing = interval == [-1, 1]
                dashes, thickness = (":", 0.8) if says_nothing else (line.dashes, 2)
                ax.plot(interval, [place, place], color=line.colour, linestyle=dashes, linewidth=thickness)
            marker = "D" if row["best"] else "o"
            ax.plot(row["difference"], place, marker, color=line.colour, markersize=6 if row["best"] else 5)
        ax.set_ylim(len(comparisons) - 0.5, -0.7)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(f"difference in {primary.upper() if primary == 'auc' else primary}")
        ax.grid(axis="y", visible=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def difference_text(row: dict[str, Any]) -> str:
    """`+0.06 [-0.10, +0.22], p = 0.041`, with what is known of it."""
    low, high = row["difference_low"], row["difference_high"]
    if low is None or pd.isna(low):
        said = f"{row['difference']:+.2f}"
    else:
        number = f"{{:+.{decimals_for(2, low, high)}f}}".format
        said = f"{number(row['difference'])} [{number(low)}, {number(high)}]"
    if row["p_holm"] is not None and pd.notna(row["p_holm"]):
        said += f", p = {row['p_holm']:.3f}"
    return said


def forest_alt(comparisons: Sequence[dict[str, Any]], margin: float, primary: str) -> str:
    """What `forest_plot` shows, in words."""
    told = "; ".join(f"{row['arm']} minus {row['against']}: {difference_text(row)}" for row in comparisons)
    return f"Differences in {primary} with 95% intervals; the grey band is the margin of {margin:g}. {told}."
