"""The classical augmentation against closed forms."""

import pytest
import torch

from scangan.config import Classical
from scangan.training.augment import ClassicalAugmentation, affine_matrices, warp

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
