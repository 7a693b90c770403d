"""The conditional network of the nodule injector and eraser: what it sees, what it may change."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from scangan.ct import grids
from scangan.ct.forms import draw_forms
from scangan.errors import ConfigError
from scangan.models.catalogue import build
from scangan.models.nodule_cgan import (
    DARK,
    EXAMPLES,
    IMAGE_SIZES,
    NEAREST,
    OUTPUT_RANGE,
    Discriminator,
    Generator,
    dilate,
    distance_mm,
    form_mask,
    grey_of,
    lung_level,
    put_in,
    sketch,
    sphere_map,
    sphere_mask,
)

SIZE, SPACING_MM, MARGIN_MM = 16, 2.0, 4.0


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def conditions(images=3, size=SIZE, seed=0):
    voi = torch.rand(images, 1, *(size,) * 3, generator=rng(seed)) * 2 - 1
    radius_mm = torch.linspace(4, 8, images)
    return voi, sphere_mask(radius_mm + MARGIN_MM, size, SPACING_MM), radius_mm


def generator(**options):
    """One that changes something, as no untrained one does."""
    torch.manual_seed(0)
    network = Generator(4, image_size=options.pop("size", SIZE), voi_spacing_mm=SPACING_MM, **options).eval()
    nn.init.normal_(network.to_voi.weight, std=0.02)
    return network


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_the_table_of_layers_is_that_of_the_network(network):
    rows = re.findall(r"^ *\| (Conv.*) \| (\d+) x (\d+)\^3 \| ([\d,]+) \|$", network.__doc__, re.MULTILINE)
    listed = [(int(width), int(edge), int(number.replace(",", ""))) for _, width, edge, number in rows]
    with torch.device("meta"):
        built = network()
        kinds = (nn.Conv3d, nn.ConvTranspose3d)
        layers = [layer for layer in built.modules() if isinstance(layer, kinds)]
        outputs = {}
        for layer in layers:
            layer.register_forward_hook(lambda layer, _, maps: outputs.update({layer: maps.shape[1:3]}))
        voi = torch.empty(2, 1, 64, 64, 64)
        built(voi, voi.bool(), torch.empty(2), voi)
    # The batch norm of a layer counts with it.
    norms = {
        before: parameters(after)
        for block in built.modules()
        if isinstance(block, nn.Sequential)
        for before, after in pairwise(block)
        if isinstance(after, nn.BatchNorm3d)
    }
    assert listed == [(*outputs[layer], parameters(layer) + norms.get(layer, 0)) for layer in layers]


@pytest.mark.parametrize("size", IMAGE_SIZES)
@pytest.mark.parametrize("sees_inside", [False, True])
def test_shapes_and_range(size, sees_inside):
    voi, mask, radius_mm = conditions(2, size)
    network, judge = build("nodule_cgan", 1, size, base_width=2, voi_spacing_mm=SPACING_MM, sees_inside=sees_inside)
    filled = network(voi, mask, radius_mm, network.draw_latent(2, rng()))
    assert filled.shape == (2, 1, size, size, size)
    assert OUTPUT_RANGE[0] <= filled.min() < filled.max() <= OUTPUT_RANGE[1]
    assert judge(voi, mask, radius_mm, filled).shape == (2,)


def test_another_size_is_refused():
    with pytest.raises(ConfigError, match=r"image_size: found 20, allowed with nodule_cgan: 16, 24, 32, 48, 64"):
        build("nodule_cgan", 1, 20)


def test_nothing_outside_the_mask_changes_and_everything_inside_does():
    voi, mask, radius_mm = conditions()
    network = generator()
    filled = network(voi, mask, radius_mm, network.draw_latent(3, rng()))
    assert torch.equal(filled[~mask], voi[~mask])
    assert (filled[mask] != voi[mask]).all()


def sketched(greys=(0.1, 0.2, 0.3)):
    """VOIs of lung with a wall, the masks of forms, the forms, their grey values and the sketches."""
    voi, _, radius_mm = conditions()
    voi = 0.1 * voi - 0.8
    voi[:, :, :2] = 0.3
    forms = torch.from_numpy(draw_forms(np.random.default_rng(0), radius_mm.tolist(), SIZE, SPACING_MM))[:, None]
    mask, grey = form_mask(forms, radius_mm, MARGIN_MM, SPACING_MM), torch.tensor(greys)
    return voi, mask, forms, grey, sketch(voi, mask, forms, grey)


def test_a_sketch_hides_the_mask_and_shows_the_form_in_its_grey_value():
    voi, mask, forms, grey, shown = sketched()
    _, _, radius_mm = conditions()
    assert (forms.sum((1, 2, 3, 4)).diff() > 0).all()
    within = sphere_mask(radius_mm + MARGIN_MM, SIZE, SPACING_MM)
    assert torch.equal(mask, dilate(forms, 2) & within)
    assert torch.equal(shown[~mask], voi[~mask])
    for number, (each, form, inside, place) in enumerate(zip(shown, forms, mask, voi, strict=True), 1):
        lung = place[~inside & (place < DARK)].mean()
        # Half of a voxel is half of the way from the lung about.
        torch.testing.assert_close(each[inside], (lung + form * (0.1 * number - lung))[inside])
    # What the mask hides of the place leaves no trace.
    assert torch.equal(sketch(torch.where(mask, -voi, voi), mask, forms, grey), shown)


def test_without_lung_a_sketch_has_that_of_the_phantom():
    voi, mask, *_ = sketched()
    assert lung_level(torch.ones_like(voi), mask).flatten().tolist() == [-0.75] * 3


def test_the_grey_value_of_a_sketch_is_found_again():
    _, mask, forms, grey, shown = sketched((-0.4, 0.2, 0.6))
    torch.testing.assert_close(grey_of(shown, mask, forms), grey)


def test_a_nodule_is_put_in_beside_what_is_brighter():
    voi, mask, forms, grey, shown = sketched()
    voi[:, :, 6:9, 6:9] = 0.9  # a vessel
    made = shown + 0.05
    filled = put_in(voi, mask, forms, grey, shown, made)
    assert torch.equal(filled[~mask], voi[~mask])
    torch.testing.assert_close(filled[:, :, 6:9, 6:9], torch.where(mask, 0.95, voi)[:, :, 6:9, 6:9])
    whole = mask & (forms == 1) & (voi < 0)
    greys = grey[:, None, None, None, None].expand_as(voi)
    torch.testing.assert_close(filled[whole], greys[whole] + 0.05)
    rim = mask & (forms == 0) & (voi < 0)
    torch.testing.assert_close(filled[rim], voi[rim] + 0.05)


def test_a_form_is_dilated_by_a_ball():
    forms = torch.full((1, 1, 9, 9, 9), 0.4)
    forms[0, 0, 4, 4, 4] = 0.6
    for voxels in (1, 2):
        assert torch.equal(dilate(forms, voxels)[0, 0], distance_mm(9, 1.0) <= voxels)


def test_a_grey_value_is_that_of_a_nodule_of_about_the_size():
    network = generator()
    radii = torch.linspace(2, 12, EXAMPLES)
    network.examples.copy_(torch.stack([radii, -radii / 20], 1))
    drawn = np.array([network.draw_grey(6.0, np.random.default_rng(seed)) for seed in range(40)])
    assert abs(drawn + 0.3).max() <= 10 / EXAMPLES * NEAREST / 20
    assert len(set(drawn)) > NEAREST / 2


@pytest.mark.parametrize("sees_inside", [False, True])
def test_an_untrained_network_changes_next_to_nothing(sees_inside):
    voi, mask, radius_mm = conditions()
    network = Generator(4, image_size=SIZE, voi_spacing_mm=SPACING_MM, sees_inside=sees_inside)
    filled, replaced = network.fill(voi, mask, radius_mm, network.draw_latent(3, rng()))
    if sees_inside:
        share = 1 / (1 + np.exp(3))
        torch.testing.assert_close(replaced, share * mask)
        torch.testing.assert_close(filled, voi + share * mask * (lung_level(voi, mask) - voi))
    else:
        assert torch.equal(replaced, mask.float())
        assert torch.equal(filled, voi)


def test_an_eraser_says_what_it_replaces_and_by_what():
    voi, mask, radius_mm = conditions()
    network = generator(sees_inside=True)
    nn.init.zeros_(network.to_voi.weight)
    network.to_voi.bias.data = torch.tensor([0.25, 3.0])
    filled, replaced = network.fill(voi, mask, radius_mm, network.draw_latent(3, rng()))
    torch.testing.assert_close(replaced, 0.5 * mask)
    torch.testing.assert_close(filled, torch.where(mask, (voi + lung_level(voi, mask) + 0.25) / 2, voi))


def test_radius_and_noise_are_conditions_of_their_own():
    voi, mask, radius_mm = conditions()
    network = generator()
    first, second = (network.draw_latent(3, rng(seed)) for seed in (1, 2))
    filled = network(voi, mask, radius_mm, first)
    assert torch.equal(filled, network(voi, mask, radius_mm, first))
    assert (filled[mask] != network(voi, mask, radius_mm, second)[mask]).float().mean() > 0.9
    assert not torch.equal(filled[mask], network(voi, mask, radius_mm + 0.1, first)[mask])


@pytest.mark.parametrize("size", [16, 24, 32])
def test_the_noise_at_the_bottleneck_is_standard_normal(size):
    network = generator(size=size)
    seen = []
    network.up[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, -1]))
    images = 40
    voi, radius_mm = torch.zeros(images, 1, *(size,) * 3), torch.full((images,), 5.0)
    mask = sphere_mask(radius_mm, size, SPACING_MM)
    with torch.no_grad():
        network(voi, mask, radius_mm, network.draw_latent(images, rng()))
    assert abs(seen[0].mean()) < 0.15
    assert abs(seen[0].std() - 1) < 0.1


def test_one_voi_alone_is_filled_as_in_a_batch():
    conditioned = conditions()
    network = generator()
    noise = network.draw_latent(3, rng())
    together = network(*conditioned, noise)
    for k in range(3):
        alone = network(*(values[k : k + 1] for values in conditioned), noise[k : k + 1])
        torch.testing.assert_close(alone[0], together[k], atol=1e-5, rtol=0)


def test_what_does_not_fit_is_named():
    voi, mask, radius_mm = conditions()
    with pytest.raises(AssertionError, match=r"voi: found \(3, 1, 16, 16, 15\)"):
        generator()(voi[..., 1:], mask, radius_mm, voi)
    with pytest.raises(AssertionError, match=r"radius_mm: found \(2,\)"):
        generator()(voi, mask, radius_mm[:2], voi)


# The condition.


@pytest.mark.parametrize(("size", "spacing_mm"), [(16, 2.0), (24, 1.5), (64, 1.0)])
def test_the_mask_is_that_of_the_vois(size, spacing_mm):
    radii_mm = [1.0, 3.0, 4.7, 7.5, 11.0]
    masks = sphere_mask(torch.tensor(radii_mm), size, spacing_mm)
    for mask, radius_mm in zip(masks, radii_mm, strict=True):
        assert (mask[0].numpy() == grids.sphere(size, spacing_mm, radius_mm)).all()


def test_the_sphere_shows_fractions_of_a_voxel():
    radii_mm = torch.tensor([5.0, 5.2, 9.0])
    spheres, away = sphere_map(radii_mm, SIZE, SPACING_MM)[:, 0], distance_mm(SIZE, SPACING_MM)
    assert away.min() == pytest.approx(3**0.5 * SPACING_MM / 2)
    for sphere, radius_mm in zip(spheres, radii_mm, strict=True):
        assert ((sphere > 0) == (away < radius_mm)).all()
        near = (away - radius_mm).abs() < 2 * SPACING_MM
        torch.testing.assert_close(sphere[near] * 2 * SPACING_MM, (radius_mm - away)[near])
        assert (sphere[~near].abs() == 1).all()
    assert (spheres[1] > spheres[0])[spheres[0].abs() < 0.9].all()


# The discriminator.


def test_patches_count_by_what_they_hold_of_the_mask():
    voi, mask, radius_mm = conditions()
    judge = Discriminator(2, image_size=SIZE, voi_spacing_mm=SPACING_MM)
    scores = torch.randn(3, 1, 4, 4, 4, generator=rng())

    class Fixed(nn.Module):
        def forward(self, maps):
            return scores

    judge.layers = Fixed()
    blocks = mask.float().reshape(3, 4, 4, 4, 4, 4, 4).mean((2, 4, 6))
    expected = (scores[:, 0] * blocks).sum((1, 2, 3)) / blocks.sum((1, 2, 3))
    torch.testing.assert_close(judge(voi, mask, radius_mm, voi), expected)


def test_the_pair_and_its_conditions_are_judged():
    voi, mask, radius_mm = conditions()
    torch.manual_seed(0)
    judge = Discriminator(4, image_size=SIZE, voi_spacing_mm=SPACING_MM).eval()
    score = judge(voi, mask, radius_mm, voi)
    assert not torch.equal(score, judge(torch.where(mask, voi, -voi), mask, radius_mm, voi))
    assert not torch.equal(score, judge(voi, mask, radius_mm, torch.where(mask, -voi, voi)))
    assert not torch.equal(score, judge(voi, mask, radius_mm + 0.1, voi))
    assert not torch.equal(score, judge(voi, sphere_mask(radius_mm, SIZE, SPACING_MM), radius_mm, voi))


def test_a_score_is_that_of_the_voi_alone():
    conditioned = conditions()
    torch.manual_seed(0)
    judge = Discriminator(4, image_size=SIZE, voi_spacing_mm=SPACING_MM)
    together = judge(*conditioned, -conditioned[0])
    for k in range(3):
        alone = [values[k : k + 1] for values in conditioned]
        torch.testing.assert_close(judge(*alone, -alone[0])[0], together[k], atol=1e-5, rtol=0)
