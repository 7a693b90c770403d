"""The vanilla 3D GAN that CT-SGAN is compared with (Pesaranghader et al. 2021, table 1): volumes of 128^3, enlarged.

The paper names no layers; these are those of 3D-GAN (Wu et al. 2016), with a level more for each doubling beyond 64^3:
transposed convolutions of 4x4x4 with stride 2, batch norm, ReLU; a discriminator that mirrors them, LeakyReLU 0.2.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

DIMENSIONS = 3
OUTPUT_RANGE = (-1.0, 1.0)
LEVELS = {base << level: level for level in range(2, 6) for base in (4, 5, 6, 7) if base << level <= 128}
IMAGE_SIZES = tuple(sorted(LEVELS))
LATENT_SIZE = 200


def _widths(base_width: int, image_size: int) -> list[int]:
    """Of the maps, from the finest to the coarsest."""
    return [base_width << level for level in range(LEVELS[image_size])]


class Generator(nn.Module):
    """latents [N, 200] -> volumes [N, 1, S, S, S], in [-1, 1]; S: one of `IMAGE_SIZES`.

    At the paper's scale, S = 128, base_width 32:

    | layer | output | parameters |
    |---|---|---|
    | ConvT 4x4x4, BN | 512 x 4^3 | 6,554,624 |
    | ConvT, BN | 256 x 8^3 | 8,389,120 |
    | ConvT, BN | 128 x 16^3 | 2,097,408 |
    | ConvT, BN | 64 x 32^3 | 524,416 |
    | ConvT, BN | 32 x 64^3 | 131,136 |
    | ConvT | 1 x 128^3 | 2,049 |
    """

    def __init__(self, base_width: int = 32, channels: int = 1, image_size: int = 128) -> None:
        super().__init__()
        self.image_size = image_size
        widths = _widths(base_width, image_size)[::-1]
        smallest = image_size >> LEVELS[image_size]
        layers = [
            nn.ConvTranspose3d(LATENT_SIZE, widths[0], smallest, bias=False),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(),
        ]
        for before, width in pairwise(widths):
            layers += [nn.ConvTranspose3d(before, width, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm3d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose3d(widths[-1], channels, 4, stride=2, padding=1))

    def draw_latent(self, volumes: int, rng: torch.Generator) -> Tensor:
        """Standard normal noise [volumes, 200], on the CPU, so that a seed means the same everywhere."""
        return torch.randn(volumes, LATENT_SIZE, generator=rng)

    def forward(self, latent: Tensor) -> Tensor:
        return self.layers(latent[:, :, None, None, None]).tanh()


class Discriminator(nn.Module):
    """volumes [N, 1, S, S, S] -> logits [N].

    At the paper's scale, S = 128, base_width 32:

    | layer | output | parameters |
    |---|---|---|
    | Conv 4x4x4, stride 2 | 32 x 64^3 | 2,080 |
    | Conv, BN | 64 x 32^3 | 131,200 |
    | Conv, BN | 128 x 16^3 | 524,544 |
    | Conv, BN | 256 x 8^3 | 2,097,664 |
    | Conv, BN | 512 x 4^3 | 8,389,632 |
    | Conv 4x4x4 | 1 | 32,769 |
    """

    def __init__(self, base_width: int = 32, channels: int = 1, image_size: int = 128) -> None:
        super().__init__()
        widths = _widths(base_width, image_size)
        layers = [nn.Conv3d(channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for before, width in pairwise(widths):
            layers += [nn.Conv3d(before, width, 4, stride=2, padding=1, bias=False), nn.BatchNorm3d(width)]
            layers += [nn.LeakyReLU(0.2)]
        smallest = image_size >> LEVELS[image_size]
        self.layers = nn.Sequential(*layers, nn.Conv3d(widths[-1], 1, smallest), nn.Flatten())

    def forward(self, volumes: Tensor) -> Tensor:
        return self.layers(volumes).squeeze(1)
