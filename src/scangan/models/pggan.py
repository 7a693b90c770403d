"""PGGAN: Karras et al. 2018, "Progressive Growing of GANs for Improved Quality, Stability, and Variation".

The brain MR study takes it unchanged, up to 256x256. Table 2 gives the layers, appendix A.1 the rest. A network holds
the layers of all resolutions from 4x4 (level 0) to its image size, and runs those of the level it was last set to
(`set_progress`); a new one is at its highest level. While a level fades in, its images are blended with the next
smaller ones: alpha = 0 is the smaller network, alpha = 1 the larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# What the loss pulls the linear output to: images are clipped when they are stored.
OUTPUT_RANGE = (-1.0, 1.0)
SMALLEST_EDGE = 4
IMAGE_SIZES = tuple(SMALLEST_EDGE << level for level in range(9))
GROUP_SIZE = 4  # images in a group of the minibatch standard deviation, in the authors' code


def enlarge(images: Tensor) -> Tensor:
    """Twice the edge, by repeating pixels: [N, C, S, S] -> [N, C, 2 S, 2 S]."""
    return F.interpolate(images, scale_factor=2, mode="nearest")


def halve(images: Tensor) -> Tensor:
    """Half the edge, by averaging 2x2 pixels: [N, C, S, S] -> [N, C, S/2, S/2]."""
    return F.avg_pool2d(images, 2)


class EqualisedConv2d(nn.Conv2d):
    """A convolution whose weights are N(0, 1) and are scaled by He's constant when it runs (section 4.1).

    So an optimiser that normalises gradients, as Adam does, changes all layers at the same relative speed.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, padding: int = 0, gain: float = math.sqrt(2)
    ) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=padding)
        self.scale = gain / math.sqrt(inputs * kernel_size**2)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, maps: Tensor) -> Tensor:
        return F.conv2d(maps, self.weight * self.scale, self.bias, padding=self.padding)


class LatentToMap(nn.ConvTranspose2d):
    """z: [N, inputs, 1, 1] -> [N, outputs, 4, 4]: the generator's first "Conv 4x4" of table 2, equalised.

    That convolves the latent, padded by 3 on each side; as a transposed convolution it has the same weights, and no
    products with the padding.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, SMALLEST_EDGE)
        self.scale = math.sqrt(2) / math.sqrt(inputs * SMALLEST_EDGE**2)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, latent: Tensor) -> Tensor:
        return F.conv_transpose2d(latent, self.weight * self.scale, self.bias)


def _full_precision(maps: Tensor) -> Tensor:
    """Half precision as float32, because squares may overflow."""
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


class PixelNorm(nn.Module):
    """Every pixel's feature vector brought to a mean square of 1 (section 4.2)."""

    def forward(self, maps: Tensor) -> Tensor:
        mean_square = _full_precision(maps).square().mean(1, keepdim=True)
        return maps * torch.rsqrt(mean_square + 1e-8).to(maps.dtype)


class MinibatchStddev(nn.Module):
    """Appends one map, constant over an image: how much its group's features differ, averaged (section 3).

    The groups are of 4 images, or of as many, at most 4, as divide the batch: [N, C, H, W] -> [N, C + 1, H, W].
    """

    def forward(self, maps: Tensor) -> Tensor:
        images, channels, height, width = maps.shape
        group = max(size for size in range(1, GROUP_SIZE + 1) if images % size == 0)
        groups = _full_precision(maps).reshape(group, images // group, channels, height, width)
        # The small term keeps the root's own gradient finite where all images of a group are alike.
        deviation = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
        deviation = deviation.repeat(group).reshape(images, 1, 1, 1).expand(images, 1, height, width)
        return torch.cat([maps, deviation.to(maps.dtype)], dim=1)


class _Growing(nn.Module):
    """A network that remembers how far it has grown, in its state too."""

    progress: Tensor

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.levels = IMAGE_SIZES.index(image_size) + 1
        # The bits of two float64 as integers: what averages a network's weights copies integers and averages floats,
        # and an averaged level would be none.
        start = torch.tensor([self.levels - 1, 1.0], dtype=torch.float64, device="cpu")
        self.register_buffer("progress", start.view(torch.int64))

    @property
    def level(self) -> int:
        """The images' edge is 4 * 2^level pixels."""
        return int(self.progress.view(torch.float64)[0])

    @property
    def alpha(self) -> float:
        """The share of the level's own images in the blend with the next smaller ones, from 0 to 1."""
        return self.progress.view(torch.float64)[1].item()

    def set_progress(self, level: int, alpha: float) -> None:
        """Run the layers up to `level`, whose part in the images is `alpha`; level 0 has nothing to fade from."""
        if not (0 <= level < self.levels and 0 <= alpha <= 1):
            raise ValueError(
                f"progress: found level {level}, alpha {alpha}; allowed: 0 to {self.levels - 1}, 0.0 to 1.0"
            )
        self.progress.copy_(torch.tensor([level, alpha], dtype=torch.float64, device="cpu").view(torch.int64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Growing:
        # The level decides which layers run: on a GPU, every forward pass would wait for its number.
        progress = self.progress
        super()._apply(fn, recurse)
        self.progress = progress
        return self


def _widths(base_width: int, levels: int) -> list[int]:
    """Channels of the maps at each level."""
    return [min(8192 >> (level + 1), base_width) for level in range(levels)]


def _act_norm() -> list[nn.Module]:
    return [nn.LeakyReLU(0.2), PixelNorm()]


class Generator(_Growing):
    """z: [N, latent_size], standard normal -> x: [N, channels, S, S], linear, meant for [-1, 1]. S: 4 * 2^level."""

    def __init__(
        self, base_width: int = 512, channels: int = 3, image_size: int = 1024, latent_size: int = 512
    ) -> None:
        super().__init__(image_size)
        self.latent_size = latent_size
        widths = _widths(base_width, self.levels)
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(
                    # The noise is a point on a hypersphere.
                    PixelNorm(),
                    LatentToMap(latent_size, widths[0]),
                    *_act_norm(),
                    EqualisedConv2d(widths[0], widths[0], 3, padding=1),
                    *_act_norm(),
                )
            ]
        )
        for before, width in pairwise(widths):
            self.blocks.append(
                nn.Sequential(
                    nn.Upsample(scale_factor=2),
                    EqualisedConv2d(before, width, 3, padding=1),
                    *_act_norm(),
                    EqualisedConv2d(width, width, 3, padding=1),
                    *_act_norm(),
                )
            )
        self.to_images = nn.ModuleList(EqualisedConv2d(width, channels, 1, gain=1) for width in widths)

    def draw_latent(self, images: int, rng: torch.Generator) -> Tensor:
        """Noise for `images` images: [images, latent_size], on the CPU, so that a seed means the same everywhere."""
        return torch.randn(images, self.latent_size, generator=rng)

    def forward(self, latent: Tensor) -> Tensor:
        level, alpha = self.level, self.alpha
        maps = latent[:, :, None, None]
        for block in self.blocks[: level + 1]:
            before, maps = maps, block(maps)
        images = self.to_images[level](maps)
        if level > 0 and alpha < 1:
            # Mixed precision leaves the two in different number formats.
            smaller = enlarge(self.to_images[level - 1](before))
            images = torch.lerp(smaller, images.to(smaller.dtype), alpha)
        return images


class Discriminator(_Growing):
    """x: [N, channels, S, S], in [-1, 1] -> score: [N]. S: 4 * 2^level.

    An image's score depends on the others of its group, through the minibatch standard deviation.
    """

    def __init__(self, base_width: int = 512, channels: int = 3, image_size: int = 1024) -> None:
        super().__init__(image_size)
        widths = _widths(base_width, self.levels)
        self.from_images = nn.ModuleList(
            nn.Sequential(EqualisedConv2d(channels, width, 1), nn.LeakyReLU(0.2)) for width in widths
        )
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(
                    MinibatchStddev(),
                    EqualisedConv2d(widths[0] + 1, widths[0], 3, padding=1),
                    nn.LeakyReLU(0.2),
                    EqualisedConv2d(widths[0], widths[0], SMALLEST_EDGE),
                    nn.LeakyReLU(0.2),
                    # "Fully-connected" in table 2, of what is one pixel here.
                    EqualisedConv2d(widths[0], 1, 1, gain=1),
                    nn.Flatten(0),
                )
            ]
        )
        for after, width in pairwise(widths):
            self.blocks.append(
                nn.Sequential(
                    EqualisedConv2d(width, width, 3, padding=1),
                    nn.LeakyReLU(0.2),
                    EqualisedConv2d(width, after, 3, padding=1),
                    nn.LeakyReLU(0.2),
                    nn.AvgPool2d(2),
                )
            )

    def forward(self, images: Tensor) -> Tensor:
        level, alpha = self.level, self.alpha
        edge = SMALLEST_EDGE << level
        assert images.shape[2:] == (edge, edge), f"images: found {tuple(images.shape)}, allowed: [N, C, {edge}, {edge}]"
        maps = self.blocks[level](self.from_images[level](images))
        if level > 0 and alpha < 1:
            smaller = self.from_images[level - 1](halve(images))
            maps = torch.lerp(smaller, maps.to(smaller.dtype), alpha)
        for block in reversed(self.blocks[:level]):
            maps = block(maps)
        return maps
