"""The vanilla 3D GAN: sizes, and the parameters of 3D-GAN's layers."""

from __future__ import annotations

import re

import pytest
import torch

from scangan.models.catalogue import build
from scangan.models.gan3d import IMAGE_SIZES, LATENT_SIZE, Discriminator, Generator


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_every_size_gives_cubes_and_one_logit_each(size: int):
    with torch.device("meta"):
        generator, discriminator = build("gan3d", 1, size)
        volumes = generator(torch.zeros(2, LATENT_SIZE))
        assert volumes.shape == (2, 1, size, size, size)
        assert discriminator(volumes).shape == (2,)


@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_the_tables_at_128_count_every_parameter(network: type):
    with torch.device("meta"):
        built = network()
    table = re.findall(r"\| ([\d,]+) \|$", network.__doc__, re.M)
    assert sum(int(number.replace(",", "")) for number in table) == sum(p.numel() for p in built.parameters())


def test_widths_double_towards_the_smallest_maps_as_in_3d_gan():
    with torch.device("meta"):
        generator, discriminator = build("gan3d", 1, 64, base_width=64)
    # Wu et al. 2016, section 3.1: 512, 256, 128, 64, 1 maps at 4, 8, 16, 32, 64 voxels.
    convolutions = [layer for layer in generator.layers if isinstance(layer, torch.nn.ConvTranspose3d)]
    assert [layer.out_channels for layer in convolutions] == [512, 256, 128, 64, 1]
    mirrored = [layer for layer in discriminator.layers if isinstance(layer, torch.nn.Conv3d)]
    assert [layer.out_channels for layer in mirrored] == [64, 128, 256, 512, 1]


def test_a_seed_means_the_same_volume_whatever_is_drawn_beside_it():
    generator, _ = build("gan3d", 1, 16, base_width=2)
    generator.eval()
    rng = torch.Generator()
    one = generator(generator.draw_latent(1, rng.manual_seed(5)))
    both = generator(torch.cat([generator.draw_latent(1, rng.manual_seed(seed)) for seed in (4, 5)]))
    torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=0)
    assert one.abs().max() <= 1
