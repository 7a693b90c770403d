"""The classical augmentation, random crops and flips against closed forms."""

import math

import pytest
import torch
from torch.nn import functional as F

from scangan.config import Classical
from scangan.training.augment import (
    ClassicalAugmentation,
    affine_matrices,
    crop_matrices,
    random_horizontal_flip,
    random_resized_crop,
    volume_matrices,
    warp,
)

OFF = {"horizontal_flip": False, "vertical_flip": False, "rotation_degrees": 0, "shift": 0, "shear": 0, "zoom": 0}


@pytest.fixture
def images():
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def augment(images, seed=0, **settings):
    return ClassicalAugmentation(Classical(**OFF | settings))(images, torch.Generator().manual_seed(seed))


def one_map(images, **values):
    """The same map for every image; what is not given is the identity's."""
    neutral = {
        "flip_x": False,
        "flip_y": False,
        "degrees": 0.0,
        "shift_x": 0.0,
        "shift_y": 0.0,
        "shear": 0.0,
        "zoom": 1.0,
    }
    count = len(images)
    return warp(images, affine_matrices(**{name: torch.tensor([v] * count) for name, v in (neutral | values).items()}))


def test_nothing_set_is_the_identity(images):
    assert torch.equal(augment(images), images)


@pytest.mark.parametrize(("setting", "axis"), [("horizontal_flip", 3), ("vertical_flip", 2)])
def test_flip_mirrors_some_images_exactly(images, setting, axis):
    flipped = augment(images, **{setting: True})
    mirrored = [torch.equal(after, before.flip(axis - 1)) for before, after in zip(images, flipped, strict=True)]
    unchanged = [torch.equal(after, before) for before, after in zip(images, flipped, strict=True)]
    assert all(a != b for a, b in zip(mirrored, unchanged, strict=True))
    assert any(mirrored)
    assert any(unchanged)


@pytest.mark.parametrize("size", [32, 31])
def test_rotation_is_counter_clockwise(size):
    images = torch.rand(2, 1, size, size)
    torch.testing.assert_close(one_map(images, degrees=90.0), torch.rot90(images, 1, (2, 3)), atol=1e-4, rtol=0)


def test_shift_moves_right_and_down_and_fills_with_zeros(images):
    shifted = one_map(images, shift_x=4 / 32, shift_y=2 / 32)
    torch.testing.assert_close(shifted[:, :, 2:, 4:], images[:, :, :-2, :-4], atol=1e-5, rtol=0)
    assert shifted[:, :, :2].abs().max() < 1e-5
    assert shifted[:, :, :, :4].abs().max() < 1e-5


def test_zoom_out_by_two_averages_pairs(images):
    expected = torch.zeros_like(images)
    expected[:, :, 8:24, 8:24] = torch.nn.functional.avg_pool2d(images, 2)
    torch.testing.assert_close(one_map(images, zoom=0.5), expected, atol=1e-5, rtol=0)


def test_shear_moves_rows_by_their_height():
    column = torch.zeros(1, 1, 33, 33)
    column[..., 16] = 1
    sheared = one_map(column, shear=1.0)[0, 0]
    torch.testing.assert_close(sheared, torch.eye(33).flip(1), atol=1e-4, rtol=0)


def test_shear_is_also_right_under_a_flip():
    column = torch.zeros(1, 1, 33, 33)
    column[..., 16] = 1
    torch.testing.assert_close(one_map(column, shear=1.0, flip_y=True)[0, 0], torch.eye(33), atol=1e-4, rtol=0)


def test_the_seed_repeats_it_and_every_image_has_its_own_draw():
    same = torch.rand(1, 1, 32, 32).expand(4, -1, -1, -1)
    everything = Classical(vertical_flip=True).model_dump()
    first = augment(same, seed=1, **everything)
    assert torch.equal(first, augment(same, seed=1, **everything))
    assert not torch.equal(first, augment(same, seed=2, **everything))
    assert len({image.sum().item() for image in first}) == 4


def test_shifts_stay_in_their_range():
    dot = torch.zeros(200, 1, 33, 33)
    dot[:, :, 16, 16] = 1
    shifted = augment(dot, shift=0.1)
    rows = shifted.sum(dim=(1, 3)) @ torch.arange(33.0) - 16
    assert rows.abs().max() <= 3.3 + 1e-3
    assert rows.max() > 2.5
    assert rows.min() < -2.5


# Random resized crops and flips.


def crop(images, left, top, width, height):
    rectangle = (torch.full((len(images),), value) for value in (left, top, width, height))
    return warp(images, crop_matrices(*rectangle), padding="border")


@pytest.mark.parametrize("size", [32, 31, 224])
def test_a_crop_of_the_full_area_is_the_identity(size):
    images = torch.rand(2, 1, size, size)
    torch.testing.assert_close(crop(images, 0.0, 0.0, 1.0, 1.0), images, atol=1e-4, rtol=0)
    # No other proportions than those of the image fit.
    torch.testing.assert_close(random_resized_crop(images, (1.0, 1.0)), images, atol=1e-4, rtol=0)


def test_a_crop_is_cutting_out_and_resizing(images):
    resized = F.interpolate(images[:, :, 4:28, 8:24], (32, 32), mode="bilinear", align_corners=False)
    # At its rim a crop is blended with the pixels beside it, which a cut image does not have.
    inner = slice(1, -1)
    torch.testing.assert_close(
        crop(images, 8 / 32, 4 / 32, 16 / 32, 24 / 32)[:, :, inner, inner], resized[:, :, inner, inner]
    )


def test_a_crop_at_the_border_has_no_dark_rim(images):
    resized = F.interpolate(images[:, :, :16, :16], (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(crop(images, 0.0, 0.0, 0.5, 0.5)[:, :, :-1, :-1], resized[:, :, :-1, :-1])
    white = torch.ones(200, 1, 32, 32)
    torch.testing.assert_close(random_resized_crop(white, (0.08, 1.0)), white)


def random_rectangles(area, count=4000):
    """Left, top, width and height [count], in edges, found again from crops of two ramps."""
    middles = (torch.arange(32) + 0.5) / 32
    ramps = torch.stack([middles.expand(32, 32), middles[:, None].expand(32, 32)]).expand(count, -1, -1, -1)
    crops = random_resized_crop(ramps, area, torch.Generator().manual_seed(0)).double()
    width, height = (32 * crops[:, 0, 16, 8:24].diff().mean(1), 32 * crops[:, 1, 8:24, 16].diff().mean(1))
    left, top = crops[:, 0, 16, 16] - width * 16.5 / 32, crops[:, 1, 16, 16] - height * 16.5 / 32
    return left, top, width, height


@pytest.mark.parametrize("area", [(0.3, 0.5), (0.08, 1.0)])
def test_the_area_of_a_random_crop_is_uniform_in_its_range(area):
    _, _, width, height = random_rectangles(area)
    least, greatest = area
    quantiles = torch.linspace(0, 1, 11, dtype=torch.float64)
    found = torch.quantile(width * height, quantiles)
    torch.testing.assert_close(found, least + (greatest - least) * quantiles, atol=0.02, rtol=0)


def test_its_proportions_are_log_uniform_and_its_place_uniform():
    left, top, width, height = random_rectangles((0.3, 0.5))
    quantiles = torch.linspace(0, 1, 11, dtype=torch.float64)
    proportions = torch.quantile(torch.log(width / height), quantiles)
    torch.testing.assert_close(proportions, (2 * quantiles - 1) * math.log(4 / 3), atol=0.02, rtol=0)
    for start, length in ((left, width), (top, height)):
        torch.testing.assert_close(torch.quantile(start / (1 - length), quantiles), quantiles, atol=0.03, rtol=0)


def test_a_random_crop_lies_within_the_image():
    left, top, width, height = random_rectangles((0.5, 1.0))
    for start, length in ((left, width), (top, height)):
        assert start.min() > -1e-5
        assert (start + length).max() < 1 + 1e-5
    assert torch.log(width / height).abs().max() < math.log(4 / 3) + 1e-4


@pytest.mark.parametrize("size", [(32, 32), (31, 17)])
def test_a_horizontal_flip_mirrors_half_of_the_images_exactly(size):
    images = torch.rand(200, 3, *size)
    flipped = random_horizontal_flip(images, torch.Generator().manual_seed(0))
    mirrored = (flipped == torch.flip(images, [3])).flatten(1).all(1)
    unchanged = (flipped == images).flatten(1).all(1)
    assert torch.equal(mirrored, ~unchanged)
    assert 80 < mirrored.sum() < 120
    assert torch.equal(random_horizontal_flip(images, torch.Generator().manual_seed(0)), flipped)


def test_every_image_has_a_crop_of_its_own_and_the_seed_repeats_it():
    images = torch.rand(1, 1, 32, 32).expand(8, -1, -1, -1)
    first, again, other = (random_resized_crop(images, (0.2, 0.8), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({image.sum().item() for image in first}) == 8


def test_volumes_are_shifted_along_each_axis_and_mirrored_left_to_right():
    volume = torch.rand(1, 1, 8, 8, 8)
    plain = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    one, none = torch.ones(1), torch.zeros(1)
    assert torch.equal(warp(volume, volume_matrices(plain, none, one)), volume)
    mirrored = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    assert torch.allclose(warp(volume, volume_matrices(mirrored, none, one)), volume.flip(-1), atol=1e-6)
    higher = warp(volume, volume_matrices(plain, torch.full((1,), 0.25), one))
    assert torch.allclose(higher[:, :, 2:], volume[:, :, :-2], atol=1e-6)
    assert not higher[:, :, :2].any()


def test_a_zoomed_volume_is_zoomed_along_each_axis_alike():
    ball = torch.zeros(1, 1, 16, 16, 16)
    ball[:, :, 6:10, 6:10, 6:10] = 1
    settings = Classical(rotation_degrees=0, shift=0, shear=0, zoom=0.5, horizontal_flip=False)
    for seed in range(3):
        zoomed = ClassicalAugmentation(settings)(ball, torch.Generator().manual_seed(seed))
        edges = [zoomed.sum(dim=[axis for axis in range(2, 5) if axis != kept]) for kept in (2, 3, 4)]
        assert torch.allclose(edges[0], edges[1], atol=1e-4)
        assert torch.allclose(edges[0], edges[2], atol=1e-4)
        assert abs(zoomed.sum() / 64 - 1) > 0.02
