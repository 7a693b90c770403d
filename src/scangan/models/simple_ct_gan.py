"""A simple GAN for 2D chest CT at 40x40 (section 3: the layers; section 4: initialisation and noise).

The generator is fully convolutional: its noise is a map a quarter of the image's edge, 10x10 for 40x40, and the same
weights give 64x64 from 16x16.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

# Intensities are scaled to [0, 2]; the output is linear, so images are clipped when they are stored.
OUTPUT_RANGE = (0.0, 2.0)
IMAGE_SIZES = range(8, 513, 4)
OPTIONS = {"kernel_size": "kernel_size"}


def _initialise(network: nn.Module) -> None:
    """Section 4: all weights from a Gaussian of mean 0 and standard deviation 0.02."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """z: [N, 1, S/4, S/4], uniform in [-1, 1] -> x: [N, channels, S, S], linear, meant for [0, 2].

    image_size is S, a multiple of 4; it decides the size of the noise and no weight.
    """

    def __init__(self, base_width: int = 256, channels: int = 3, image_size: int = 40, kernel_size: int = 3) -> None:
        super().__init__()
        self.latent_edge = image_size // 4
        padding = kernel_size // 2
        # Paper: 256, 128, 64, 32, 16; the first two double the edge.
        widths = [1, *(max(1, base_width >> halvings) for halvings in range(5))]
        layers: list[nn.Module] = []
        for number, (before, width) in enumerate(pairwise(widths)):
            stride = 2 if number < 2 else 1
            layers += [
                nn.ConvTranspose2d(before, width, kernel_size, stride, padding, output_padding=stride - 1),
                # Paper: "the value of batch normalization was 0.9": Keras' momentum, 0.1 as PyTorch counts.
                nn.BatchNorm2d(width, momentum=0.1),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], channels, kernel_size, padding=padding))
        _initialise(self)

    def draw_latent(self, images: int, rng: torch.Generator) -> Tensor:
        """Noise for `images` images: [images, 1, S/4, S/4], on the CPU, so that a seed means the same everywhere."""
        return torch.rand(images, 1, self.latent_edge, self.latent_edge, generator=rng) * 2 - 1

    def forward(self, latent: Tensor) -> Tensor:
        return self.layers(latent)


class Discriminator(nn.Module):
    """x: [N, channels, S, S], in [0, 2] -> logit: [N]; the paper's sigmoid is part of the loss."""

    def __init__(self, base_width: int = 256, channels: int = 3, image_size: int = 40, kernel_size: int = 3) -> None:
        super().__init__()
        # Paper: 256, 128, 64, 32; the first halves the edge.
        widths = [channels, *(max(1, base_width >> halvings) for halvings in range(4))]
        layers: list[nn.Module] = []
        for number, (before, width) in enumerate(pairwise(widths)):
            layers += [
                nn.Conv2d(before, width, kernel_size, stride=2 if number == 0 else 1, padding=kernel_size // 2),
                nn.LeakyReLU(0.2),
                nn.Dropout(0.6),
            ]
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(widths[-1] * (image_size // 2) ** 2, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, 1),
        )
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).squeeze(1)
