"""A study for a folder: the largest of a few that fits into the hours that are given for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from scangan.check.folder import Seen
from scangan.config import CtSgan, Gan3d, ProjectedGan

Settings = dict[str, Any]

BATCH = 16  # images a step, of generators and classifiers
FEWEST_FOLDS, MOST_FOLDS = 3, 5  # no more than the rarer class has patients
FEW_PATIENTS = 100  # of the rarer class: below, an answer tests each of them once, in folds
LEAST_DRAWN, MOST_DRAWN = 64, 1000  # synthetic images a class
HEALTHY = (
    r"(^|[_-])(no|non|not|neg|negative|normal|healthy|controls?|without|absent|benign|clear|clean|plain|unremarkable|"
    r"unaffected|0)([_-]|$)|^non"
)
# Networks of volumes, narrower than the papers'.
GAN3D: Settings = {"model": "gan3d", "base_width": 16, "batch_size": 8}
CT_SGAN: Settings = {
    "model": "ct_sgan",
    "base_width": 16,
    "slabs": {"depth": 8, "slices": 4, "told_position": True},
    "loss": "wasserstein",
    "gradient_penalty": {"kind": "dragan", "weight": 10},
    "batch_size": 4,
    "beta1": 0,
    "beta2": 0.9,
}
# Of a training of hundreds of steps, after which a network of the usual rates has hardly begun.
QUICK: Settings = {"learning_rate_generator": 1e-3, "learning_rate_discriminator": 5e-4, "ema_decay": 0.95}
VOLUME_CLASSIFIER: Settings = {"backbone": "squeezenet3d", "base_width": 16, "stem": "small"}
VOLUMES_AT_ONCE = 8
ARMS = ["real", "real+classical", "real+synthetic", "real+classical+synthetic"]


@dataclass(frozen=True)
class Scale:
    """How much a study is given. gan_steps: of a class. answers: whether its numbers may bear an answer.

    unit: of image_size, pixels or voxels.
    """

    image_size: int
    gan_steps: int
    gan_seeds: int
    classifier_steps: int
    classifier_seeds: int
    answers: bool
    unit: str = "pixels"

    def describe(self) -> str:
        trainings = f"{self.gan_seeds} training{'s' * (self.gan_seeds > 1)}"
        return (
            f"{self.image_size} {self.unit}, {self.gan_steps} steps of the generator a class in {trainings}, "
            f"classifiers of {self.classifier_steps} steps in {self.classifier_seeds * self.gan_seeds} trainings an arm"
        )


# From an answer to a trial, which shows only that all of it runs.
SCALES = (
    Scale(128, 6000, 3, 4000, 5, True),
    Scale(64, 4000, 3, 2000, 5, True),
    Scale(64, 2500, 3, 1000, 3, True),
    Scale(64, 1500, 1, 1000, 3, False),
    Scale(64, 600, 1, 400, 2, False),
    Scale(32, 600, 1, 300, 2, False),
    Scale(32, 250, 1, 200, 2, False),
    Scale(32, 80, 1, 60, 2, False),
)


# The same of volumes, whose edges are those of `gan3d`, and from 56 voxels on of `ct_sgan`.
VOLUME_SCALES = (
    Scale(64, 6000, 3, 2000, 5, True, "voxels"),
    Scale(32, 4000, 3, 1000, 5, True, "voxels"),
    Scale(32, 2500, 3, 600, 3, True, "voxels"),
    Scale(32, 1500, 1, 400, 3, False, "voxels"),
    Scale(32, 600, 1, 200, 2, False, "voxels"),
    Scale(32, 250, 1, 100, 2, False, "voxels"),
    Scale(32, 80, 1, 40, 2, False, "voxels"),
)


def scales_for(seen: Seen) -> list[Scale]:
    """The scales, each at the largest edge that a network has and the files are not smaller than, or at its least."""
    of_volumes = seen.data["reader"] == "volume_folder"
    scales, sizes = (VOLUME_SCALES, Gan3d.IMAGE_SIZES) if of_volumes else (SCALES, ProjectedGan.IMAGE_SIZES)
    known = [size for size in sizes if size <= (seen.edge or math.inf)] or [min(sizes)]
    fitted = [replace(scale, image_size=max(size for size in known if size <= scale.image_size)) for scale in scales]
    return list(dict.fromkeys(fitted))


def study_of(seen: Seen, name: str, scale: Scale) -> Settings:
    """The configuration of a study: `data_roots` and `studies`."""
    data = {"reader": seen.data["reader"], "root": name, **seen.data, "image_size": scale.image_size}
    split = dict(seen.split) or {"train": 0.6, "validation": 0.2, "test": 0.2}
    rarer = min(seen.patients.values())
    if scale.answers and not seen.split and rarer < FEW_PATIENTS:
        split = {"method": "folds", "folds": max(FEWEST_FOLDS, min(MOST_FOLDS, rarer))}
    trained_on = max(seen.images.values()) * (1 if seen.split else 0.8 if "folds" in split else 0.6)
    gan, network = _network(seen, scale)
    batch = network.get("batch_size", BATCH)
    epochs = max(1, round(scale.gan_steps * batch / max(trained_on, batch)))
    drawn = max(LEAST_DRAWN, min(round(max(seen.images.values()) * 0.6), MOST_DRAWN))
    study: Settings = {
        "data": data,
        "split": split,
        "gan": {gan: network | {"epochs": epochs, "seeds": scale.gan_seeds}},
        "synthesis": {"images_per_class": drawn},
    }
    of_volumes = seen.data["reader"] == "volume_folder"
    if of_volumes:
        study["synthesis"]["batch_size"] = VOLUMES_AT_ONCE
    if len(seen.images) > 1:
        study["synthesis"] = {"gan": gan, **study["synthesis"]}
        study["classifier"] = {
            "positive": positive_of(seen),
            **(VOLUME_CLASSIFIER if of_volumes else {"pretrained": "efficientnet-lite0"}),
            "arms": ARMS,
            "steps": scale.classifier_steps,
            "seeds": scale.classifier_seeds,
        }
    if len(seen.images) > 2:  # one class is no more positive than the others
        study["evaluation"] = {"primary": "macro_auc"}
    return {
        "data_roots": {name: str(seen.kind.root.resolve())},
        "keep_classifiers": True,  # a few MB each, beside the hours of their training
        "studies": {name: study},
    }


def positive_of(seen: Seen) -> str:
    """The first class whose name does not sound healthy; the first one, if all do."""
    return min(seen.images, key=_looks_healthy)


def _network(seen: Seen, scale: Scale) -> tuple[str, Settings]:
    """The name of the network that suits, and its settings."""
    quick = {} if scale.answers else QUICK
    if seen.data["reader"] != "volume_folder":
        return "projected_gan", {"model": "projected_gan"} | quick
    if scale.image_size in CtSgan.IMAGE_SIZES:
        return "ct_sgan", CT_SGAN | quick
    return "gan3d", GAN3D | quick


def name_of(folder: Path) -> str:
    """A folder's name as that of a study, which may stand in paths."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", folder.resolve().name).strip("_").lower()
    return f"my_{name}" if name else "my_study"


def choose(
    scales: Sequence[Scale], hours_of: Callable[[Scale], float], most_hours: float
) -> tuple[Scale, dict[Scale, float]]:
    """The largest scale that fits into the hours, else the smallest; and the hours of all that were looked at."""
    found: dict[Scale, float] = {}
    for scale in reversed(scales):
        found[scale] = hours_of(scale)
        if found[scale] > most_hours and len(found) > 1:
            break
    fits = [scale for scale, hours in found.items() if hours <= most_hours]
    return (fits[-1] if fits else scales[-1]), found


def as_yaml(config: Settings) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)


def _looks_healthy(label: str) -> bool:
    return re.search(HEALTHY, label, re.IGNORECASE) is not None
