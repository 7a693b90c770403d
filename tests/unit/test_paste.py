"""Paste-back: outside the margin not a bit, within its inner half the whole change; the scan's own range."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from scangan.config import VoiCut
from scangan.ct.grain import Grain
from scangan.ct.grids import MOST_OUTSIDE, cut_voi, outside_share, sphere
from scangan.errors import DataError
from scangan.synthesis.paste import fill_place, paste, paste_into

RADIUS, MARGIN = 5.0, 3.0
VOI = VoiCut(size=16, spacing_mm=1.0, margin_mm=3.0)


def a_scan(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(-1024, 1500, shape, np.int16)


def away_mm(shape: tuple[int, ...], spacing: tuple[float, ...], centre: tuple[float, ...]) -> np.ndarray:
    places = np.moveaxis(np.indices(shape), 0, -1)
    return np.linalg.norm((places - centre) * spacing, axis=-1)


@pytest.mark.parametrize(
    ("spacing", "centre", "voi_mm"),
    [
        ((1.0, 1.0, 1.0), (20.0, 20.0, 20.0), 1.0),
        ((2.5, 0.7, 0.9), (12.3, 22.8, 19.5), 1.0),
        ((0.6, 3.0, 1.3), (30.4, 8.1, 11.9), 2.0),
        ((1.0, 1.0, 1.0), (1.0, 38.9, 39.2), 1.0),  # at the scan's edge
    ],
)
def test_outside_the_margin_not_one_voxel_changes(spacing, centre, voi_mm):
    scan = a_scan(40, 40, 40)
    kept = scan.copy()
    vois = np.full((24, 24, 24), -800.0, np.float32), np.full((24, 24, 24), -723.0, np.float32)
    pasted = paste(scan, spacing, centre, *vois, voi_mm, RADIUS, MARGIN)
    away = away_mm(scan.shape, spacing, centre)
    outside = away >= RADIUS + MARGIN
    assert pasted.dtype == np.int16
    assert (scan == kept).all()
    assert (pasted[outside] == scan[outside]).all()
    expected = (scan + 77).clip(scan.min(), scan.max())
    whole = away <= RADIUS + MARGIN / 2
    assert (pasted[whole] == expected[whole]).all()
    weight = (1 + np.cos(np.pi * (2 * (away - RADIUS) / MARGIN - 1))) / 2
    between = ~outside & ~whole
    expected = (scan + weight * 77.0).clip(scan.min(), scan.max())
    assert between.any()
    assert np.abs(pasted - expected)[between].max() <= 0.5 + 1e-6
    paste_into(scan, spacing, centre, *vois, voi_mm, RADIUS, MARGIN)
    assert (scan == pasted).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.7, 0.9), (0.6, 3.0, 1.3)])
def test_a_filling_that_changes_nothing_changes_not_one_voxel(spacing):
    scan = a_scan(24, 26, 28)
    kept, rng = scan.copy(), np.random.default_rng(3)
    limits = int(scan.min()), int(scan.max())
    for centre in rng.uniform(-0.5, np.array(scan.shape) - 0.5, (334, 3)):
        if outside_share(scan.shape, spacing, centre, 16, 1.0) <= MOST_OUTSIDE:
            changed = fill_place(scan, spacing, centre, 4.0, lambda vois, *_: vois.copy(), 0, VOI, limits)
            assert changed == 0
    assert (scan == kept).all()


def test_on_the_scans_own_grid_the_voi_goes_back_to_the_bit():
    scan, centre = a_scan(40, 40, 40), (18.5, 20.5, 19.5)
    before = cut_voi(scan, (2, 2, 2), centre, 20, 2.0)
    after = np.rint(np.random.default_rng(2).uniform(-900, 300, (20, 20, 20))).astype(np.float32)
    within = sphere(20, 2.0, RADIUS)
    pasted = paste(scan, (2, 2, 2), centre, before, after, 2.0, RADIUS, MARGIN)
    assert (cut_voi(pasted, (2, 2, 2), centre, 20, 2.0)[within] == after[within]).all()


@pytest.mark.parametrize("centre", [(20.0, 20.0, 20.0), (20.5, 20.5, 20.5), (20.2, 19.6, 20.9)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 0.7), (2.5, 0.7, 0.7)])
def test_a_network_that_draws_no_grain_leaves_the_scans_own(spacing, centre):
    scan = np.rint(np.random.default_rng(0).normal(-850, 40, (40, 56, 56))).astype(np.int16)
    noise = scan + 850.0

    def smooth(vois, *_):
        return Grain.of(vois[0], 1.0).draw_over(np.ones_like(vois[0]), 0)[None]

    fill_place(scan, spacing, centre, 9.0, smooth, 0, VoiCut(size=32, spacing_mm=1.0, margin_mm=4.0), (-1024, 3000))
    inside = away_mm(scan.shape, spacing, centre) <= 8
    fine = [values - gaussian_filter(values, 1) for values in (noise, scan.astype(float))]
    assert fine[1][inside].std() == pytest.approx(fine[0][inside].std(), rel=0.2)
    assert scan[inside].mean() == pytest.approx(0, abs=6)


@pytest.mark.parametrize("spacing", [(1.25, 0.7, 0.7), (2.5, 1.7, 1.7)])
def test_a_blob_lies_where_and_as_large_as_it_should_on_any_grid(spacing):
    """A Gaussian's mass, place and width survive finer and coarser grids."""
    centre, sigma = np.array([14.2, 25.6, 24.7]), 3.0
    offsets = (np.arange(32) - 15.5) * 1.0
    squares = offsets[:, None, None] ** 2 + offsets[:, None] ** 2 + offsets**2
    voi = (1000 * np.exp(-squares / (2 * sigma**2))).astype(np.float32)
    scan = np.zeros((28, 50, 50), np.int16)
    scan[0, 0, 0] = 2000
    pasted = paste(scan, spacing, centre, np.zeros_like(voi), voi, 1.0, 12.0, 4.0).astype(float)
    pasted[0, 0, 0] = 0
    mass = pasted.sum()
    places_mm = np.moveaxis((np.indices(scan.shape).T - centre).T, 0, -1) * spacing
    assert mass * np.prod(spacing) == pytest.approx(1000 * (2 * np.pi) ** 1.5 * sigma**3, rel=0.02)
    mean = (places_mm * pasted[..., None]).sum((0, 1, 2)) / mass
    assert np.abs(mean).max() < 0.05
    variance = (places_mm**2 * pasted[..., None]).sum((0, 1, 2)) / mass
    # Linear interpolation widens by a sixth of a squared voxel each time, or by that of the coarser grid.
    assert (np.abs(variance - sigma**2) < np.maximum(0.35, np.square(spacing) / 4)).all()


def test_a_coarser_scan_gets_the_mean_of_what_its_voxels_cover():
    planes = np.where(np.arange(25) % 2, 1000.0, 0.0)
    voi = np.broadcast_to(planes[:, None, None], (25, 25, 25))
    scan = np.zeros((20, 40, 40), np.int16)
    scan[0, 0, 0] = 1000
    pasted = paste(scan, (2, 1, 1), (10, 20, 20), np.zeros_like(voi), voi, 1.0, RADIUS, MARGIN)
    within = pasted[away_mm(pasted.shape, (2, 1, 1), (10, 20, 20)) <= RADIUS]
    np.testing.assert_allclose(within, 500, rtol=0.02)


def test_the_scans_own_range_is_kept():
    scan = np.random.default_rng(0).integers(-1000, 200, (30, 30, 30), np.int16)
    none, hot, cold = (np.full((24, 24, 24), value, np.float32) for value in (0, 9000, -9000))
    assert paste(scan, (1, 1, 1), (15, 15, 15), none, hot, 1.0, RADIUS, MARGIN).max() == scan.max()
    assert paste(scan, (1, 1, 1), (15, 15, 15), none, cold, 1.0, RADIUS, MARGIN).min() == scan.min()
    paste_into(scan, (1, 1, 1), (15, 15, 15), none, hot, 1.0, RADIUS, MARGIN, limits=(-1024, 3071))
    assert scan[15, 15, 15] == 3071
    before = scan.copy()
    paste_into(scan, (1, 1, 1), (15, 15, 15), none, cold, 1.0, RADIUS, MARGIN, limits=(-500, 100))
    beyond = away_mm(scan.shape, (1, 1, 1), (15, 15, 15)) >= RADIUS + MARGIN
    assert (scan[beyond] == before[beyond]).all()
    assert scan[15, 15, 15] == -500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"centre_voxel_zyx": (31, 5, 5)},
            r"^paste: centre_voxel: found \(31\.0, 5\.0, 5\.0\), allowed: .* 30 x 30 x 30$",
        ),
        ({"radius_mm": 9.5}, r"^paste: radius_mm, margin_mm: found 9\.5, 3, allowed: above 0, and 12 together$"),
        ({"margin_mm": 0.0}, r"^paste: radius_mm, margin_mm: found 5, 0, allowed"),
        ({"after": np.full((24, 24, 24), np.nan, np.float32)}, r"^paste: voi: found NaN or infinity, allowed"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    call = {
        "hounsfield": np.zeros((30, 30, 30), np.int16),
        "spacing_mm_zyx": (1, 1, 1),
        "centre_voxel_zyx": (15, 15, 15),
        "before": np.zeros((24, 24, 24), np.float32),
        "after": np.zeros((24, 24, 24), np.float32),
        "voi_spacing_mm": 1.0,
        "radius_mm": RADIUS,
        "margin_mm": MARGIN,
    }
    with pytest.raises(DataError, match=message):
        paste(**call | change)
