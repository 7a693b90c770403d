"""How long a step takes where it was not timed: by its operations, and how fast this machine multiplies matrices.

A dry run has no time to load torch and to build networks. Their operations were counted once (`calibration`, on torch's
device without memory) and follow laws of edge and width; how well they foretell is said in docs/forecast.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scangan.config import Classifier, CtSgan, NoduleNetwork, SimpleCtGan, Voi
from scangan.forecast.paces import FILE, Pace, Paces

FACTOR = 3  # within which hours by counted operations are right

# Seconds of a step that no operation explains, and operations a second of an H100; seconds until a job has loaded what
# it needs, and for the features of an image.
STEP_ON_GPU, GPU_SPEED = 0.03, 3.5e13
STEP = 0.02
STARTS = {False: 1.2, True: 3.5}
START_ON_GPU = 10.0
FEATURES = 0.03
PENALTY = 1.3  # a step with a gradient's penalty beside one without
MATRICES, PRODUCTS = 64, 64  # of 64 x 64 numbers: no larger, or its library shares one among threads


@dataclass(frozen=True)
class Law:
    """Operations of a step for one image or volume: so many at this edge and width, else by powers of both.

    fixed: those that depend on neither. speed: at which a core does them, beside that of products of matrices.
    """

    operations: float
    edge: int
    width: int = 1
    of_edge: float = 2.0
    of_width: float = 1.93
    fixed: float = 0.0
    speed: float = 0.5

    def at(self, edge: int, width: int | None) -> float:
        by_width = ((width or self.width) / self.width) ** self.of_width
        return self.fixed + self.operations * (edge / self.edge) ** self.of_edge * by_width


NETWORKS = {
    "dcgan32": Law(7.5e9, 32, 128),
    "dcgan224": Law(4.3e11, 256, 192),
    "simple_ct_gan": Law(4.2e9, 40, 256),
    "pggan": Law(9.7e10, 64, 512, 0.75, speed=0.3),
    "projected_gan": Law(1.0e10, 256, of_width=0, fixed=1.4e9),  # most of it in the network of its features
    "ct_sgan": Law(2.4e10, 224, 64, 2.2),  # of a slice of a slab
    "gan3d": Law(1.9e11, 128, 32, 3.2, speed=0.3),
    "nodule_cgan": Law(3.0e11, 64, 64, 3.0, speed=0.2),
    # Classifiers, with the large stem where they have two. EfficientNet's count as if each map saw all maps before it.
    "resnet50": Law(2.4e10, 224),
    "densenet169": Law(2.0e10, 224),
    "efficientnet-lite0": Law(3.2e10, 224, speed=1.2),
    "squeezenet3d": Law(1.2e11, 224, 64, 3.2, speed=0.25),
}
PROJECTED_SLICES = Law(9.3e9, 112, of_edge=1.45)  # of ct_sgan's discriminator, where it looks through features
SMALL_STEM = {"resnet50": 16, "squeezenet3d": 8}
KERNEL = 3  # of simple_ct_gan


class CountedPaces(Paces):
    """Those that a file holds; all others by their operations. has_counted: whether there were any of these."""

    def __init__(self, on_gpu: bool, file: Path = FILE) -> None:
        super().__init__(file)
        self.on_gpu, self.has_counted = on_gpu, False

    @cached_property
    def speed(self) -> float:
        """Operations a second of a core in products of matrices."""
        return _speed_of_products()

    def _measure(self, kind: str, *told: Any) -> Pace:
        self.has_counted = True
        match kind:
            case "start":
                return Pace(START_ON_GPU if self.on_gpu and told[0] else STARTS[told[0]])
            case "features":
                return Pace(FEATURES)
        operations = operations_of(kind, *told)
        if self.on_gpu:
            return Pace(STEP_ON_GPU + operations / GPU_SPEED, scaled=True)
        return Pace(STEP + operations / (NETWORKS[_network_of(kind, *told)].speed * self.speed), scaled=True)


def operations_of(kind: str, *told: Any) -> float:
    """Floating-point operations of a step, as the calibration counts them; asked as `Paces._measure` is."""
    name = _network_of(kind, *told)
    law = NETWORKS[name]
    match kind, told:
        case "classifier", (Classifier() as classifier, _, edge):
            small = SMALL_STEM.get(name, 1) if classifier.stem == "small" else 1
            seen = min(edge, classifier.centre_crop or edge)
            return law.at(seen, classifier.base_width) * small * classifier.batch_size
        case "nodule_network", (_, NoduleNetwork() as network, Voi() as voi):
            return law.at(voi.size, network.base_width) * network.batch_size
    network, edge = told[0], told[-1]
    each = law.at(edge, network.base_width)
    if isinstance(network, SimpleCtGan):
        each *= ((network.kernel_size or KERNEL) / KERNEL) ** 2
    if isinstance(network, CtSgan):
        each *= network.slabs.depth
        if network.discriminator == "projected":
            each += PROJECTED_SLICES.at(edge, None)
    if network.gradient_penalty.kind != "none":
        each *= PENALTY
    return each * network.batch_size * (1 + network.discriminator_steps) / 2


def _network_of(kind: str, *told: Any) -> str:
    """Whose law it is."""
    match kind, told:
        case "classifier", (Classifier() as classifier, *_):
            is_light = classifier.network_of_images == "efficientnet-lite0"
            return "efficientnet-lite0" if is_light else classifier.backbone
        case "nodule_network", _:
            return "nodule_cgan"
    return told[0].model


def _speed_of_products() -> float:
    """Operations a second of a core in products of matrices of single precision."""
    import numpy as np  # every plan of the workflow loads this module

    matrices = np.ones((MATRICES, 64, 64), np.float32)
    matrices @ matrices  # loads the library
    began = time.thread_time()
    for _ in range(PRODUCTS):
        matrices @ matrices
    return PRODUCTS * MATRICES * 2 * 64**3 / (time.thread_time() - began)
