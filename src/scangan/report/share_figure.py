"""The sweep of the synthetic share: classifier scores over the number of synthetic images, relative to the real ones.

Arms are `real` and `real+synthetic-x<share>`: with a share of 0.25 the training set has a synthetic image for every
four real ones. Of volumes they are `synthetic-x<share>`: so many synthetic ones, and no real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scangan.arms import ARMS, SWEPT, find_arm
from scangan.data.split import share_counts
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.classifier_metrics import metrics_of
from scangan.report.style import house_figure
from scangan.report.tables import SCORE_COLUMNS

PANELS = ("accuracy", "sensitivity", "specificity")
SHARE_COLUMNS = ["study", "share", "synthetic_images", *SCORE_COLUMNS]


def share_of(arm: str) -> float | None:
    """Synthetic images for each real one: 0 for `real`, 0.25 for `real+synthetic-x0.25`; None for another arm."""
    return 0.0 if arm == "real" else find_arm(arm).synthetic_share


def share_table(scores: pd.DataFrame, real_images: pd.Series, facts: Facts) -> pd.DataFrame:
    """The table of the sweep from what `score_arms` returns: the scores of `classification.csv` by share, 0 first.

    real_images: class -> real training images; from them and the share, as `data.split.draw_share` takes them, come the
    `synthetic_images` of a training set. Print the table with `report.tables.to_markdown(table, index="share")`.
    Raises DataError as `accuracy_over_share` does.
    """
    chosen = _by_share(scores, metrics_of("shares"))
    drawn = {share: sum(share_counts(real_images, share).values()) for share in chosen["share"].unique()}
    drawn[0] = 0
    return facts.assign(chosen.assign(synthetic_images=chosen["share"].map(drawn)))[SHARE_COLUMNS]


def accuracy_over_share(scores: pd.DataFrame, path: str | Path, facts: Facts) -> None:
    """Accuracy, sensitivity and specificity over the synthetic share, with 95% intervals; line and band: `real` alone.

    scores: `arm, metric, value, ci_low, ci_high`, as `metrics.scores.score_arms` returns; other arms are not
    shown. Raises DataError without the arm `real`, or without a share.
    """
    by_share = _by_share(scores, PANELS)
    beside = find_arm(by_share["arm"].iloc[-1]).reads_real
    label = "real and synthetic" if beside else "synthetic alone"
    by_metric = dict(list(by_share.groupby("metric")))
    with house_figure(path, facts, (7.2, 3.0)) as figure:
        axes = figure.subplots(1, len(PANELS), sharex=True, sharey=True)
        for ax, metric in zip(axes, PANELS, strict=True):
            real, *_ = by_metric[metric].itertuples()
            sweep = by_metric[metric].iloc[1:]
            shares = sweep["share"]
            ends = (shares.min() / 1.25, shares.max() * 1.25)
            ax.fill_between(ends, real.ci_low, real.ci_high, color=ARMS["real"].colour, alpha=0.12, linewidth=0)
            ax.plot(ends, (real.value, real.value), color=ARMS["real"].colour, linewidth=1.2, label="real alone")
            colour = ARMS[SWEPT].colour  # of volumes too
            ax.vlines(shares, sweep["ci_low"], sweep["ci_high"], color=colour, linewidth=1)
            ax.plot(shares, sweep["value"], "o-", color=colour, markersize=4, linewidth=1, label=label)
            ax.set_xscale("log", base=2)
            ax.set(title=metric, xlim=ends)
            ax.set_xticks(shares, [f"{share:g}" for share in shares])
            ax.set_xticks([], minor=True)
        axes[0].set_ylabel("mean over seeds, 95% interval")
        axes[1].set_xlabel("synthetic images for each real one")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=8)


def _by_share(scores: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The scores of `real` and of the shares, with a column `share`, in its order; metrics in theirs."""
    shares = scores["arm"].map(share_of)
    if not {True, False} <= set(shares.dropna() == 0):
        found = ", ".join(scores["arm"].unique())
        raise DataError(f"scores: arm: found {found}, allowed: real and at least one real+synthetic-x<share>")
    chosen = scores.assign(share=shares)[shares.notna() & scores["metric"].isin(metrics)]
    return chosen.sort_values(
        ["share", "metric"],
        key=lambda column: column.map(metrics.index) if column.name == "metric" else column,
        kind="stable",
        ignore_index=True,
    )
