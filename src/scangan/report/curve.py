"""The curve over the training patients: a table, what synthetic images are worth in words, and a figure."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from scangan.facts import Facts
from scangan.files import atomic
from scangan.metrics.curve import COLUMNS, worth_sentences
from scangan.report.classification_tables import decimals_for
from scangan.report.style import house_figure, lines_of

NOTE = (
    "Worth: so many more real patients the arm without synthetic images would need to be as good, read off its own "
    "curve (made to rise, straight on a logarithmic scale of patients) [95% interval: the numbers with which the two "
    "cannot be told apart, over trainings and test patients]. Beyond the smallest and the largest number of "
    "patients nothing is known: `or fewer`, `or more`; so with all patients it is 0 or more at best. Whether synthetic "
    "images help at all is the difference's to say."
)


def write_curve(curve: pd.DataFrame, csv_path: str | Path, md_path: str | Path, facts: Facts) -> None:
    """`curve.csv`, the rows of `metrics.curve.score_curve`; for people a row an arm, a column a number of patients."""
    with atomic(csv_path) as csv, atomic(md_path) as markdown:
        table = facts.assign(curve)
        table[["study", *COLUMNS, *(name for name in ("data", "scale", "pretrained") if name in table)]].to_csv(
            csv, index=False
        )
        cells = [_cell(row.value, row.ci_low, row.ci_high) for row in curve.itertuples()]
        wide = curve.assign(cell=cells).pivot(index="arm", columns="patients", values="cell")
        wide = wide.loc[list(dict.fromkeys(curve["arm"]))]
        wide.columns = [f"{patients} patients" for patients in wide.columns]
        metric, cases = curve["metric"].iloc[0], curve["cases"].iloc[0]
        heading = f"**{facts.study}; {facts.provenance}; {metric} on {cases} test images, by training patients**"
        said = [f"- {line}" for line in worth_sentences(curve)]
        paragraphs = [
            heading,
            wide.reset_index().to_markdown(index=False, disable_numparse=True),
            "\n".join(said),
            NOTE,
        ]
        markdown.write_text("\n\n".join(filter(None, paragraphs)) + "\n", encoding="utf-8")


def _cell(value: float, low: float, high: float) -> str:
    if math.isnan(low):
        return f"{value:.2f}"
    decimals = decimals_for(2, low, high)
    return f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def metric_over_patients(curve: pd.DataFrame, path: str | Path, facts: Facts) -> None:
    """The metric of each arm over the number of training patients, with 95% intervals, from the same rows."""
    with house_figure(path, facts, (5.2, 3.6)) as figure:
        ax = figure.subplots()
        arms = list(dict.fromkeys(curve["arm"]))
        lines, numbers = lines_of(arms), sorted(curve["patients"].unique())
        for place, arm in enumerate(arms):
            rows = curve[curve["arm"] == arm].sort_values("patients")
            beside = rows["patients"] * 1.02 ** (
                place - (len(arms) - 1) / 2
            )  # so that intervals do not hide each other
            colour, dashes = lines[arm]
            ax.vlines(beside, rows["ci_low"], rows["ci_high"], color=colour, linewidth=1)
            ax.plot(beside, rows["value"], "o", linestyle=dashes, color=colour, markersize=4, linewidth=1, label=arm)
        ax.set_xscale("log")
        ax.set_xticks(numbers, [f"{number}" for number in numbers])
        ax.set_xticks([], minor=True)
        ax.set(xlabel="training patients", ylabel=f"{curve['metric'].iloc[0]}, 95% interval")
        ax.legend(loc="lower right")
