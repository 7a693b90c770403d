"""The progressive networks against the paper's layers, closed forms, and themselves one level smaller."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scangan.errors import ConfigError
from scangan.models.catalogue import build, read_generator, write_generator
from scangan.models.pggan import (
    IMAGE_SIZES,
    Discriminator,
    EqualisedConv2d,
    Generator,
    LatentToMap,
    MinibatchStddev,
    PixelNorm,
    enlarge,
    halve,
)
from scangan.training.ema import ExponentialMovingAverage
from scangan.training.losses import gradient_penalty

WIDTHS = [512, 512, 512, 512, 256, 128, 64, 32, 16]  # of 4x4 to 1024x1024, as table 2 prints them


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def networks(image_size, base_width=4, channels=1, seed=0):
    """Both in float64, so that equalities are tight; with biases, which are 0 at first, drawn too."""
    torch.manual_seed(seed)
    pair = Generator(base_width, channels, image_size, 8).double(), Discriminator(base_width, channels, image_size)
    for network in pair:
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)
    return pair[0], pair[1].double()


def noise(images=4):
    return torch.randn(images, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def on_meta(network, **options):
    """At full width, without memory for its weights."""
    with torch.device("meta"):
        return network(**options)


@pytest.mark.parametrize(("image_size", "channels", "base_width"), [(1024, 3, 512), (256, 1, 512), (64, 1, 32)])
def test_parameters_by_arithmetic(image_size, channels, base_width):
    """Kernels and biases of table 2, and a 1x1 convolution from and to images at each resolution."""
    options = {"image_size": image_size, "channels": channels, "base_width": base_width}
    widths = [min(width, base_width) for width in WIDTHS[: int(math.log2(image_size)) - 1]]
    first = widths[0]
    generator = 16 * 512 * first + first + 9 * first**2 + first
    generator += sum(9 * a * b + b + 9 * b**2 + b for a, b in pairwise(widths))
    generator += sum(width * channels + channels for width in widths)
    assert parameters(on_meta(Generator, **options)) == generator
    discriminator = 9 * (first + 1) * first + first + 16 * first**2 + first + first + 1
    discriminator += sum(9 * b**2 + b + 9 * b * a + a for a, b in pairwise(widths))
    discriminator += sum(channels * width + width for width in widths)
    assert parameters(on_meta(Discriminator, **options)) == discriminator


def test_parameters_are_the_published_ones():
    """Table 2: 23.1 M each, at 1024x1024."""
    assert round(parameters(on_meta(Generator)) / 1e6, 1) == 23.1
    assert round(parameters(on_meta(Discriminator)) / 1e6, 1) == 23.1


def test_maps_are_the_papers():
    generator, discriminator = on_meta(Generator), on_meta(Discriminator)
    shapes = []
    for network in (generator, discriminator):
        for block in network.blocks:
            block.register_forward_hook(lambda *call: shapes.append(tuple(call[-1].shape)))
    images = generator(torch.empty(4, 512, device="meta"))
    assert images.shape == (4, 3, 1024, 1024)
    assert shapes == [(4, width, 4 << level, 4 << level) for level, width in enumerate(WIDTHS)]
    shapes.clear()
    assert discriminator(images).shape == (4,)
    # Each block halves what it gets, and gives as many maps as the next one takes.
    halved = [(4, width, 4 << level, 4 << level) for level, width in enumerate(WIDTHS[:-1])]
    assert shapes == [*reversed(halved), (4,)]


def test_every_resolution_has_its_shapes():
    generator, discriminator = networks(64, channels=3)
    assert (generator.level, generator.alpha) == (4, 1.0)  # a new network is whole
    for level in range(5):
        for alpha in (0.0, 0.5, 1.0):
            for network in (generator, discriminator):
                network.set_progress(level, alpha)
            images = generator(noise())
            assert images.shape == (4, 3, 4 << level, 4 << level)
            assert discriminator(images).shape == (4,)


def test_sizes_are_powers_of_two():
    assert IMAGE_SIZES == (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    with pytest.raises(ConfigError, match=r"image_size: found 48, allowed with pggan: 4, 8, 16, .*1024"):
        build("pggan", 1, 48)


@pytest.mark.parametrize("layer", [EqualisedConv2d(6, 5, 3, padding=1), EqualisedConv2d(6, 5, 1, gain=1)])
def test_a_convolution_is_scaled_by_hes_constant(layer):
    maps = torch.randn(2, 6, 7, 7)
    nn.init.normal_(layer.bias)
    gain = 1 if layer.kernel_size == (1, 1) else math.sqrt(2)
    scaled = layer.weight * gain / math.sqrt(6 * layer.kernel_size[0] ** 2)
    torch.testing.assert_close(layer(maps), F.conv2d(maps, scaled, layer.bias, padding="same"))


def test_weights_are_standard_normal_and_signals_keep_their_size():
    torch.manual_seed(0)
    layer = EqualisedConv2d(64, 64, 3)
    assert layer.weight.mean().item() == pytest.approx(0, abs=0.02)
    assert layer.weight.std().item() == pytest.approx(1, rel=0.02)
    assert not layer.bias.any()
    # He et al. 2015: a layer doubles the mean square, which a rectifier halves.
    assert layer(torch.randn(8, 64, 16, 16)).square().mean().item() == pytest.approx(2, rel=0.1)


def test_adam_moves_every_layer_by_the_rate_times_hes_constant():
    """The equalised learning rate itself: Adam's first step is the rate, whatever the gradient."""
    for layer, inputs in ((EqualisedConv2d(4, 3, 3), 36), (EqualisedConv2d(50, 3, 1), 50)):
        before = layer.weight.detach() * layer.scale
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3, eps=1e-20)
        layer(torch.randn(2, layer.in_channels, 3, 3)).square().sum().backward()
        optimizer.step()
        moved = (layer.weight.detach() * layer.scale - before).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, 1e-3 * math.sqrt(2 / inputs)), rtol=0.01, atol=0)


def test_the_first_map_is_the_papers_convolution_of_the_padded_latent():
    layer, latent = LatentToMap(6, 5), torch.randn(2, 6, 1, 1)
    nn.init.normal_(layer.bias)
    kernel = layer.weight.transpose(0, 1).flip(2, 3) * math.sqrt(2 / (6 * 16))
    torch.testing.assert_close(layer(latent), F.conv2d(latent, kernel, layer.bias, padding=3))
    assert layer(latent).shape == (2, 5, 4, 4)


def test_pixel_norm():
    maps = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    root = (maps.pow(2).sum(1, keepdim=True) / 5 + 1e-8).sqrt()
    torch.testing.assert_close(PixelNorm()(maps), maps / root)
    torch.testing.assert_close(PixelNorm()(3 * maps), PixelNorm()(maps), rtol=1e-6, atol=0)
    assert not PixelNorm()(torch.zeros(1, 5, 1, 1)).any()
    # The squares are beyond half precision.
    torch.testing.assert_close(PixelNorm()(torch.full((1, 4, 1, 1), 3e4).half()), torch.ones(1, 4, 1, 1).half())


@pytest.mark.parametrize(("images", "group"), [(8, 4), (12, 4), (6, 3), (2, 2), (5, 1), (1, 1)])
def test_minibatch_standard_deviation_as_a_loop(images, group):
    maps = torch.randn(images, 3, 2, 4, dtype=torch.float64)
    with_map = MinibatchStddev()(maps)
    assert torch.equal(with_map[:, :3], maps)
    values, groups = maps.numpy(), images // group
    for image in range(images):
        members = [values[other] for other in range(images) if other % groups == image % groups]
        assert len(members) == group
        deviations = [
            math.sqrt(np.var([member[place] for member in members]) + 1e-8) for place in np.ndindex(maps.shape[1:])
        ]
        np.testing.assert_allclose(with_map[image, 3].numpy(), np.mean(deviations))


def test_the_generator_written_out():
    """At 8x8, a third of the way through its fade."""
    generator, _ = networks(8)
    generator.set_progress(1, 0.3)
    (_, first, *_, at_4, _, _), (_, up, *_, at_8, _, _) = generator.blocks

    def normed(maps):
        maps = F.leaky_relu(maps, 0.2)
        return maps / (maps.square().mean(1, keepdim=True) + 1e-8).sqrt()

    latent = noise()
    latent = latent / (latent.square().mean(1, keepdim=True) + 1e-8).sqrt()
    maps = normed(at_4(normed(first(latent[:, :, None, None]))))
    small = generator.to_images[0](maps).repeat_interleave(2, 2).repeat_interleave(2, 3)
    maps = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
    large = generator.to_images[1](normed(at_8(normed(up(maps)))))
    torch.testing.assert_close(generator(noise()), 0.7 * small + 0.3 * large)
    gains = [layer.scale * math.sqrt(layer.in_channels) for layer in generator.to_images]
    assert gains == pytest.approx([1, 1])


def test_the_discriminator_written_out():
    _, discriminator = networks(8)
    discriminator.set_progress(1, 0.3)
    (_, at_4, _, dense, _, last, _), (at_8, _, down, _, _) = discriminator.blocks
    from_4, from_8 = (layers[0] for layers in discriminator.from_images)

    def active(maps):
        return F.leaky_relu(maps, 0.2)

    images = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    large = F.avg_pool2d(active(down(active(at_8(active(from_8(images)))))), 2)
    small = active(from_4(F.avg_pool2d(images, 2)))
    maps = 0.7 * small + 0.3 * large
    spread = (maps.var(0, unbiased=False) + 1e-8).sqrt().mean()
    maps = torch.cat([maps, spread.expand(4, 1, 4, 4)], 1)
    scores = last(active(dense(active(at_4(maps))))).flatten()
    torch.testing.assert_close(discriminator(images), scores)
    assert last.scale * math.sqrt(last.in_channels) == pytest.approx(1)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_at_alpha_0_it_is_the_smaller_network(level):
    generator, discriminator = networks(32)
    images = torch.randn(4, 1, 4 << level, 4 << level, dtype=torch.float64)
    with torch.no_grad():
        for network in (generator, discriminator):
            network.set_progress(level - 1, 1.0)
        drawn, scores = enlarge(generator(noise())), discriminator(halve(images))
        for network in (generator, discriminator):
            network.set_progress(level, 0.0)
        assert torch.equal(generator(noise()), drawn)
        assert torch.equal(discriminator(images), scores)
        # One more level inside does not matter: a network of the larger size is the same at this level.
        for network in (generator, discriminator):
            network.set_progress(level, 1.0)
        assert not torch.equal(generator(noise()), drawn)
        assert not torch.equal(discriminator(images), scores)


def test_continuous_through_the_fade():
    """G's images are linear in alpha; D's scores have a slope. Neither jumps at the ends, where other layers run."""
    generator, discriminator = networks(16)
    images = torch.randn(4, 1, 16, 16, dtype=torch.float64)

    @torch.no_grad()
    def at(alpha):
        generator.set_progress(2, alpha)
        discriminator.set_progress(2, alpha)
        return generator(noise()), discriminator(images)

    (small, _), (large, _) = at(0.0), at(1.0)
    for alpha in (1e-9, 0.25, 0.5, 1 - 1e-9):
        torch.testing.assert_close(at(alpha)[0], (1 - alpha) * small + alpha * large)
    scores = torch.stack([at(alpha)[1] for alpha in np.linspace(0, 1, 201)])
    assert (scores[1:] - scores[:-1]).abs().max() < 0.03 * (scores.max(0).values - scores.min(0).values).max()
    for inside, end in ((1e-9, 0.0), (1 - 1e-9, 1.0)):
        torch.testing.assert_close(at(inside)[1], at(end)[1])


def test_progress_out_of_range_is_refused():
    generator, _ = networks(16)
    for level, alpha in ((3, 1.0), (-1, 1.0), (2, 1.5), (2, -0.1)):
        with pytest.raises(ValueError, match=rf"found level {level}, alpha {alpha}; allowed: 0 to 2, 0.0 to 1.0"):
            generator.set_progress(level, alpha)
    assert (generator.level, generator.alpha) == (2, 1.0)


def test_images_of_another_level_are_refused():
    _, discriminator = networks(16)
    discriminator.set_progress(1, 0.5)
    with pytest.raises(AssertionError, match=r"found \(4, 1, 16, 16\), allowed: \[N, C, 8, 8\]"):
        discriminator(torch.zeros(4, 1, 16, 16, dtype=torch.float64))


@pytest.mark.parametrize(("level", "alpha"), [(1, 1 / 3), (2, 1.0), (0, 1.0)])
def test_a_written_generator_draws_what_it_last_drew(tmp_path, level, alpha):
    options = {"base_width": 4}
    generator, _ = build("pggan", 1, 16, **options)
    generator.set_progress(level, alpha)
    files = tmp_path / "generator.safetensors", tmp_path / "generator.json"
    write_generator(*files, generator.state_dict(), model="pggan", channels=1, image_size=16, options=options)
    again, _ = read_generator(*files)
    assert (again.level, again.alpha) == (level, alpha)  # to the last bit
    latent = generator.draw_latent(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(latent), generator(latent))


def test_an_average_of_weights_copies_the_progress():
    generator, _ = networks(16)
    average = ExponentialMovingAverage(generator, decay=0.999)
    generator.set_progress(1, 0.1)
    average.update(generator)
    assert (average.average.level, average.average.alpha) == (1, 0.1)


def test_the_progress_stays_where_it_is_read():
    """Of a network on another device, in another number format or memory layout."""
    generator, _ = networks(16)
    generator.set_progress(1, 0.1)
    for moved in (generator.half(), generator.to(memory_format=torch.channels_last), generator.to("meta")):
        assert moved.progress.device.type == "cpu"
        assert (moved.level, moved.alpha) == (1, 0.1)


def test_layers_beyond_the_level_stay_untrained():
    """And the gradient penalty's second derivatives pass through every layer that runs."""
    _, discriminator = networks(16)
    discriminator.set_progress(1, 0.5)
    real, fake = torch.randn(2, 4, 1, 8, 8, dtype=torch.float64)
    gradient_penalty("wgan-gp", discriminator, real, fake).backward()
    weights = {name: weight.grad for name, weight in discriminator.named_parameters() if name.endswith("weight")}
    running = {name for name in weights if name.split(".")[1] in "01"}
    assert {name for name, gradient in weights.items() if gradient is not None} == running
    assert all(weights[name].abs().max() > 0 for name in running)


def test_noise_is_standard_normal():
    generator, _ = networks(4)
    drawn = generator.draw_latent(1000, torch.Generator().manual_seed(0))
    assert drawn.shape == (1000, 8)
    assert abs(drawn.mean()) < 0.05
    assert abs(drawn.std() - 1) < 0.05


def test_a_fade_in_mixed_precision_is_near_that_in_full(networks_in_a_fade):
    generator, discriminator = networks_in_a_fade
    latent = generator.draw_latent(4, torch.Generator().manual_seed(0))
    images = generator(latent)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = generator(latent)
        logits = discriminator(images)
    assert (mixed - images).abs().max() < 0.05 * images.abs().max()
    assert (logits.float() - discriminator(images)).abs().max() < 0.1 * logits.abs().max()


@pytest.fixture
def networks_in_a_fade():
    torch.manual_seed(0)
    networks = build("pggan", 1, 16, base_width=8)
    for network in networks:
        network.set_progress(1, 0.5)
    return networks
