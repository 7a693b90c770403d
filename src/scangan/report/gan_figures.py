"""Figures of a generative network: its images beside real ones, and its training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from scangan.data.store import ImageSet
from scangan.facts import Facts
from scangan.report.style import BLUE, VERMILION, house_figure

SHOWN = 100
SMOOTHING = 50  # a curve is the running mean over a fiftieth of its points


def images_by_class(image_set: ImageSet, seed: int = 0) -> dict[str, np.ndarray]:
    """Class -> some of its images, at most `SHOWN`, [N, C, H, W], in random order; of volumes their middle planes."""
    order = np.random.default_rng(seed).permutation(len(image_set))
    labels = image_set.manifest.label.to_numpy()[order]
    chosen = {label: image_set.select(order[labels == label][:SHOWN]) for label in sorted(set(labels))}
    return {
        label: middle_planes(each.images) if each.is_of_volumes else np.asarray(each.images)
        for label, each in chosen.items()
    }


def middle_planes(volumes: Iterable[np.ndarray]) -> np.ndarray:
    """The middle axial, coronal and sagittal plane of each volume [C, S, S, S], beside each other: [N, C, S, 3 S]."""
    planes = []
    for volume in volumes:
        middle = volume.shape[-1] // 2
        # Upright: the head is the last slice.
        coronal, sagittal = volume[:, ::-1, middle], volume[:, ::-1, :, middle]
        planes.append(np.concatenate([volume[:, middle], coronal, sagittal], axis=2))
    return np.stack(planes)


def side_by_side(
    columns: dict[str, dict[str, np.ndarray]],
    path: str | Path,
    facts: Facts,
    caption: str = "",
    edge: int = 5,
) -> None:
    """For each class a row, for each kind of images (real, synthetic, those of a network) a column of edge x edge, or
    of less where there are fewer.

    columns: title -> class -> images [N, C, H, W] in [0, 1]; the first ones are shown: shuffle them.
    """
    labels = list(next(iter(columns.values())))
    with house_figure(path, facts, (3.2 * len(columns), 3.2 * len(labels)), caption) as figure:
        axes = figure.subplots(len(labels), len(columns), squeeze=False)
        for row, label in zip(axes, labels, strict=True):
            for ax, (title, images) in zip(row, columns.items(), strict=True):
                shown = min(edge, max(1, math.ceil(math.sqrt(len(images[label])))))
                ax.imshow(_mosaic(images[label], shown), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                ax.set_title(f"{label}, {title}")
                ax.axis("off")


def kept_and_discarded(image_set: ImageSet, verdicts: pd.DataFrame, path: str | Path, facts: Facts) -> None:
    """Synthetic images that screening kept beside those that it discarded, chosen at random; none where there are none.

    image_set: some of the images that the verdicts (`metrics.screening.screen`) are of. After Han et al., figure 5.
    """
    known = verdicts.set_index("image_id").loc[image_set.manifest["image_id"]]
    # What is more than was asked for is not discarded as unrealistic.
    discarded = (~known["kept"] & (known["decided_by"] != "surplus")).to_numpy()
    columns = {}
    for title, chosen in (("kept", known["kept"].to_numpy()), ("discarded", discarded)):
        none = dict.fromkeys(sorted(set(image_set.manifest["label"])), image_set.images[:0])
        columns[title] = none | images_by_class(image_set.select(chosen))
    side_by_side(columns, path, facts)


def training_curves(histories: dict[str, pd.DataFrame], path: str | Path, facts: Facts, caption: str = "") -> None:
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
    with house_figure(path, facts, (0.6 + 3.2 * len(histories), 4.8), caption) as figure:
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


def _mosaic(images: np.ndarray, edge: int) -> np.ndarray:
    """The first images [N, C, H, W] as one picture [H', W', 3 or 1], a white pixel or more between them.

    Of squares edge x edge; of wider ones fewer beside each other, so that the picture is about square.
    """
    channels, height, width = images.shape[1:]
    gap, columns = max(1, height // 32), max(1, round(edge * height / width))
    picture = np.ones((edge * (height + gap) - gap, columns * (width + gap) - gap, channels), dtype=np.float32)
    for number, image in enumerate(images[: edge * columns]):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        picture[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return picture
