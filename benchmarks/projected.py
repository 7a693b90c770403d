"""The network for few images: images a second of our engine beside the plainest loop of the same networks.

The plain loop has what our networks spare: pixels that are repeated and then convolved, features with their batch
norms, in PyTorch's usual layout, all of them with gradients, and three passes through them a step in place of two.
Rounds are interleaved, so on a machine that others use too the ratio means more than the rates.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import glu, interpolate, relu

from scangan.config import ProjectedGan
from scangan.models.backbones import build_classifier
from scangan.models.projected_gan import TAPS, Discriminator, EnlargingConv2d, GatedNorm, Generator
from scangan.training.adversarial import make_fabric, train_gan
from scangan.training.diffaugment import DiffAugment

BATCH, STEPS, ROUNDS = 16, 4, 3
KINDS = ["color", "translation", "cutout"]


class PlainConvolution(nn.Module):
    """In place of `EnlargingConv2d`."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach())

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.conv2d(interpolate(maps, scale_factor=2), self.weight, padding=1)


class PlainGate(nn.Module):
    """In place of `GatedNorm`."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, maps: Tensor) -> Tensor:
        return glu(self.norm(maps), 1)


class PlainFeatures(nn.Module):
    """In place of `FrozenFeatures`: the package's network as it is, in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = build_classifier("efficientnet-lite0", "imagenet", "imagenet", 1, 96, 0.0).eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        network = self.classifier.network
        maps = ((images + 1) / 2 - self.classifier.mean) / self.classifier.std
        maps, seen = nn.functional.relu6(network._bn0(network._conv_stem(maps))), []
        for number, block in enumerate(network._blocks[: TAPS[-1] + 1]):
            maps = block(maps)
            seen += [maps] if number in TAPS else []
        return seen


def plain_networks(size: int) -> tuple[nn.Module, nn.Module]:
    """The same networks, computed plainly."""
    generator, discriminator = Generator(image_size=size), Discriminator(image_size=size)
    for module in list(generator.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, EnlargingConv2d):
                setattr(module, name, PlainConvolution(child.weight))
            elif isinstance(child, GatedNorm):
                setattr(module, name, PlainGate(child.norm))
    discriminator.features = PlainFeatures()
    return generator, discriminator


def plain_images_a_second(images: Tensor, device: torch.device) -> float:
    """Of the plainest loop: hinge loss, augmentation, float32, nothing else."""
    torch.manual_seed(0)
    generator, discriminator = (network.to(device) for network in plain_networks(images.shape[-1]))
    learns = [generator.parameters(), discriminator.heads.parameters()]
    optimizers = [torch.optim.Adam(parameters, lr=2e-4, betas=(0.0, 0.99)) for parameters in learns]
    augment = DiffAugment(KINDS, (-1.0, 1.0))
    started = 0.0
    for step in range(STEPS + 2):
        if step == 2:  # the first ones also load and tune kernels
            if device.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
        real = images[torch.randint(0, len(images), (BATCH,))].to(device)
        fake = generator(generator.draw_latent(BATCH, torch.default_generator).to(device))
        d_real, d_fake = discriminator(augment(real)), discriminator(augment(fake.detach()))
        optimizers[1].zero_grad()
        (relu(1 - d_real).mean() + relu(1 + d_fake).mean()).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (-discriminator(augment(fake)).mean()).backward()
        optimizers[0].step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return STEPS * BATCH / (time.perf_counter() - started)


def our_images_a_second(images: Tensor) -> float:
    """Of the engine, with averaging, history and samples as always."""
    settings = ProjectedGan(
        model="projected_gan", batch_size=BATCH, epochs=STEPS + 2, sample_rows=1, pixel_discriminator=False
    )
    trained = train_gan(images.numpy() / 2 + 0.5, settings, make_fabric(settings.precision, devices=1))
    return STEPS / float((1 / trained.history.images_per_second.iloc[2:]).sum())


def compare_projected() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"projected_gan, batch {BATCH}, {where}: images a second, ours / plain loop")
    for size in (64, 128):
        images = torch.from_numpy(np.random.default_rng(0).random((BATCH, 1, size, size), dtype=np.float32)) * 2 - 1
        pairs = [(our_images_a_second(images), plain_images_a_second(images, device)) for _ in range(ROUNDS)]
        ratios = sorted(ours / plain for ours, plain in pairs)
        ours, plain = (statistics.median(rates) for rates in zip(*pairs, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{size:>4} pixels {ours:>8.1f} {plain:>8.1f}   ratio: {spread}", flush=True)
