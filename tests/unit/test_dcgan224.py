"""The COVID-CT network against the maps and layers that the paper prints."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from scangan.models.dcgan224 import IMAGE_SIZES, OUTPUT_RANGE, Discriminator, Generator

MAPS = [(3072, 7), (1536, 14), (768, 28), (384, 56), (192, 112), (3, 224)]  # channels and edge, as printed


def on_meta(network, **options):
    """At full width, without memory for its weights."""
    with torch.device("meta"):
        return network(**options)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def convolutions(network):
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


def map_shapes(network, kinds, inputs):
    """Shape of what each layer of these kinds gives, in order."""
    shapes = []
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda *call: shapes.append(tuple(call[-1].shape)))
    output = network(inputs)
    return shapes, output


def test_the_generators_maps_are_the_papers():
    generator = on_meta(Generator)
    assert generator.dense.weight.shape == (150_528, 100)
    (dense, *maps), images = map_shapes(generator, nn.Linear | nn.ConvTranspose2d, torch.empty(2, 100, device="meta"))
    assert dense == (2, 150_528)
    assert generator.map_shape == (3072, 7, 7)
    assert maps == [(2, channels, edge, edge) for channels, edge in MAPS[1:]]
    assert images.shape == (2, 3, 224, 224)


def test_the_discriminators_maps_are_the_papers():
    discriminator = on_meta(Discriminator)
    maps, logits = map_shapes(discriminator, nn.Conv2d, torch.empty(2, 3, 224, 224, device="meta"))
    assert maps == [(2, channels, edge, edge) for channels, edge in reversed(MAPS[:-1])]
    assert logits.shape == (2,)


def test_layers_are_the_papers():
    generator, discriminator = Generator(2), Discriminator(2)
    for network in (generator, discriminator):
        assert {(layer.kernel_size, layer.stride) for layer in convolutions(network)} == {((4, 4), (2, 2))}
    up = [type(layer) for layer in generator.layers]
    assert up == [nn.BatchNorm2d, nn.ReLU, *4 * [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU], *up[-2:]]
    assert up[-2:] == [nn.ConvTranspose2d, nn.Tanh]
    down = [type(layer) for layer in discriminator.layers]
    assert down == [*5 * [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU], nn.Flatten, nn.Linear]
    slopes = {layer.negative_slope for layer in discriminator.modules() if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.2}


@pytest.mark.parametrize(("width", "edge", "channels"), [(192, 224, 3), (96, 224, 3), (4, 64, 1)])
def test_parameters_by_arithmetic(width, edge, channels):
    """4x4 kernels and biases; two parameters a channel of batch norm."""
    options = {"base_width": width, "image_size": edge, "channels": channels}
    widths = [width * 2**doublings for doublings in range(5)]
    pairs = [(channels, width), *pairwise(widths)]
    kernels = sum(16 * a * b for a, b in pairs)
    features = widths[-1] * (edge // 32) ** 2
    generator = kernels + sum(widths[:-1]) + channels + 101 * features + 2 * sum(widths)
    assert parameters(on_meta(Generator, **options)) == generator
    assert parameters(on_meta(Discriminator, **options)) == kernels + 3 * sum(widths) + features + 1


def test_parameters_at_the_printed_widths():
    """Not the 30 and 5 million that the paper claims."""
    assert parameters(on_meta(Generator)) == 115_497_411
    assert parameters(on_meta(Generator, base_width=96)) == 32_681_187
    assert parameters(on_meta(Discriminator)) == 100_447_681


@pytest.mark.parametrize("image_size", [32, 64, 96, 224, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size(image_size, channels):
    assert image_size in IMAGE_SIZES
    torch.manual_seed(0)
    generator, discriminator = Generator(2, channels, image_size), Discriminator(2, channels, image_size)
    images = generator(generator.draw_latent(3, torch.Generator().manual_seed(0)))
    assert images.shape == (3, channels, image_size, image_size)
    assert OUTPUT_RANGE[0] <= images.min() < 0 < images.max() <= OUTPUT_RANGE[1]
    assert discriminator(images).shape == (3,)
    assert discriminator.eval()(generator.eval()(torch.zeros(1, 100))).shape == (1,)


def test_sizes_are_multiples_of_32():
    assert list(IMAGE_SIZES) == [32, 64, 96, 128, 160, 192, 224, 256]


def test_noise_is_standard_normal():
    noise = Generator(2, image_size=32).draw_latent(1000, torch.Generator().manual_seed(0))
    assert noise.shape == (1000, 100)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
