"""Figures of the classifiers: ROC curves and reliability."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from scangan.facts import Facts
from scangan.metrics.classifier_metrics import BINS, calibration_bins
from scangan.report.style import house_figure, lines_of


def roc_curves(predictions: dict[str, list[pd.DataFrame]], path: str | Path, facts: Facts) -> None:
    """Test-set ROC curve of each arm: mean over the trainings, and a band from the lowest to the highest of them.

    predictions: arm -> one table a training, as for `metrics.scores.score_arms`; each fold of one has a curve
    of its own. facts: with the class `positive`.
    """
    false_positive = np.linspace(0, 1, 201)
    with house_figure(path, facts, (8.2, 4.4)) as figure:
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
        lines = lines_of(predictions)
        for arm, tables in predictions.items():
            curves, areas, line = [], [], lines[arm]
            folds = [part for table in tables for _, part in table.groupby(table.get("fold", 0 * table.index))]
            for label, probability in _test_cases(folds, facts.positive):
                x, y, _ = roc_curve(label, probability, drop_intermediate=False)
                curves.append(np.interp(false_positive, x, y))
                areas.append(roc_auc_score(label, probability))
            low, high = np.min(curves, axis=0), np.max(curves, axis=0)
            ax.fill_between(false_positive, low, high, color=line.colour, alpha=0.12, linewidth=0)
            mean = np.concatenate([[0], np.mean(curves, axis=0)])
            named = f"{arm}, AUC {np.mean(areas):.2f}"
            ax.plot([0, *false_positive], mean, color=line.colour, linestyle=line.dashes, label=named)
        ax.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
        ax.set_title("Mean over trainings; band: lowest to highest")
        figure.legend(loc="outside right center")  # there may be many curves


def reliability(predictions: dict[str, list[pd.DataFrame]], path: str | Path, facts: Facts) -> None:
    """Reliability diagram of the test set, a panel an arm, all seeds together; arguments as of `roc_curves`.

    Observed share of positives in each of ten bins of the predicted probability; below, the predictions in each bin.
    """
    columns = len(predictions)
    with house_figure(path, facts, (0.4 + 2.1 * columns, 3.4)) as figure:
        lines = lines_of(predictions)
        axes = figure.subplots(2, columns, sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False)
        for column, (arm, tables) in enumerate(predictions.items()):
            label, probability = (
                np.concatenate(parts) for parts in zip(*_test_cases(tables, facts.positive), strict=True)
            )
            bins = (
                pd.DataFrame({"label": label, "probability": probability}).groupby(calibration_bins(probability)).mean()
            )
            curve, histogram = axes[:, column]
            colour, dashes = lines[arm]
            curve.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
            style = {"color": colour, "linestyle": dashes, "markersize": 3.5, "linewidth": 1.2, "clip_on": False}
            curve.plot(bins["probability"], bins["label"], marker="o", **style)
            curve.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), title=arm.replace(":", ":\n"))
            histogram.hist(probability, bins=np.linspace(0, 1, BINS + 1), color=colour, alpha=0.6)
            histogram.set_xlabel("predicted")
        axes[0, 0].set_ylabel("observed")
        axes[1, 0].set_ylabel("predictions")


def _test_cases(tables: list[pd.DataFrame], positive: str | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels (bool) and probabilities of the test images, seed by seed."""
    for table in tables:
        test = table[table["split"] == "test"]
        yield (test["label"] == positive).to_numpy(), test["probability"].to_numpy()
