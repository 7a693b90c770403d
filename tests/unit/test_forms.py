"""Forms of nodules: their volume, and that they are as rough as LIDC-IDRI's outlines."""

import numpy as np
import pytest

from scangan.ct.forms import Form, form_of

ANGLES = np.linspace(-np.pi, np.pi, 128, endpoint=False)


@pytest.fixture(scope="module")
def forms():
    rng = np.random.default_rng(0)
    return [Form.draw(rng) for _ in range(300)]


def test_a_form_has_the_volume_of_its_sphere(forms):
    for form in forms[:5]:
        volume = form.shares(32, 1.0, 8.0).sum()
        assert volume == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.04)


def test_no_place_lies_within_a_form_beyond_its_longest(forms):
    for form in forms[:20]:
        directions = np.random.default_rng(1).standard_normal((500, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        surface = form.surface(directions)
        assert 0 < surface.min() < 1 < surface.max() <= form.longest
        np.testing.assert_allclose(form.depth_mm(3 * directions, 4.0), 4 * surface - 3)


def test_forms_are_as_rough_as_the_outlines_of_lidc(forms):
    section = np.stack([0 * ANGLES, np.sin(ANGLES), np.cos(ANGLES)], 1)
    lobes, spicules = [], []
    for form in forms:
        radius = form.surface(section)
        # About the centroid, as the outlines were measured.
        points = radius * np.exp(1j * ANGLES)
        points -= (points * radius**2).mean() / (radius**2).mean() * 2 / 3
        order = np.argsort(np.angle(points))
        radius = np.interp(ANGLES, np.angle(points)[order], abs(points)[order], period=2 * np.pi)
        orders = abs(np.fft.rfft(radius / np.sqrt((radius**2).mean()))) / 64 / np.sqrt(2)
        lobes.append(np.sqrt((orders[2:5] ** 2).sum()))
        spicules.append(np.sqrt((orders[5:13] ** 2).sum()))
    np.testing.assert_allclose(np.percentile(lobes, [10, 50, 90]), [0.058, 0.121, 0.25], atol=0.02)
    np.testing.assert_allclose(np.percentile(spicules, [10, 50, 90]), [0.026, 0.047, 0.103], atol=0.01)


def lung_with(shares):
    """A VOI, [32, 32, 32] in HU, of lung with a nodule of these shares."""
    return -850 + 880 * shares


def test_a_form_is_found_again_between_voxels(forms):
    for form in forms[:5]:
        shares = form.shares(32, 1.0, 8.0)
        found = form_of(lung_with(shares), 1.0, 8.0)
        assert abs(found - shares).mean() < 0.004
        assert found.sum() == pytest.approx(shares.sum(), rel=0.03)


def test_a_vessel_and_a_wall_are_no_part_of_a_form():
    ball = Form(np.zeros((1, 3)), np.zeros(1), np.zeros(1), 1.0, 1.0).shares(32, 1.0, 6.0)
    attached = lung_with(ball)
    attached[14:18, 14:18] = 30  # a vessel through it
    attached[:, :, :11] = 30  # a wall that it touches
    found = form_of(attached, 1.0, 6.0)
    assert found.sum() == pytest.approx(ball.sum(), rel=0.15)
    assert (found[ball > 0.5] > 0.5).mean() > 0.85
    assert not found[14:18, 14:18, 26:].any()


def test_where_nothing_is_brighter_the_form_is_the_sphere():
    found = form_of(np.full((16, 16, 16), -850.0), 2.0, 7.0)
    assert found.sum() * 8 == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.05)
