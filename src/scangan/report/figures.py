"""The figures: each says, in its footer, from which data and at what scale it was made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from scangan.data.store import ImageSet, atomic
from scangan.metrics.classification import BINS, calibration_bins

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
# Okabe and Ito's palette, told apart by colour-blind readers too; an arm keeps its colour in every figure.
COLOURS = {
    "real": "#000000",
    "real+classical": "#E69F00",
    "synthetic": "#56B4E9",
    "real+synthetic": "#009E73",
    "synthetic-then-real": "#D55E00",
}
BLUE, VERMILION = "#0072B2", "#D55E00"
SMOOTHING = 50  # a curve is the running mean over a fiftieth of its points


def real_and_synthetic(
    real: dict[str, np.ndarray],
    synthetic: dict[str, np.ndarray],
    path: str | Path,
    data: str,
    scale: str,
    caption: str = "",
    edge: int = 5,
) -> None:
    """For each class, edge x edge real images beside as many synthetic ones.

    real, synthetic: class -> images [N, C, H, W] in [0, 1]; the first ones are shown: shuffle them.
    """
    with _figure(path, data, scale, (6.4, 3.2 * len(real)), caption) as figure:
        axes = figure.subplots(len(real), 2, squeeze=False)
        for row, label in zip(axes, real, strict=True):
            for ax, title, images in zip(row, ("real", "synthetic"), (real[label], synthetic[label]), strict=True):
                ax.imshow(_mosaic(images, edge), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                ax.set_title(f"{label}, {title}")
                ax.axis("off")


def training_curves(
    histories: dict[str, pd.DataFrame], path: str | Path, data: str, scale: str, caption: str = ""
) -> None:
    """Losses and the discriminator's outputs over the epochs, a column for each network.

    histories: label (`dcgan32/haemorrhage`) -> `history.csv`: step, epoch, loss_d, loss_g, penalty, d_real, d_fake,
    images_per_second.
    """
    panels = (
        (
            "loss",
            {"loss_d": ("discriminator", BLUE), "loss_g": ("generator", VERMILION), "penalty": ("penalty", "0.5")},
        ),
        ("discriminator's output", {"d_real": ("real images", BLUE), "d_fake": ("generated images", VERMILION)}),
    )
    with _figure(path, data, scale, (0.6 + 3.2 * len(histories), 4.8), caption) as figure:
        axes = figure.subplots(2, len(histories), sharex="col", sharey="row", squeeze=False)
        for column, (label, history) in enumerate(histories.items()):
            window = max(1, len(history) // SMOOTHING)
            for ax, (title, curves) in zip(axes[:, column], panels, strict=True):
                for name, (legend, colour) in curves.items():
                    if history[name].any():
                        ax.plot(history["epoch"], history[name], color=colour, alpha=0.2, linewidth=0.6)
                        smooth = history[name].rolling(window, min_periods=1, center=True).mean()
                        ax.plot(history["epoch"], smooth, color=colour, label=legend, linewidth=1.4)
                if column == 0:
                    ax.set_ylabel(title)
                    ax.legend()
            rate = history["images_per_second"].median()
            axes[0, column].set_title(f"{label} ({rate:.0f} images per second)")
            axes[1, column].set_xlabel("epoch")


def roc_curves(
    predictions: dict[str, list[pd.DataFrame]],
    positive: str,
    path: str | Path,
    data: str,
    scale: str,
    caption: str = "",
) -> None:
    """Test-set ROC curve of each arm: mean over the seeds, and a band from the lowest to the highest of them.

    predictions: arm -> one table a seed, as for `metrics.classification.score_arms`.
    """
    false_positive = np.linspace(0, 1, 201)
    with _figure(path, data, scale, (4.4, 4.4), caption) as figure:
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
        for arm, tables in predictions.items():
            curves, areas = [], []
            for label, probability in _test_cases(tables, positive):
                x, y, _ = roc_curve(label, probability, drop_intermediate=False)
                curves.append(np.interp(false_positive, x, y))
                areas.append(roc_auc_score(label, probability))
            ax.fill_between(
                false_positive,
                np.min(curves, axis=0),
                np.max(curves, axis=0),
                color=COLOURS[arm],
                alpha=0.12,
                linewidth=0,
            )
            mean = np.concatenate([[0], np.mean(curves, axis=0)])
            ax.plot([0, *false_positive], mean, color=COLOURS[arm], label=f"{arm}, AUC {np.mean(areas):.2f}")
        ax.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
        ax.set_title("Mean over seeds; band: lowest to highest seed")
        ax.legend(loc="lower right")


def reliability(
    predictions: dict[str, list[pd.DataFrame]],
    positive: str,
    path: str | Path,
    data: str,
    scale: str,
    caption: str = "",
) -> None:
    """Reliability diagram of the test set, a panel an arm, all seeds together.

    Observed share of positives in each of ten bins of the predicted probability; below, the predictions in each bin.
    """
    columns = len(predictions)
    with _figure(path, data, scale, (0.4 + 2.1 * columns, 3.4), caption) as figure:
        axes = figure.subplots(2, columns, sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False)
        for column, (arm, tables) in enumerate(predictions.items()):
            label, probability = (np.concatenate(parts) for parts in zip(*_test_cases(tables, positive), strict=True))
            bins = (
                pd.DataFrame({"label": label, "probability": probability}).groupby(calibration_bins(probability)).mean()
            )
            curve, histogram = axes[:, column]
            curve.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
            style = {"color": COLOURS[arm], "markersize": 3.5, "linewidth": 1.2, "clip_on": False}
            curve.plot(bins["probability"], bins["label"], "o-", **style)
            curve.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), title=arm)
            histogram.hist(probability, bins=np.linspace(0, 1, BINS + 1), color=COLOURS[arm], alpha=0.6)
            histogram.set_xlabel("predicted")
        axes[0, 0].set_ylabel("observed")
        axes[1, 0].set_ylabel("predictions")


@contextmanager
def _figure(path: str | Path, data: str, scale: str, size: tuple[float, float], caption: str) -> Iterator[Figure]:
    """A figure in the house style, with its footer, written atomically in the format of the path's ending."""
    with rc_context(STYLE):
        figure = Figure(figsize=size)
        yield figure
        footer = f"{data} data, {scale} scale" + (f"; {caption}" if caption else "")
        figure.supxlabel(footer, fontsize=7, color="0.35", x=0.01, ha="left")
        with atomic(path) as temporary:
            figure.savefig(temporary)


def _mosaic(images: np.ndarray, edge: int) -> np.ndarray:
    """The first edge x edge images [N, C, H, W] as one picture [H', W', 3 or 1], a white pixel or more between them."""
    channels, height, width = images.shape[1:]
    gap = max(1, width // 32)
    picture = np.ones((edge * (height + gap) - gap, edge * (width + gap) - gap, channels), dtype=np.float32)
    for number, image in enumerate(images[: edge**2]):
        top, left = (number // edge) * (height + gap), (number % edge) * (width + gap)
        picture[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return picture


def _test_cases(tables: list[pd.DataFrame], positive: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels (bool) and probabilities of the test images, seed by seed."""
    for table in tables:
        test = table[table["split"] == "test"]
        yield (test["label"] == positive).to_numpy(), test["probability"].to_numpy()


def images_by_class(image_set: ImageSet, seed: int = 0) -> dict[str, np.ndarray]:
    """Class -> its images [N, C, H, W], in random order."""
    order = np.random.default_rng(seed).permutation(len(image_set))
    shuffled = image_set.select(order)
    return {label: shuffled.images[shuffled.manifest.label == label] for label in sorted(set(shuffled.manifest.label))}
