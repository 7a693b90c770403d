"""CT-SGAN's networks: sizes, positions, the slices that make a volume, and what reaches whom."""

from __future__ import annotations

import re

import pytest
import torch

from scangan.models import ct_sgan
from scangan.models.catalogue import build
from scangan.models.ct_sgan import (
    IMAGE_SIZES,
    Discriminator,
    Generator,
    ProjectedSliceDiscriminator,
    SlabDiscriminator,
    SliceCodes,
    SliceDiscriminator,
    SliceGenerator,
    assemble,
    position_features,
    slice_positions,
    to_slices,
)

SMALL = {"base_width": 2, "constant_noise": 3, "slice_noise": 2, "slice_code": 4, "slab": 4}


def small(size: int = 56, **options) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    return build("ct_sgan", 1, size, **SMALL | options)


def latents(generator: Generator, volumes: int = 2) -> torch.Tensor:
    return generator.draw_latent(volumes, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_every_size_from_56_to_256_gives_slices_and_one_logit_each(size: int):
    with torch.device("meta"):
        _, discriminator = build("ct_sgan", 1, size)
        generator = Generator(image_size=size, depth=20)  # R_v's steps take their time
        latent = torch.zeros(2, sum(generator.latent_parts))
        assert generator(latent).shape == (2, 1, 20, size, size)
        slab = generator.slab(latent, torch.zeros(2, dtype=torch.long), 16)
        assert slab.shape == (2, 16, 3, size, size)
        assert discriminator.slab(slab[:, None, :, 1]).shape == (2,)
        assert discriminator.slice(slab.flatten(0, 1), torch.zeros(32)).shape == (32,)


def test_a_volume_is_a_cube():
    generator, _ = small()
    assert generator(latents(generator, 1)).shape == (1, 1, 56, 56, 56)


def test_sizes_go_from_56_to_256():
    assert min(IMAGE_SIZES) == 56
    assert max(IMAGE_SIZES) == 256
    assert 224 in IMAGE_SIZES


def table_of(network: type) -> int:
    """The sum of the parameters in the table of a docstring."""
    return sum(int(number.replace(",", "")) for number in re.findall(r"\| ([\d,]+) \|$", network.__doc__, re.M))


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        (SliceGenerator, (64, 224, 256)),
        (SliceDiscriminator, (64, 224)),
        (SlabDiscriminator, (64, 224, 16)),
    ],
)
def test_the_tables_at_224_count_every_parameter(network: type, arguments: tuple):
    with torch.device("meta"):
        built = network(*arguments)
    assert table_of(network) == sum(parameter.numel() for parameter in built.parameters())


@pytest.mark.parametrize("told", [False, True])
def test_r_v_has_the_parameters_of_two_lstms_and_a_norm(told: bool):
    inputs, hidden = 32 + 9 * told, 64
    # Hochreiter and Schmidhuber's four gates, each with weights of input and state and (in torch) two biases.
    wanted = 2 * 4 * hidden * (inputs + hidden + 2) + 2 * 128
    with torch.device("meta"):
        built = SliceCodes(32, 128, told)
    assert sum(parameter.numel() for parameter in built.parameters()) == wanted
    assert f"{wanted:,}" in Generator.__doc__


def test_a_volume_of_224_slices_is_piled_up_from_222_and_both_outer_neighbours():
    volumes = torch.arange(2 * 224 * 2 * 2, dtype=torch.float32).view(2, 224, 2, 2)
    slices = to_slices(volumes)
    assert slices.shape == (2, 222, 3, 2, 2)
    assert torch.equal(slices[:, 7, 1], volumes[:, 8])
    assert torch.equal(assemble(slices), volumes[:, None])


def test_the_outer_slices_are_the_neighbours_of_the_outermost_3_channel_slices():
    generator, _ = small()
    generator.eval()
    latent = latents(generator)
    slices = generator.slab(latent, torch.zeros(2, dtype=torch.long), 54)
    volume = generator(latent)[:, 0]
    assert torch.equal(volume[:, 0], slices[:, 0, 0])
    assert torch.equal(volume[:, -1], slices[:, -1, 2])
    torch.testing.assert_close(volume[:, 1:-1], slices[:, :, 1], atol=1e-6, rtol=0)


def test_a_slab_is_that_part_of_the_whole_volume():
    generator, _ = small()
    generator.eval()
    latent = latents(generator)
    slab = generator.slab(latent, torch.tensor([5, 40]), 4)
    whole = generator(latent)[:, 0]
    torch.testing.assert_close(slab[0, :, 1], whole[0, 6:10], atol=1e-6, rtol=0)
    torch.testing.assert_close(slab[1, :, 1], whole[1, 41:45], atol=1e-6, rtol=0)


def test_both_noises_change_a_volume_and_each_slice_has_its_own():
    generator, _ = small()
    generator.eval()
    latent = latents(generator, 1)
    constant, noise, *_ = latent.split(generator.latent_parts, 1)
    other_constant = latent.clone()
    other_constant[:, : constant.shape[1]] += 1
    changed = (generator(other_constant) - generator(latent)).abs().amax((0, 1, 3, 4))
    assert (changed > 0).all()
    # The BiLSTM hands a slice's noise on to its neighbours in both directions, less and less.
    middle = latent.clone()
    middle[:, constant.shape[1] + noise.shape[1] // 2] += 3
    moved = (generator.codes(middle) - generator.codes(latent)).abs().sum((0, 2))
    assert moved.argmax().item() in (26, 27)
    assert moved[25] > 0
    assert moved[29] > 0


@pytest.mark.parametrize(("constant", "own"), [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("told", [False, True])
def test_either_noise_can_be_left_out(constant: int, own: int, told: bool):
    """The paper's ablation: "the absence of either noise hurt the overall quality"."""
    sizes = {"constant_noise": constant, "slice_noise": own, "slice_code": 6, "told_position": told}
    generator = Generator(2, image_size=56, depth=10, **sizes)
    latent = generator.draw_latent(2, torch.Generator().manual_seed(0))
    assert latent.shape == (2, constant + 8 * own + 6)
    codes = generator.codes(latent)
    assert codes.shape == (2, 8, constant + 6)
    assert not torch.equal(codes[:, 0, constant:], codes[:, 1, constant:])


def test_the_slab_discriminators_gradient_reaches_r_v():
    generator, discriminator = small()
    slab = generator.slab(latents(generator), torch.tensor([0, 20]), 4)
    discriminator.slab(slab[:, None, :, 1]).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in generator.slice_codes.lstm.parameters())


def test_positions_are_those_of_the_centres_and_are_used():
    positions = slice_positions(224)
    assert positions.shape == (222,)
    # Slice k of 224 lies at 2 k / 223 - 1; the first 3-channel slice has its centre at k = 1.
    torch.testing.assert_close(positions[[0, -1]], torch.tensor([2 / 223 - 1, 1 - 2 / 223]))
    assert len(torch.unique(position_features(positions).round(decimals=5), dim=0)) == 222
    _, discriminator = small()
    same = torch.zeros(2, 3, 56, 56)
    low, high = discriminator.slice(same, torch.tensor([-0.9, 0.9]))
    assert abs(low - high) > 1e-6


def test_r_v_counts_for_itself_unless_it_is_told_the_position():
    noise, state = torch.zeros(1, 20, 2), torch.zeros(2, 1, 2)
    torch.manual_seed(0)
    alone, told = SliceCodes(2, 4, False), SliceCodes(2, 4, True)
    # Far from both ends nothing but the position can tell two slices of the same noise apart.
    assert (alone(noise, state)[0, 9] - alone(noise, state)[0, 10]).abs().max() < 0.01
    assert (told(noise, state)[0, 9] - told(noise, state)[0, 10]).abs().max() > 0.01


def test_a_seed_means_the_same_volume_whatever_is_drawn_beside_it():
    generator, _ = small()
    generator.eval()
    rng = torch.Generator()
    one = generator(generator.draw_latent(1, rng.manual_seed(5)))
    both = generator(torch.cat([generator.draw_latent(1, rng.manual_seed(seed)) for seed in (4, 5)]))
    torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=0)


def test_odd_slabs_are_halved_in_their_plane_only():
    for slab in (1, 2, 3, 5, 6, 16):
        network = SlabDiscriminator(2, 56, slab)
        assert network(torch.zeros(2, 1, slab, 56, 56)).shape == (2,)


def test_the_range_is_that_of_tanh():
    generator, _ = small()
    assert ct_sgan.OUTPUT_RANGE == (-1.0, 1.0)
    assert generator(latents(generator)).abs().max() <= 1


# The pair for few volumes.


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_the_light_generator_draws_every_size(size: int):
    with torch.device("meta"):
        generator = Generator(2, image_size=size, depth=12, discriminator="projected")
        volumes = generator(torch.zeros(2, sum(generator.latent_parts)))
    assert volumes.shape == (2, 1, 12, size, size)


@pytest.mark.parametrize(("size", "places"), [(56, 2**2), (112, 4**2), (224, 7**2)])
def test_the_projected_slice_discriminator_judges_every_place(size: int, places: int):
    discriminator = ProjectedSliceDiscriminator(size)
    assert discriminator(torch.zeros(2, 3, size, size), torch.zeros(2)).shape == (2, 4 * places)


def test_a_volume_of_the_light_generator_is_a_function_of_its_latent():
    generator, _ = small(discriminator="projected")
    generator.eval()
    for block in generator.slice_generator.blocks:
        torch.nn.init.ones_(block.noise_weight)
    latent = latents(generator)
    alone = torch.cat([generator(each[None]) for each in latent])
    torch.testing.assert_close(generator(latent), alone)
    slab = generator.slab(latent, torch.tensor([5, 40]), 4)
    torch.testing.assert_close(slab[1, :, 1], alone[1, 0, 41:45])
    # The noise of its maps is one for all slices: it changes all of them.
    other = latent.clone()
    other[:, sum(generator.latent_parts[:3]) :] *= -1
    assert ((generator(other) - alone).abs().amax((1, 3, 4)) > 1e-3).all()


def test_the_first_slices_are_judged_once_more_at_further_positions():
    torch.manual_seed(0)
    discriminator = ProjectedSliceDiscriminator(56).eval()
    maps = discriminator.see(torch.rand(3, 3, 56, 56))
    positions, further = torch.tensor([-0.5, 0.0, 0.5]), torch.tensor([0.9, -0.9])
    logits = discriminator.judge(maps, torch.cat([positions, further]))
    again = discriminator.judge([each[:2] for each in maps], further)
    torch.testing.assert_close(logits, torch.cat([discriminator.judge(maps, positions), again]))


def test_each_head_knows_the_position_and_each_channel_counts():
    torch.manual_seed(0)
    discriminator = ProjectedSliceDiscriminator(56).eval()
    slices = torch.rand(2, 3, 56, 56, requires_grad=True)
    maps = discriminator.see(slices)
    low, high = (discriminator.judge(maps, torch.full((2,), place)) for place in (-0.9, 0.9))
    for one, other in zip(low.chunk(4, 1), high.chunk(4, 1), strict=True):
        assert (one - other).abs().mean() > 0.02
    (gradient,) = torch.autograd.grad(low.sum(), slices)
    assert (gradient.abs().sum((0, 2, 3)) > 0).all()
    assert {name.split(".")[0] for name, _ in discriminator.named_parameters()} == {"heads"}
