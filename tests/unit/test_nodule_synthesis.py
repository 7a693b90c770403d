"""Nodules made in VOIs, and taken out: each from its own seed, and nothing beyond its sphere changed."""

import numpy as np
import pytest
import torch

from scangan.ct.forms import draw_forms
from scangan.ct.grids import sphere
from scangan.ct.window import VOI_WINDOW, to_hounsfield
from scangan.errors import ConfigError
from scangan.models.nodule_cgan import Generator
from scangan.synthesis.nodules import CT_RANGE, blend, fill

SIZE, SPACING_MM, MARGIN_MM = 16, 2.0, 4.0
RADII_MM = [3.0, 5.0, 7.5, 10.0, 4.0]
VOIS = np.random.default_rng(0).uniform(-1024, 900, (5, SIZE, SIZE, SIZE)).astype(np.float32)
AWAY_MM = np.sqrt((((np.indices((SIZE,) * 3) - (SIZE - 1) / 2) * SPACING_MM) ** 2).sum(0))


@pytest.fixture(scope="module")
def generator():
    return a_generator()


def a_generator(**options):
    """One that changes something, as no untrained one does."""
    torch.manual_seed(0)
    network = Generator(4, image_size=SIZE, voi_spacing_mm=SPACING_MM, **options)
    torch.nn.init.normal_(network.to_voi.weight, std=0.02)
    return network


def filled(generator, vois=VOIS, radii_mm=RADII_MM, seeds=range(5), batch_size=16):
    return fill(generator, vois, radii_mm, MARGIN_MM, SPACING_MM, list(seeds), batch_size)


def test_only_the_sphere_changes(generator):
    before = VOIS.copy()
    made = filled(generator)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(VOIS, before)
    for voi, old, radius_mm in zip(made, VOIS, RADII_MM, strict=True):
        inside = sphere(SIZE, SPACING_MM, radius_mm + MARGIN_MM)
        np.testing.assert_array_equal(voi[~inside], old[~inside])
        changed = voi != old
        # A form of this volume, and its rim.
        assert sphere(SIZE, SPACING_MM, radius_mm).sum() < changed.sum() <= inside.sum()


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batches_do_not_matter(generator, batch_size):
    np.testing.assert_allclose(filled(generator, batch_size=batch_size), filled(generator), atol=0.05, rtol=0)


def test_each_voi_has_its_own_seed(generator):
    made = filled(generator, seeds=[4, 9, 4, 1, 0])
    torch.manual_seed(5)
    backwards = filled(generator, VOIS[::-1], RADII_MM[::-1], [0, 1, 4, 9, 4])
    np.testing.assert_allclose(backwards[::-1], made, atol=0.05, rtol=0)
    other = filled(generator, seeds=[4, 9, 4, 1, 7])
    np.testing.assert_allclose(other[:4], made[:4], atol=0.05, rtol=0)
    assert np.abs(other[4] - made[4]).max() > 1


def test_no_voi_gives_none(generator):
    assert filled(generator, VOIS[:0], [], []).shape == (0, SIZE, SIZE, SIZE)


def test_vois_of_another_kind_are_refused(generator):
    with pytest.raises(ConfigError, match=r"vois: found \(5, 16, 16, 15\) at 2 mm, allowed: \[N, 16, 16, 16\] at 2 mm"):
        filled(generator, VOIS[..., 1:])
    with pytest.raises(ConfigError, match=r"at 1 mm, allowed: \[N, 16, 16, 16\] at 2 mm"):
        fill(generator, VOIS, RADII_MM, MARGIN_MM, 1.0, range(5))
    with pytest.raises(ValueError, match="found 5 VOIs, 4 radii and 5 seeds"):
        filled(generator, radii_mm=RADII_MM[:4])


def test_the_eraser_fills_the_whole_sphere():
    eraser = a_generator(sees_inside=True)
    for voi, old, radius_mm in zip(filled(eraser), VOIS, RADII_MM, strict=True):
        inside = sphere(SIZE, SPACING_MM, radius_mm + MARGIN_MM)
        np.testing.assert_array_equal(voi[~inside], old[~inside])
        assert (voi[inside] != old[inside]).mean() > 0.99


def test_an_untrained_injector_paints_its_sketch_with_the_grain_of_the_place():
    network = Generator(4, image_size=SIZE, voi_spacing_mm=SPACING_MM)
    network.examples.copy_(torch.tensor([[5.0, 0.4]]))
    lung = np.random.default_rng(0).normal(-850, 30, (1, SIZE, SIZE, SIZE)).astype(np.float32)
    [made] = fill(network, lung, [8.0], MARGIN_MM, SPACING_MM, [3])
    [form] = draw_forms(np.random.default_rng(3), [8.0], SIZE, SPACING_MM)
    whole = form == 1
    assert made[whole].mean() == pytest.approx(to_hounsfield(0.4), abs=10)
    assert made[whole].std() == pytest.approx(30, rel=0.3)
    # Where nothing is replaced, nothing changes, however near.
    np.testing.assert_array_equal(made[form == 0], lung[0][form == 0])


def test_the_blend_is_the_fill_and_a_cosine_over_the_outer_half_of_the_margin():
    new = np.random.default_rng(1).uniform(*VOI_WINDOW, VOIS.shape).astype(np.float32)
    blended = blend(VOIS, new, RADII_MM, MARGIN_MM, SPACING_MM)
    for voi, old, made, radius_mm in zip(blended, VOIS, new, RADII_MM, strict=True):
        share = (2 * (AWAY_MM - radius_mm) / MARGIN_MM - 1).clip(0, 1)
        weight = np.where(share < 1, 0.5 + 0.5 * np.cos(np.pi * share), 0)
        np.testing.assert_allclose(voi, np.rint(old) + weight * (made - old), atol=0.51)
        beyond = weight == 0
        np.testing.assert_array_equal(voi[beyond], np.rint(old[beyond]))


def test_a_nodule_may_be_brighter_than_anything_in_the_voi():
    lung = np.full((1, SIZE, SIZE, SIZE), -850, np.float32)
    blended = blend(lung, np.full_like(lung, 300), [5.0], MARGIN_MM, SPACING_MM)
    assert blended.max() == 300
    assert CT_RANGE[0] < blended.min() == -850
