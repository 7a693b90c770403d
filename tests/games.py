"""A small game of each generative network, on any device: what is right on a CPU must be right on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scangan.config import CtSgan, ImageGan, NoduleNetwork, ProjectedGan, Voi, VolumeGan
from scangan.models.catalogue import build, find_model, network_options
from scangan.training.adversarial import AdversarialTraining, ImageTraining, ProjectedTraining
from scangan.training.conditional import ConditionalTraining
from scangan.training.nodules import NoduleTraining, Pairs, nodule_network_options
from scangan.training.volumes import VolumeTraining, make_slab_training

WGAN_GP = {"kind": "wgan-gp", "weight": 10}
AUGMENTED = {
    "random_crop": [0.5, 1.0],
    "horizontal_flip": True,
    "diffaugment": {
        "kinds": ["color", "translation", "cutout"],
        "probability": 0.5,
        "adaptive_target": 0.2,
        "adaptive_images": 150,
    },
}
# Kind of network, edge of its images, and settings beside the rest.
IMAGE_GAMES: dict[str, tuple[int, dict[str, Any]]] = {
    "dcgan32": (32, {"base_width": 8, "gradient_penalty": WGAN_GP}),
    "dcgan224": (64, {"base_width": 4, **AUGMENTED}),
    "simple_ct_gan": (40, {"base_width": 4, "optimizer": "rmsprop", "beta2": 0.9, "weight_decay": 1e-5}),
    "pggan": (16, {"base_width": 8, "loss": "wasserstein", "gradient_penalty": WGAN_GP, "drift": 1e-3}),
    "projected_gan": (32, {"base_width": 8, "pixel_discriminator": True}),
}
SLABS = {"depth": 4, "slices": 2, "constant_noise": 8, "slice_noise": 4, "slice_code": 8}
VOLUME_GAMES: dict[str, dict[str, Any]] = {
    "ct_sgan": {"model": "ct_sgan", "slabs": SLABS, "gradient_penalty": {"kind": "dragan", "weight": 10}},
    "ct_sgan_projected": {"model": "ct_sgan", "slabs": SLABS, "discriminator": "projected"},
    "gan3d": {"model": "gan3d", "image_size": 16},
}
WINDOW = (-1000.0, 400.0)
VOI = Voi(size=16, spacing_mm=2.0, margin_mm=4.0, diameters_mm=(4, 24))
IMAGES, EPOCHS, BATCH = 12, 4, 4
SAMPLES = 2  # moments at which a network of one class draws some

Game = Callable[..., AdversarialTraining]


def _image_game(model: str, fabric: Any, precision: str, images: int = IMAGES) -> AdversarialTraining:
    edge, values = IMAGE_GAMES[model]
    values = {"epochs": EPOCHS, "batch_size": BATCH, "sample_rows": SAMPLES, "precision": precision} | values
    values = {"model": model} | values
    settings = ImageGan.of_kind(values)
    shown = np.random.default_rng(0).random((images, 1, edge, edge), dtype=np.float32)
    generator, discriminator = build(model, 1, edge, **network_options(settings))
    low, high = output_range = find_model(model).OUTPUT_RANGE
    kind = ProjectedTraining if model == "projected_gan" else ImageTraining
    return kind(fabric, generator, discriminator, torch.from_numpy(shown) * (high - low) + low, output_range, settings)


def _volume_game(name: str, fabric: Any, precision: str) -> AdversarialTraining:
    values = {"base_width": 4, "epochs": EPOCHS, "batch_size": 2, "sample_rows": SAMPLES, "precision": precision}
    settings = VolumeGan.of_kind(values | VOLUME_GAMES[name])
    edge = 56 if isinstance(settings, CtSgan) else 16
    generator, discriminator = build(settings.model, 1, edge, **network_options(settings))
    rng = np.random.default_rng(0)
    if isinstance(settings, CtSgan):
        volumes = torch.from_numpy(rng.integers(-1000, 400, (6, edge, edge, edge)).astype(np.int16))
        return make_slab_training(fabric, generator, discriminator, volumes, WINDOW, settings)
    scaled = torch.from_numpy(rng.random((6, 1, edge, edge, edge), dtype=np.float32)) * 2 - 1
    return VolumeTraining(fabric, generator, discriminator, scaled, find_model(settings.model).OUTPUT_RANGE, settings)


def _conditional_game(fabric: Any, precision: str) -> AdversarialTraining:
    edge, values = IMAGE_GAMES["projected_gan"]
    values = {"model": "projected_gan", "epochs": EPOCHS, "batch_size": BATCH, "precision": precision} | values
    settings = ProjectedGan.model_validate(values | {"conditional": True, "sample_rows": SAMPLES})
    shown = torch.from_numpy(np.random.default_rng(0).random((IMAGES, 1, edge, edge), dtype=np.float32)) * 2 - 1
    networks = build("projected_gan", 1, edge, **network_options(settings) | {"classes": 2})
    classes = (torch.arange(IMAGES) >= IMAGES // 3).long()
    return ConditionalTraining(fabric, *networks, shown, (-1.0, 1.0), settings, classes, ["few", "many"])


def _nodule_game(kind: str, fabric: Any, precision: str) -> AdversarialTraining:
    settings = NoduleNetwork(base_width=4, steps=12, batch_size=4, zoom=1.2, sample_rows=SAMPLES, precision=precision)
    rng = np.random.default_rng(0)
    vois, healthy = (rng.normal(-800, 100, (n, 16, 16, 16)).astype(np.float32) for n in (12, 7))
    radii_mm, healthy_radii_mm = (rng.uniform(4, 10, n).astype(np.float32) for n in (12, 7))
    others = (healthy, healthy_radii_mm, np.ones_like(vois)) if kind == "injector" else ()
    networks = build("nodule_cgan", 1, 16, **nodule_network_options(kind, settings, VOI))
    return NoduleTraining(fabric, *networks, Pairs(vois, vois, radii_mm, *others), settings, VOI)


GAMES: dict[str, Game] = {
    **{name: partial(_image_game, name) for name in IMAGE_GAMES},
    **{name: partial(_volume_game, name) for name in VOLUME_GAMES},
    "projected_gan of two classes": _conditional_game,
    **{kind: partial(_nodule_game, kind) for kind in ("injector", "eraser")},
}


def begin(name: str, fabric: Any, precision: str = "32-true") -> AdversarialTraining:
    """The game of that name, its networks drawn from one seed; nothing is done yet."""
    torch.manual_seed(0)
    return GAMES[name](fabric, precision)


def gradients(training: AdversarialTraining) -> dict[str, Tensor]:
    """Those that the last step left, of both networks."""
    return {
        f"{network}.{name}": parameter.grad
        for network in ("generator", "discriminator")
        for name, parameter in getattr(training, network).named_parameters()
        if parameter.grad is not None
    }
