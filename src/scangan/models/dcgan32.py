"""DCGAN for 32x32 head CT: Shastri and Ganesh, "Data Augmentation using Generative Adversarial Networks".

The paper's layer list omits strides and the last convolution; its parameter counts settle them:
791,169 for the discriminator, 4,870,785 for the generator (section "DCGAN implementation details").
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

OUTPUT_RANGE = (-1.0, 1.0)
IMAGE_SIZES = (32,)


def _norm_act(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.LeakyReLU(0.01)]


class Generator(nn.Module):
    """z: [N, 100], standard normal -> x: [N, channels, 32, 32], in [-1, 1]."""

    def __init__(self, base_width: int = 128, channels: int = 1, image_size: int = 32, latent_size: int = 100) -> None:
        super().__init__()
        width = base_width
        self.latent_size = latent_size
        self.map_shape = (width, image_size // 2, image_size // 2)
        features = prod(self.map_shape)
        self.dense = nn.Sequential(nn.Linear(latent_size, features), nn.BatchNorm1d(features), nn.LeakyReLU(0.01))
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2),
            *_norm_act(width),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            *_norm_act(width),
            nn.Conv2d(width, width, 5, padding=2),
            *_norm_act(width),
            nn.Conv2d(width, width, 5, padding=2),
            *_norm_act(width),
            # Paper: the list ends in BatchNorm, LeakyReLU, TanH; here a convolution to one channel precedes TanH,
            # because the image has one channel and the parameter count includes it.
            nn.Conv2d(width, channels, 5, padding=2),
            nn.Tanh(),
        )

    def draw_latent(self, images: int, rng: torch.Generator) -> Tensor:
        """Noise for `images` images: [images, latent_size], on the CPU, so that a seed means the same everywhere."""
        return torch.randn(images, self.latent_size, generator=rng)

    def forward(self, latent: Tensor) -> Tensor:
        return self.layers(self.dense(latent).unflatten(1, self.map_shape))


class Discriminator(nn.Module):
    """x: [N, channels, 32, 32], in [-1, 1] -> logit: [N]; the paper's sigmoid is part of the loss."""

    def __init__(self, base_width: int = 128, channels: int = 1, image_size: int = 32) -> None:
        super().__init__()
        width = base_width
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            *_norm_act(width),
            # Paper: all four are 3x3, stride 1; here the last three are 4x4, stride 2, because only these
            # give the printed parameter count.
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            *_norm_act(width),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            *_norm_act(width),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            *_norm_act(width),
            nn.Flatten(),
            nn.Dropout(0.4),
            nn.Linear(width * (image_size // 8) ** 2, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).squeeze(1)
