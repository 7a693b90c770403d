"""Figure of the judges: the share of each set of synthetic images that real classifiers call positive."""

from __future__ import annotations

from itertools import chain, cycle
from pathlib import Path

import pandas as pd

from scangan.facts import PUBLISHED, Facts
from scangan.report.style import BLUE, VERMILION, house_figure

# Okabe and Ito's palette, told apart by colour-blind readers too; the references are black and grey.
GANS = ((BLUE, "o"), (VERMILION, "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"))
POSITIVE, NEGATIVES = ("#000000", "-"), tuple(("0.45", dashes) for dashes in ("--", ":", "-."))  # real test images


def judged_sets(judged: pd.DataFrame, path: str | Path, facts: Facts) -> None:
    """Share of each set that is judged positive, a colour a network; lines: real test images of each class.

    judged: `variant, set, value, ci_low, ci_high, images`, as `metrics.judge.judge_sets` returns. Bars and bands are
    the intervals there. After Mann et al., "Generation of COVID-19 Chest CT Scan Images using GANs", figure 7.
    """
    is_real = judged["variant"].str.startswith("real/")
    gans = dict(list(judged[~is_real].groupby("variant", sort=False)))
    sets = judged.loc[judged["set"] != "mean", "set"].unique()
    ends = (0.4, len(sets) + 0.6)
    with house_figure(path, facts, (6.4, 3.6)) as figure:
        ax = figure.subplots()
        for row, (colour, line) in zip(judged[is_real].itertuples(), chain([POSITIVE], cycle(NEGATIVES)), strict=False):
            ax.fill_between(ends, row.ci_low, row.ci_high, color=colour, alpha=0.12, linewidth=0)
            name = f"{row.variant.replace('/', ' ')}, {row.images} test images: {row.value:.2f}"
            ax.plot(ends, (row.value, row.value), color=colour, linestyle=line, linewidth=1.2, label=name)
        for place, ((variant, shares), (colour, marker)) in enumerate(zip(gans.items(), cycle(GANS), strict=False)):
            is_mean = shares["set"] == "mean"
            mean, each = shares[is_mean].iloc[0], shares[~is_mean]
            x = each["set"].astype(int) + 0.5 * ((place + 0.5) / len(gans) - 0.5)
            ax.vlines(x, each["ci_low"], each["ci_high"], color=colour, linewidth=0.7)
            name = f"{variant}, mean: {mean['value']:.2f} [{mean['ci_low']:.2f}, {mean['ci_high']:.2f}]"
            ax.plot(x, each["value"], marker, color=colour, markersize=4, label=name)
        ax.set(xlabel=f"set of {each['images'].iloc[0]} synthetic images", ylabel="judged positive", xlim=ends)
        ax.set(xticks=sets.astype(int), ylim=(-0.02, 1.02))
        who = "A published judge" if facts.pretrained == PUBLISHED else "Mean over seeds of the arm real"
        ax.set_title(f"{who}; bars and bands: 95% intervals", loc="left")
        figure.legend(loc="outside upper left", ncols=2, fontsize=7)
