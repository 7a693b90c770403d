"""The map, where real, classically augmented and synthetic images of both classes lie; and whether they are apart."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scangan.facts import Facts
from scangan.report.style import BLUE, VERMILION, house_figure

TITLES = {"real": "(a) real", "classical": "(b) classically augmented", "synthetic": "(c) synthetic"}
STYLES = ((BLUE, "o"), (VERMILION, "^"))  # told apart by colour-blind readers, and in grey
SEPARATION_COLUMNS = [
    *("variant", "metric", "value", "ci_low", "ci_high", "images", "reference", "data", "scale", "study")
]

NOTE = (
    "Nearest neighbour accuracy: share of images, half of them real, whose nearest neighbour of another patient says "
    "rightly whether they are real, in the space itself, not on the map [95% Wilson interval]; real: expected where "
    "they cannot be told apart. Beside it the same share of the real ones and of the variant alone."
)


def separation_table(separation: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """`separation.csv` from what `metrics.embedding.map_spaces` returns; variant: `<space>: <variant>`."""
    named = separation.assign(variant=separation["space"] + ": " + separation["variant"])
    return facts.assign(named)[SEPARATION_COLUMNS]


def embedding_map(table: pd.DataFrame, path: str | Path, facts: Facts, caption: str = "") -> None:
    """A row of panels for each space, a panel each for real, classically augmented and synthetic images.

    table: `space, x, y, category`, as `metrics.embedding.map_spaces` returns; rows are in its order of spaces, classes
    in the order of the alphabet. All other images of the space are grey, behind. After Han et al., "Infinite Brain MR
    Images", figure 6.
    """
    kind, label = table["category"].str.split("/", n=1, expand=True).to_numpy().T
    spaces, labels = table["space"].unique(), sorted(set(label))
    with house_figure(path, facts, (7.2, 0.3 + 2.9 * len(spaces)), caption) as figure:
        axes = figure.subplots(len(spaces), len(TITLES), squeeze=False)
        for row, space in zip(axes, spaces, strict=True):
            in_space = (table["space"] == space).to_numpy()
            places = table.loc[in_space, ["x", "y"]]
            middle, radius = (places.max() + places.min()) / 2, 0.53 * (places.max() - places.min()).max()
            for ax, (name, title) in zip(row, TITLES.items(), strict=True):
                others = table[in_space & (kind != name)]
                ax.scatter(others["x"], others["y"], s=3, color="0.85", linewidths=0)
                for each, (colour, marker) in zip(labels, STYLES, strict=True):
                    shown = table[in_space & (kind == name) & (label == each)]
                    key = f"{each}, {len(shown)}"
                    ax.scatter(
                        shown["x"], shown["y"], s=7, color=colour, marker=marker, linewidths=0, alpha=0.7, label=key
                    )
                # The axes of such a map have no unit and no meaning, but all panels of a row the same scale.
                ends = {f"{axis}lim": (middle[axis] - radius, middle[axis] + radius) for axis in "xy"}
                ax.set(xticks=[], yticks=[], aspect="equal", **ends)
                ax.set_title(title, loc="left")
                below = {"loc": "upper left", "bbox_to_anchor": (0, 0), "borderaxespad": 0.2}
                ax.legend(**below, fontsize=7, labelspacing=0.2, handletextpad=0)
            row[0].set_ylabel(f"space of the {space}")
