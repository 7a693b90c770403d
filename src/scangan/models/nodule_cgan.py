"""Nodule injector and eraser: the 3D conditional GAN of CT-SGAN (Pesaranghader et al. 2021, section 3 and appendix B).

It follows Jin et al. 2018, "CT-Realistic Lung Nodule Simulation from 3D Conditional Generative Adversarial Networks for
Robust Lung Segmentation": a volume of interest (VOI) around the place, whose central sphere is filled by an
encoder-decoder with skip connections; D judges the pair of what G was shown and what it made of it. CT-SGAN prints no
layers: here they are those of pix2pix (Isola et al. 2017) in 3D, 4x4x4 with stride 2, five of them at 64x64x64.

The radius is a condition twice: through the mask (radius + margin), and as a map of the sphere that is asked for.
The eraser is shown the whole VOI, and says of each voxel what lies beneath the nodule, and how much of the voxel to
replace by that: so what is no nodule stays as it is. The injector is shown a sketch (`sketch`): a form painted with one
grey value, as sharp as the scans that it learnt from, on even lung; it starts from that, and what it changes of it is
added to the same form painted into the place (`put_in`), whose lung goes on up to the nodule. Shown a sphere only, the
network learns the mean of all forms and densities, which is a blurred ball; having to make the lung about a form anew,
it blurs that.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

OUTPUT_RANGE = (-1.0, 1.0)
# Halved at least three times, down to an edge of 2 to 4.
IMAGE_SIZES = (16, 24, 32, 48, 64)
LEVELS = {16: 3, 24: 3, 32: 4, 48: 4, 64: 5}
RIM = 2  # voxels about a form, in which its edge fades
EXAMPLES = 256  # of training nodules' sizes and grey values, which an injector keeps
NEAREST = 16  # examples in size, of which one is drawn
KEPT = -3.0  # before its training, an eraser replaces the logistic function of this of each voxel
DARK = -2 / 7  # -500 HU; what is darker is lung
LUNG = -0.75  # the lung of a VOI that has none
WIDEST = 8  # times base_width, as in pix2pix


def distance_mm(image_size: int, voi_spacing_mm: float, device: torch.device | str | None = None) -> Tensor:
    """How far each voxel of a VOI lies from its centre: [S, S, S]."""
    offsets = torch.arange(image_size, device=device, dtype=torch.float32) - (image_size - 1) / 2
    squares = (offsets * voi_spacing_mm).square()
    return (squares[:, None, None] + squares[:, None] + squares).sqrt()


def sphere_mask(radius_mm: Tensor, image_size: int, voi_spacing_mm: float) -> Tensor:
    """The voxels whose centres lie within the radius: [N] -> bool [N, 1, S, S, S]."""
    return distance_mm(image_size, voi_spacing_mm, radius_mm.device) <= radius_mm[:, None, None, None, None]


def sphere_map(radius_mm: Tensor, image_size: int, voi_spacing_mm: float) -> Tensor:
    """The asked sphere: [N] -> [N, 1, S, S, S], in [-1, 1].

    Positive inside, 0 on its surface, negative outside; it changes linearly over two voxels on either side, so that a
    fraction of a voxel in radius shows.
    """
    depth_mm = radius_mm[:, None, None, None, None] - distance_mm(image_size, voi_spacing_mm, radius_mm.device)
    return (depth_mm / (2 * voi_spacing_mm)).clamp(-1, 1)


def dilate(forms: Tensor, voxels: int) -> Tensor:
    """Forms, [N, 1, S, S, S], shares of voxels, and what lies at most so many voxels from them: bool, alike."""
    edge = 2 * voxels + 1
    ball = distance_mm(edge, 1.0, forms.device) <= voxels
    return F.conv3d((forms >= 0.5).float(), ball.float().expand(1, 1, edge, edge, edge), padding=voxels) > 0.5


def form_mask(forms: Tensor, radius_mm: Tensor, margin_mm: float, voi_spacing_mm: float) -> Tensor:
    """What an injector makes anew: forms and their rims, as far as they lie within radius + margin: bool, alike."""
    return dilate(forms, RIM) & sphere_mask(radius_mm + margin_mm, forms.shape[-1], voi_spacing_mm)


def lung_level(voi: Tensor, mask: Tensor) -> Tensor:
    """The mean of the lung in VOIs beside their masks: [N, 1, 1, 1, 1]."""
    lung = (~mask & (voi < DARK)).to(voi.dtype)
    count = lung.sum((1, 2, 3, 4), keepdim=True)
    return torch.where(count > 0, (voi * lung).sum((1, 2, 3, 4), keepdim=True) / count.clamp(min=1), LUNG)


def grey_of(voi: Tensor, mask: Tensor, forms: Tensor) -> Tensor:
    """The one grey value with which a `sketch` comes nearest to VOIs with nodules of these forms: [N]."""
    lung, forms, axes = lung_level(voi, mask), forms * mask, (1, 2, 3, 4)
    above = ((voi - lung) * forms).sum(axes) / forms.square().sum(axes).clamp(min=1e-6)
    return (lung.flatten() + above).clamp(*OUTPUT_RANGE)


def sketch(voi: Tensor, mask: Tensor, forms: Tensor, grey: Tensor) -> Tensor:
    """What an injector is shown of VOIs, [N, 1, S, S, S]: in the mask a form of this grey value, [N], on even lung."""
    painted = torch.lerp(lung_level(voi, mask), grey[:, None, None, None, None].to(voi.dtype), forms.to(voi.dtype))
    return torch.where(mask, painted, voi)


def put_in(voi: Tensor, mask: Tensor, forms: Tensor, grey: Tensor, sketched: Tensor, made: Tensor) -> Tensor:
    """VOIs with a nodule painted in, and what an injector made of its sketch, as a difference from it, added."""
    painted = voi + forms.to(voi.dtype) * (grey[:, None, None, None, None].to(voi.dtype) - voi).clamp(min=0)
    return torch.where(mask, painted + made - sketched, voi)


class _Conditioned(nn.Module):
    """What both networks are told: the VOI as the generator is shown it, the mask, the asked sphere."""

    def __init__(self, channels: int, image_size: int, voi_spacing_mm: float, sees_inside: bool) -> None:
        super().__init__()
        assert channels == 1, f"channels: found {channels}, allowed: 1"
        self.image_size, self.voi_spacing_mm, self.sees_inside = image_size, voi_spacing_mm, sees_inside

    def condition(self, voi: Tensor, mask: Tensor, radius_mm: Tensor) -> Tensor:
        """[N, 3, S, S, S]"""
        edges = (self.image_size,) * 3
        for name, values, allowed in (
            ("voi", voi, (len(voi), 1, *edges)),
            ("mask", mask, (len(voi), 1, *edges)),
            ("radius_mm", radius_mm, (len(voi),)),
        ):
            assert values.shape == allowed, f"{name}: found {tuple(values.shape)}, allowed: {allowed}"
        sphere = sphere_map(radius_mm, self.image_size, self.voi_spacing_mm)
        return torch.cat([voi, mask.to(voi.dtype), sphere.to(voi.dtype)], 1)


def draw_grey(examples: np.ndarray, radius_mm: float, rng: np.random.Generator) -> float:
    """The grey value of a nodule of this radius: that of one of the examples [M, 2] nearest to it in size."""
    radii, greys = examples.T
    return float(greys[rng.choice(np.argsort(abs(np.log(radii.clip(0.1) / radius_mm)), kind="stable")[:NEAREST])])


def _block(convolution: nn.Conv3d | nn.ConvTranspose3d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm3d(convolution.out_channels), nn.LeakyReLU(0.2))


class Generator(_Conditioned):
    """voi: [N, 1, S, S, S], in [-1, 1]; mask: bool, alike; radius_mm: [N]; noise: [N, 1, S, S, S], standard normal
    -> the filled VOI: [N, 1, S, S, S], in [-1, 1]; outside the mask it is `voi`, to the bit. An injector's `voi` is a
    `sketch`, whose grey values may be drawn from `examples`, radii (mm) and grey values of the nodules that it learnt
    from, and whose forms are blurred by `blur_mm`, as those are.

    The noise enters at the bottleneck, where it is averaged to a standard normal map. S: one of `IMAGE_SIZES`.
    Given noise at the last convolution too, the network draws a grain of its own, where the scan's is added already.

    At the paper's scale, S = 64, base_width 64:

    | layer | output | parameters |
    |---|---|---|
    | Conv 4x4x4, stride 2 | 64 x 32^3 | 12,352 |
    | Conv, BN | 128 x 16^3 | 524,672 |
    | Conv, BN | 256 x 8^3 | 2,097,920 |
    | Conv, BN | 512 x 4^3 | 8,390,144 |
    | Conv, BN; with the noise: 513 channels | 512 x 2^3 | 16,778,752 |
    | ConvT, BN | 512 x 4^3 | 16,811,520 |
    | ConvT, BN | 256 x 8^3 | 16,777,984 |
    | ConvT, BN | 128 x 16^3 | 4,194,688 |
    | ConvT, BN | 64 x 32^3 | 1,048,768 |
    | ConvT | 64 x 64^3 | 524,352 |
    | Conv 3x3x3, with input: 67 channels; of an eraser to 2 | 1 x 64^3 | 1,810 |

    From the second ConvT on, a layer takes its predecessor's output and the encoder's of the same size. The last one
    begins at zero: an untrained injector makes its sketch, an untrained eraser replaces a little by even lung.
    """

    def __init__(
        self,
        base_width: int = 64,
        channels: int = 1,
        image_size: int = 64,
        voi_spacing_mm: float = 1.0,
        sees_inside: bool = False,
    ) -> None:
        super().__init__(channels, image_size, voi_spacing_mm, sees_inside)
        widths = [base_width * min(2**level, WIDEST) for level in range(LEVELS[image_size])]
        self.down = nn.ModuleList([nn.Sequential(nn.Conv3d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2))])
        for before, width in pairwise(widths):
            self.down.append(_block(nn.Conv3d(before, width, 4, stride=2, padding=1)))
        self.up, before = nn.ModuleList(), widths[-1] + 1
        for width in widths[-2::-1]:
            self.up.append(_block(nn.ConvTranspose3d(before, width, 4, stride=2, padding=1)))
            before = 2 * width
        self.up.append(nn.Sequential(nn.ConvTranspose3d(before, base_width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)))
        self.to_voi = nn.Conv3d(base_width + 3, 1 + sees_inside, 3, padding=1)
        nn.init.zeros_(self.to_voi.weight)
        nn.init.zeros_(self.to_voi.bias)
        self.register_buffer("examples", torch.zeros(EXAMPLES, 2))
        self.register_buffer("blur_mm", torch.zeros(()))

    def draw_grey(self, radius_mm: float, rng: np.random.Generator) -> float:
        """The grey value of a nodule of this radius, see `draw_grey`."""
        return draw_grey(self.examples.cpu().numpy(), radius_mm, rng)

    def draw_latent(self, images: int, rng: torch.Generator) -> Tensor:
        """Noise for `images` VOIs: [images, 1, S, S, S], on the CPU, so that a seed means the same everywhere."""
        return torch.randn(images, 1, *(self.image_size,) * 3, generator=rng)

    def forward(self, voi: Tensor, mask: Tensor, radius_mm: Tensor, noise: Tensor) -> Tensor:
        filled, _ = self.fill(voi, mask, radius_mm, noise)
        return filled

    def fill(self, voi: Tensor, mask: Tensor, radius_mm: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The filled VOI, and the share of each voxel that was replaced: both [N, 1, S, S, S]."""
        condition = self.condition(voi, mask, radius_mm)
        maps, skips = condition, []
        for layer in self.down:
            maps = layer(maps)
            skips.append(maps)
        block = self.image_size // maps.shape[-1]
        # The mean of n normal values has a deviation of 1 / sqrt(n).
        maps = torch.cat([maps, F.avg_pool3d(noise, block) * block**1.5], 1)
        skips.pop()
        for layer in self.up:
            maps = layer(maps)
            if skips:
                maps = torch.cat([maps, skips.pop()], 1)
        change, *kept = self.to_voi(torch.cat([maps, condition], 1)).split(1, 1)
        start = lung_level(voi, mask) if self.sees_inside else voi
        made = (start + change).clamp(*OUTPUT_RANGE).to(voi.dtype)
        replaced = (mask * (kept[0] + KEPT).sigmoid() if kept else mask).to(voi.dtype)
        return torch.where(mask, torch.lerp(voi, made, replaced), voi), replaced


class Discriminator(_Conditioned):
    """voi, mask, radius_mm: as the generator's; filled: [N, 1, S, S, S] -> logit: [N].

    Judges overlapping patches (PatchGAN, Isola et al. 2017), and takes their mean weighted by how much of the mask
    each of them holds. Instance norm (IN): with spectral norm it learnt several times more slowly; with batch norm a
    score would depend on the other VOIs of its batch.

    At the paper's scale, S = 64, base_width 64:

    | layer | output | parameters |
    |---|---|---|
    | Conv 4x4x4, stride 2 | 64 x 32^3 | 16,448 |
    | Conv 4x4x4, stride 2, IN | 128 x 16^3 | 524,416 |
    | Conv 4x4x4, stride 2, IN | 256 x 8^3 | 2,097,408 |
    | Conv 4x4x4, stride 2, IN | 512 x 4^3 | 8,389,120 |
    | Conv 3x3x3, IN | 512 x 4^3 | 7,078,400 |
    | Conv 3x3x3 | 1 x 4^3 | 13,825 |
    """

    def __init__(
        self,
        base_width: int = 64,
        channels: int = 1,
        image_size: int = 64,
        voi_spacing_mm: float = 1.0,
        sees_inside: bool = False,
    ) -> None:
        super().__init__(channels, image_size, voi_spacing_mm, sees_inside)
        widths = [base_width * min(2**level, WIDEST) for level in range(LEVELS[image_size] - 1)]
        layers = [nn.Conv3d(4, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for before, width in pairwise(widths):
            layers += [nn.Conv3d(before, width, 4, stride=2, padding=1), nn.InstanceNorm3d(width), nn.LeakyReLU(0.2)]
        width = min(2 * widths[-1], WIDEST * base_width)
        layers += [nn.Conv3d(widths[-1], width, 3, padding=1), nn.InstanceNorm3d(width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv3d(width, 1, 3, padding=1))

    def forward(self, voi: Tensor, mask: Tensor, radius_mm: Tensor, filled: Tensor) -> Tensor:
        condition = self.condition(voi, mask, radius_mm)
        scores = self.layers(torch.cat([condition, filled.to(condition.dtype)], 1))
        share = F.adaptive_avg_pool3d(mask.to(scores.dtype), scores.shape[2:])
        return (scores * share).sum((1, 2, 3, 4)) / share.sum((1, 2, 3, 4))
