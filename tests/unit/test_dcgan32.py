"""The head CT network against the paper's parameter counts."""

import pytest
import torch

from scangan.models.dcgan32 import IMAGE_SIZES, OUTPUT_RANGE, Discriminator, Generator


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def test_parameter_counts_are_the_papers():
    assert parameters(Generator()) == 4_870_785
    assert parameters(Discriminator()) == 791_169


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_range(channels):
    torch.manual_seed(0)
    generator, discriminator = Generator(4, channels), Discriminator(4, channels)
    images = generator(100 * generator.draw_latent(5, torch.Generator().manual_seed(0)))
    assert images.shape == (5, channels, *2 * IMAGE_SIZES)
    assert OUTPUT_RANGE[0] <= images.min() < -0.5
    assert 0.5 < images.max() <= OUTPUT_RANGE[1]
    assert discriminator(images).shape == (5,)


def test_one_image_alone_keeps_its_axis():
    assert Generator(2).eval()(torch.zeros(1, 100)).shape == (1, 1, 32, 32)
    assert Discriminator(2).eval()(torch.zeros(1, 1, 32, 32)).shape == (1,)


def test_logits_are_not_squashed():
    logits = Discriminator(4).eval()(1000 * torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert logits.abs().max() > 1


def test_base_width_narrows():
    for network in (Generator, Discriminator):
        assert parameters(network(2)) < parameters(network(4)) < parameters(network(8))


def test_the_same_seed_draws_the_same_noise():
    generator = Generator(2)
    first, again, other = (generator.draw_latent(3, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert first.shape == (3, 100)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_noise_is_standard_normal():
    noise = Generator(2).draw_latent(1000, torch.Generator().manual_seed(0))
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
