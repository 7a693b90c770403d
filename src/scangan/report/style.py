"""The house style of figures: each says, in its footer, from which data and at what scale it was made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from scangan.arms import find_arm
from scangan.facts import Facts
from scangan.files import atomic

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "axes.axisbelow": True,
    "legend.edgecolor": "none",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
}
BLUE, VERMILION = "#0072B2", "#D55E00"
DASHES = ("--", ":", "-.")  # of the further networks, in turn


class ArmLine(NamedTuple):
    """How an arm's line is drawn."""

    colour: str
    dashes: str


def lines_of(arms: Iterable[str]) -> dict[str, ArmLine]:
    """Arm -> its line; that of a further network has the colour of the arm that it varies, and is dashed."""
    found = {name: find_arm(name) for name in arms}
    further = list(dict.fromkeys(arm.gan for arm in found.values() if arm.gan))
    dashes = {None: "-"} | {gan: DASHES[place % len(DASHES)] for place, gan in enumerate(further)}
    return {name: ArmLine(arm.colour, dashes[arm.gan]) for name, arm in found.items()}


@contextmanager
def house_figure(path: str | Path, facts: Facts, size: tuple[float, float], caption: str = "") -> Iterator[Figure]:
    """A figure in the house style, with its footer (`Facts.footer`), written atomically in the format of its ending."""
    with rc_context(STYLE):
        figure = Figure(figsize=size)
        yield figure
        figure.supxlabel(facts.footer(caption), fontsize=7, color="0.35", x=0.01, ha="left")
        with atomic(path) as temporary:
            figure.savefig(temporary)
