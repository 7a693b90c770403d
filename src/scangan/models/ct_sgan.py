"""CT-SGAN: whole chest CT, slice by slice (Pesaranghader et al. 2021, section 2 and figure 2).

After MoCoGAN (Tulyakov et al. 2018), with slices in place of a video's frames. The latent code of a slice is a constant
part, the same for all slices of a volume (the patient and the scanner), and the slice's own part, from a BiLSTM R_v
that is fed with noise. G_slice maps it to a 3-channel slice: the slice between its two neighbours. The centre channels
piled up are the volume; its first and last slice are the outer neighbours of the outermost 3-channel slices. D_slice
judges single 3-channel slices with respect to their position, D_slab the centre slices of a slab.

The paper prints no layers: here they are DCGAN's, without a norm in the discriminators, whose gradient is penalised
for each image.

For few volumes there is another pair of G_slice and D_slice (`discriminator: projected`), those of `projected_gan`:
D_slice sees a 3-channel slice as a colour image, through a network that was trained on photographs.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from scangan.models import projected_gan
from scangan.models.projected_gan import HEAD_WIDTH, HEADS, FeatureDiscriminator, feature_head

DIMENSIONS = 3
OUTPUT_RANGE = (-1.0, 1.0)
SMALLEST = (4, 5, 6, 7)  # edge of the first map; each level doubles it
LEVELS = {base << level: level for level in range(3, 7) for base in SMALLEST if 56 <= base << level <= 256}
IMAGE_SIZES = tuple(sorted(LEVELS))
TRAINED_AGAINST = {"projected": projected_gan.TRAINED_AGAINST}
OPTIONS = {
    "discriminator": "discriminator",
    "slab": "slabs.depth",
    "constant_noise": "slabs.constant_noise",
    "slice_noise": "slabs.slice_noise",
    "slice_code": "slabs.slice_code",
    "told_position": "slabs.told_position",
}
WIDEST = 8  # times base_width
FREQUENCIES = 4
CHUNK_SLICES = 32  # of a whole volume, drawn at once


def position_features(positions: Tensor) -> Tensor:
    """Positions in [-1, 1], feet to head, [...] -> sines and cosines of growing frequency, and themselves: [..., 9]."""
    angles = positions[..., None] * (math.pi / 2 * 2 ** torch.arange(FREQUENCIES, device=positions.device))
    return torch.cat([positions[..., None], angles.sin(), angles.cos()], -1)


POSITION_FEATURES = 2 * FREQUENCIES + 1


def slice_positions(depth: int, device: torch.device | str | None = None) -> Tensor:
    """Positions of a volume's 3-channel slices, those of their centres: [depth - 2], within (-1, 1)."""
    return torch.linspace(-1, 1, depth, device=device)[1:-1]


def to_slices(slab: Tensor) -> Tensor:
    """Neighbouring slices [N, T + 2, S, S] -> each with its two neighbours: [N, T, 3, S, S]."""
    return torch.stack([slab[:, :-2], slab[:, 1:-1], slab[:, 2:]], 2)


def assemble(slices: Tensor) -> Tensor:
    """3-channel slices of whole volumes [N, D - 2, 3, S, S] -> the volumes [N, 1, D, S, S]."""
    return torch.cat([slices[:, :1, 0], slices[:, :, 1], slices[:, -1:, 2]], 1)[:, None]


class SliceCodes(nn.Module):
    """R_v: noise [N, D - 2, slice_noise], the first state [2, N, slice_code / 2] -> codes [N, D - 2, slice_code].

    told_position: R_v is told each slice's position besides.
    """

    def __init__(self, slice_noise: int, slice_code: int, told_position: bool) -> None:
        super().__init__()
        # Paper: noise alone, so that R_v has to count the slices; told their position it learns in far fewer steps.
        self.told_position = told_position
        # Without noise and positions it is fed with zeros: an LSTM has to have an input.
        inputs = slice_noise + (POSITION_FEATURES if told_position else 0) or 1
        self.lstm = nn.LSTM(inputs, slice_code // 2, batch_first=True, bidirectional=True)
        # An LSTM's first outputs are near 0: beside the constant noise G_slice would hardly see them.
        self.norm = nn.LayerNorm(slice_code)

    def forward(self, noise: Tensor, first_state: Tensor) -> Tensor:
        if self.told_position:
            features = position_features(slice_positions(noise.shape[1] + 2, noise.device))
            noise = torch.cat([noise, features.expand(len(noise), -1, -1)], -1)
        if noise.shape[2] == 0:
            noise = noise.new_zeros(*noise.shape[:2], 1)
        # On a GPU autocast makes an LSTM's numbers float16, whatever was asked for, and nothing scales its gradients.
        with torch.autocast("cuda" if noise.is_cuda else "cpu", enabled=False):
            first_state = first_state.float().contiguous()
            codes, _ = self.lstm(noise.float(), (first_state, torch.zeros_like(first_state)))
            return self.norm(codes)


class SliceGenerator(nn.Module):
    """G_slice: codes [M, constant_noise + slice_code] -> 3-channel slices [M, 3, S, S], in [-1, 1].

    At the paper's scale, S = 224, base_width 64, codes of 256:

    | layer | output | parameters |
    |---|---|---|
    | Linear, BN | 512 x 7^2 | 6,423,552 |
    | ConvT 4x4, stride 2, BN | 512 x 14^2 | 4,195,328 |
    | ConvT, BN | 256 x 28^2 | 2,097,664 |
    | ConvT, BN | 128 x 56^2 | 524,544 |
    | ConvT, BN | 64 x 112^2 | 131,200 |
    | ConvT | 3 x 224^2 | 3,075 |
    """

    def __init__(self, base_width: int, image_size: int, code: int) -> None:
        super().__init__()
        levels = LEVELS[image_size]
        widths = [base_width * min(2**level, WIDEST) for level in range(levels)][::-1]
        self.smallest, self.widest = image_size >> levels, widths[0]
        self.linear = nn.Linear(code, self.widest * self.smallest**2, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(self.widest), nn.ReLU()]
        for before, width in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, width, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, stride=2, padding=1))

    def forward(self, codes: Tensor) -> Tensor:
        return self.layers(self.linear(codes).view(-1, self.widest, self.smallest, self.smallest)).tanh()


def light_slice_generator(base_width: int, image_size: int, code: int) -> projected_gan.Generator:
    """G_slice against a projected D_slice: that of `projected_gan`, as wide at its widest as the paper's G_slice.

    Its latent is a slice's code and the noise that is added to its maps.
    """
    smallest = image_size >> LEVELS[image_size]
    generator = projected_gan.Generator(WIDEST * base_width, 3, image_size, code, smallest_edge=smallest)
    # The authors' first weights, of 0.02, are for wide maps: slices of narrow ones would be grey for hundreds of steps.
    generator.to_image[0].reset_parameters()
    return generator


class Generator(nn.Module):
    """R_v and G_slice: latents [N, latent_size] -> volumes [N, 1, S, S, S], in [-1, 1]; S: one of `IMAGE_SIZES`.

    depth: slices of a volume, if it is no cube. A latent holds the constant noise, the noise of each 3-channel slice,
    R_v's first state, and the noise that a light G_slice adds to its maps, the same for all slices of a volume: noise
    of each slice would make neighbours flicker. All are standard normal. At the paper's scale (S = 224, base_width 64):
    R_v 50,432 parameters, 55,040 if it is told the position; G_slice 13,375,363.
    """

    def __init__(
        self,
        base_width: int = 64,
        channels: int = 1,
        image_size: int = 224,
        constant_noise: int = 128,
        slice_noise: int = 32,
        slice_code: int = 128,
        told_position: bool = False,
        slab: int = 16,
        discriminator: str = "convolutional",
        depth: int | None = None,
    ) -> None:
        super().__init__()
        assert channels == 1, f"channels: found {channels}, allowed: 1"
        self.image_size, self.depth, self.slice_noise = image_size, depth or image_size, slice_noise
        self.slice_codes = SliceCodes(slice_noise, slice_code, told_position)
        map_noise = 0
        self.slice_generator: nn.Module
        if discriminator == "projected":
            self.slice_generator = light_slice_generator(base_width, image_size, constant_noise + slice_code)
            map_noise = sum(self.slice_generator.latent_parts[1:])
        else:
            self.slice_generator = SliceGenerator(base_width, image_size, constant_noise + slice_code)
        self.latent_parts = (constant_noise, (self.depth - 2) * slice_noise, slice_code, map_noise)

    def draw_latent(self, volumes: int, rng: torch.Generator) -> Tensor:
        """Noise for so many volumes: [volumes, latent_size], on the CPU, so that a seed means the same everywhere."""
        return torch.randn(volumes, sum(self.latent_parts), generator=rng)

    def codes(self, latent: Tensor) -> Tensor:
        """The codes of all slices: [N, S - 2, constant_noise + slice_code]."""
        constant, noise, state, _ = latent.split(self.latent_parts, 1)
        noise = noise.view(len(latent), self.depth - 2, self.slice_noise)
        own = self.slice_codes(noise, state.view(len(latent), 2, -1).transpose(0, 1))
        return torch.cat([constant[:, None].expand(-1, self.depth - 2, -1), own], 2)

    def slab(self, latent: Tensor, first: Tensor, slices: int) -> Tensor:
        """The 3-channel slices `first` [N] to `first` + `slices`, of the S - 2 of each volume: [N, slices, 3, S, S].

        R_v runs over the whole sequence, G_slice for these slices only: so memory does not depend on the depth.
        """
        chosen = first[:, None] + torch.arange(slices, device=first.device)
        codes = self.codes(latent)
        return self._draw(codes.gather(1, chosen[..., None].expand(-1, -1, codes.shape[2])), latent)

    def forward(self, latent: Tensor) -> Tensor:
        chunks = self.codes(latent).split(max(1, CHUNK_SLICES // len(latent)), 1)
        return assemble(torch.cat([self._draw(codes, latent) for codes in chunks], 1))

    def _draw(self, codes: Tensor, latent: Tensor) -> Tensor:
        """The 3-channel slices [N, T, 3, S, S] of codes [N, T, constant_noise + slice_code] of these volumes."""
        map_noise = latent[:, None, sum(self.latent_parts[:3]) :].expand(-1, codes.shape[1], -1)
        return self.slice_generator(torch.cat([codes, map_noise], 2).flatten(0, 1)).unflatten(0, codes.shape[:2])


class SliceDiscriminator(nn.Module):
    """D_slice: 3-channel slices [M, 3, S, S] and their positions [M] -> logits [M].

    A projection discriminator (Miyato and Koyama 2018): the position's embedding times the features is a part of the
    logit; the other part judges the slice wherever it lies.

    At the paper's scale, S = 224, base_width 64:

    | layer | output | parameters |
    |---|---|---|
    | Conv 4x4, stride 2 | 64 x 112^2 | 3,136 |
    | Conv 4x4, stride 2 | 128 x 56^2 | 131,200 |
    | Conv 4x4, stride 2 | 256 x 28^2 | 524,544 |
    | Conv 4x4, stride 2 | 512 x 14^2 | 2,097,664 |
    | Conv 4x4, stride 2 | 512 x 7^2 | 4,194,816 |
    | Linear | 512 | 12,845,568 |
    | Linear | 1 | 513 |
    | embedding of the position: Linear, Linear | 512 | 267,776 |
    """

    def __init__(self, base_width: int, image_size: int) -> None:
        super().__init__()
        widths = [base_width * min(2**level, WIDEST) for level in range(LEVELS[image_size])]
        layers: list[nn.Module] = []
        for before, width in pairwise([3, *widths]):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        smallest = image_size >> LEVELS[image_size]
        features = widths[-1]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(features * smallest**2, features))
        self.score = nn.Linear(features, 1)
        self.embedding = nn.Sequential(
            nn.Linear(POSITION_FEATURES, features), nn.LeakyReLU(0.2), nn.Linear(features, features)
        )

    def forward(self, slices: Tensor, positions: Tensor) -> Tensor:
        features = nn.functional.leaky_relu(self.layers(slices), 0.2)
        agreement = (self.embedding(position_features(positions)) * features).sum(1)
        return self.score(features).squeeze(1) + agreement


class ProjectedSliceDiscriminator(FeatureDiscriminator):
    """D_slice through frozen features: 3-channel slices [M, 3, S, S], positions [M] -> logits [M, places].

    It is `judge` of what `see` returns. In each head, too, the position's embedding times the features is a part of
    the logit, at each place of the slice.
    """

    def __init__(self, image_size: int) -> None:
        # Slices of 56 pixels are enlarged to 64, not to 96 as images are: 1.5 times as many steps in the same time.
        super().__init__(3, image_size, least_edge=projected_gan.STRIDE)
        self.heads = nn.ModuleList(feature_head(width, halvings, _of_position()) for width, halvings in HEADS)

    def judge(self, seen: list[Tensor], positions: Tensor) -> Tensor:
        """Logits [K, places] of what `see` returned, at positions [K].

        If there are more positions than slices, the first slices are judged once more, at those that are left over.
        """
        told = position_features(positions)
        logits = []
        for head, maps in zip(self.heads, seen, strict=True):
            features = head.layers(maps)
            logits.append(head.logits(torch.cat([features, features[: len(positions) - len(features)]]), told))
        return torch.cat(logits, 1)

    def forward(self, slices: Tensor, positions: Tensor) -> Tensor:
        return self.judge(self.see(slices), positions)


def _of_position() -> nn.Module:
    """position_features [M, 9] -> what is asked of a head's features, [M, HEAD_WIDTH]."""
    return nn.Sequential(
        spectral_norm(nn.Linear(POSITION_FEATURES, HEAD_WIDTH)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Linear(HEAD_WIDTH, HEAD_WIDTH)),
    )


class SlabDiscriminator(nn.Module):
    """D_slab: T centre slices [N, 1, T, S, S] -> logits [N].

    At the paper's scale, S = 224, T = 16, half the width of D_slice, as its maps are T times as many:

    | layer | output | parameters |
    |---|---|---|
    | Conv 4x4x4, stride 2 | 32 x 8 x 112^2 | 2,080 |
    | Conv 4x4x4, stride 2 | 64 x 4 x 56^2 | 131,136 |
    | Conv 4x4x4, stride 2 | 128 x 2 x 28^2 | 524,416 |
    | Conv 4x4x4, stride 2 | 256 x 1 x 14^2 | 2,097,408 |
    | Conv 3x4x4, stride 1 x 2 x 2 | 256 x 1 x 7^2 | 3,145,984 |
    | Linear | 1 | 12,545 |
    """

    def __init__(self, base_width: int, image_size: int, slab: int) -> None:
        super().__init__()
        widths = [max(1, base_width // 2) * min(2**level, WIDEST) for level in range(LEVELS[image_size])]
        layers: list[nn.Module] = []
        for before, width in pairwise([1, *widths]):
            # Once a slab is one or an odd number of maps deep, it is halved in its plane only.
            halved = slab > 1 and slab % 2 == 0
            slab = slab // 2 if halved else slab
            kernel, stride = ((4, 4, 4), 2) if halved else ((3, 4, 4), (1, 2, 2))
            layers += [nn.Conv3d(before, width, kernel, stride=stride, padding=1), nn.LeakyReLU(0.2)]
        smallest = image_size >> LEVELS[image_size]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * slab * smallest**2, 1))

    def forward(self, slab: Tensor) -> Tensor:
        return self.layers(slab).squeeze(1)


class Discriminator(nn.Module):
    """D_slice and D_slab, which are trained together."""

    def __init__(
        self,
        base_width: int = 64,
        channels: int = 1,
        image_size: int = 224,
        constant_noise: int = 128,
        slice_noise: int = 32,
        slice_code: int = 128,
        told_position: bool = False,
        slab: int = 16,
        discriminator: str = "convolutional",
    ) -> None:
        super().__init__()
        self.slice: nn.Module
        if discriminator == "projected":
            self.slice = ProjectedSliceDiscriminator(image_size)
        else:
            self.slice = SliceDiscriminator(base_width, image_size)
        self.slab = SlabDiscriminator(base_width, image_size, slab)
