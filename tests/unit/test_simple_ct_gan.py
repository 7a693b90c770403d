"""The chest CT network against the paper's layers, and its claim to serve any size with one set of weights."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from scangan.models.simple_ct_gan import IMAGE_SIZES, Discriminator, Generator


def channels(network, kind):
    return [(layer.in_channels, layer.out_channels) for layer in network.modules() if isinstance(layer, kind)]


def test_layers_are_the_papers():
    generator, discriminator = Generator(), Discriminator()
    up = channels(generator, nn.ConvTranspose2d)
    assert up == [(1, 256), (256, 128), (128, 64), (64, 32), (32, 16), (16, 3)]
    strides = [layer.stride[0] for layer in generator.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert strides == [2, 2, 1, 1, 1, 1]
    assert [type(layer) for layer in list(generator.layers)[:3]] == [nn.ConvTranspose2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert isinstance(generator.layers[-1], nn.ConvTranspose2d)
    assert {layer.momentum for layer in generator.modules() if isinstance(layer, nn.BatchNorm2d)} == {0.1}

    assert channels(discriminator, nn.Conv2d) == [(3, 256), (256, 128), (128, 64), (64, 32)]
    strides = [layer.stride[0] for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]
    assert strides == [2, 1, 1, 1]
    assert [layer.p for layer in discriminator.modules() if isinstance(layer, nn.Dropout)] == [0.6] * 4
    dense = [
        (layer.in_features, layer.out_features) for layer in discriminator.modules() if isinstance(layer, nn.Linear)
    ]
    assert dense == [(32 * 20 * 20, 128), (128, 1)]
    slopes = {
        layer.negative_slope
        for network in (generator, discriminator)
        for layer in network.modules()
        if isinstance(layer, nn.LeakyReLU)
    }
    assert slopes == {0.2}


def test_parameters_by_arithmetic():
    """Each kernel 3x3, with biases and two parameters a channel of batch norm."""
    widths = [1, 256, 128, 64, 32, 16]
    expected = sum(9 * a * b + b + 2 * b for a, b in pairwise(widths)) + 9 * 16 * 3 + 3
    assert sum(parameter.numel() for parameter in Generator().parameters()) == expected
    widths = [3, 256, 128, 64, 32]
    expected = sum(9 * a * b + b for a, b in pairwise(widths)) + 12800 * 128 + 128 + 129
    assert sum(parameter.numel() for parameter in Discriminator().parameters()) == expected


def test_one_state_dict_serves_40_and_64():
    torch.manual_seed(0)
    small = Generator(base_width=32, image_size=40).eval()
    large = Generator(base_width=32, image_size=64).eval()
    large.load_state_dict(small.state_dict())
    rng = torch.Generator().manual_seed(1)
    assert small.draw_latent(2, rng).shape == (2, 1, 10, 10)
    assert large.draw_latent(2, rng).shape == (2, 1, 16, 16)
    assert small(small.draw_latent(2, rng)).shape == (2, 3, 40, 40)
    assert large(large.draw_latent(2, rng)).shape == (2, 3, 64, 64)
    # Far from the border, the larger image of the same noise is the smaller one.
    noise = torch.zeros(1, 1, 16, 16)
    noise[..., :10, :10] = small.draw_latent(1, rng)
    torch.testing.assert_close(large(noise)[..., :20, :20], small(noise[..., :10, :10])[..., :20, :20])


def test_noise_is_uniform():
    noise = Generator(base_width=16, image_size=512).draw_latent(4, torch.Generator().manual_seed(0))
    assert -1 <= noise.min() < -0.99
    assert 0.99 < noise.max() <= 1
    assert noise.std().item() == pytest.approx(3**-0.5, rel=0.02)


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("image_size", [8, 40, 64])
def test_every_kernel_keeps_the_size(kernel_size, image_size):
    generator = Generator(16, 1, image_size, kernel_size)
    images = generator(generator.draw_latent(2, torch.Generator().manual_seed(0)))
    assert images.shape == (2, 1, image_size, image_size)
    assert Discriminator(16, 1, image_size, kernel_size)(images).shape == (2,)
    kernels = {layer.kernel_size for layer in generator.modules() if isinstance(layer, nn.ConvTranspose2d)}
    assert kernels == {(kernel_size, kernel_size)}


def test_weights_are_drawn_as_the_paper_says():
    torch.manual_seed(0)
    for network in (Generator(), Discriminator()):
        kernels = [layer for layer in network.modules() if hasattr(layer, "kernel_size")]
        weights = torch.cat([layer.weight.detach().flatten() for layer in kernels])
        assert weights.mean().item() == pytest.approx(0, abs=1e-3)
        assert weights.std().item() == pytest.approx(0.02, rel=0.02)


def test_sizes_are_multiples_of_four():
    assert 40 in IMAGE_SIZES
    assert 64 in IMAGE_SIZES
    assert 42 not in IMAGE_SIZES
