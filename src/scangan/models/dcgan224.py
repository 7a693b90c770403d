"""DCGAN for 224x224 chest CT: Mann et al., "Generation of COVID-19 Chest CT Scan Images using GANs", section III.

The paper contradicts itself: it claims about 30 million parameters for the generator and 5 million for the
discriminator, but the widths that it prints give 115,497,411 and 100,447,681. No one width gives both: half of the
printed ones gives 32,681,187 and 25,156,321. The default is what is printed layer by layer; the discriminator's last
map is printed as 3027x7x7 and read as 3072x7x7, the generator's first. The paper gives no initialisation; PyTorch's
stands.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

OUTPUT_RANGE = (-1.0, 1.0)
IMAGE_SIZES = range(32, 257, 32)
HALVINGS = 5  # from the image's edge to that of the smallest map: 7 of 224


class Generator(nn.Module):
    """z: [N, 100], standard normal -> x: [N, channels, S, S], in [-1, 1]. S: image_size."""

    def __init__(self, base_width: int = 192, channels: int = 3, image_size: int = 224, latent_size: int = 100) -> None:
        super().__init__()
        self.latent_size = latent_size
        # Paper: 3072, 1536, 768, 384, 192, 3 for a base width of 192.
        widths = [base_width << doublings for doublings in reversed(range(HALVINGS))]
        edge = image_size >> HALVINGS
        self.map_shape = (widths[0], edge, edge)
        self.dense = nn.Linear(latent_size, widths[0] * edge**2)
        # Paper: "each convolution transpose layer is followed by" them; here the dense layer's map is too, as the paper
        # counts it among those that the transposed convolutions give.
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for before, width in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, width, 4, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(
            *layers, nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1), nn.Tanh()
        )

    def draw_latent(self, images: int, rng: torch.Generator) -> Tensor:
        """Noise for `images` images: [images, latent_size], on the CPU, so that a seed means the same everywhere."""
        return torch.randn(images, self.latent_size, generator=rng)

    def forward(self, latent: Tensor) -> Tensor:
        return self.layers(self.dense(latent).unflatten(1, self.map_shape))


class Discriminator(nn.Module):
    """x: [N, channels, S, S], in [-1, 1] -> logit: [N]; the paper's sigmoid is part of the loss."""

    def __init__(self, base_width: int = 192, channels: int = 3, image_size: int = 224) -> None:
        super().__init__()
        # Paper: 192, 384, 768, 1536, 3072.
        widths = [channels, *(base_width << doublings for doublings in range(HALVINGS))]
        layers: list[nn.Module] = []
        for before, width in pairwise(widths):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * (image_size >> HALVINGS) ** 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).squeeze(1)
