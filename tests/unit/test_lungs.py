"""Lung masks of bodies whose lungs are known; what fails says why, and nothing raises."""

import time

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

from scangan.ct.lungs import _enlarge, fill_slices, grow, lung_mask
from scangan.ct.volume import Volume
from scangan.phantoms.chest import render_chest

AIR, LUNG, TISSUE, FOAM = -1000, -850, 40, -960
LUNGS_MM = {"right": (-75, 0, 0), "left": (75, 0, 0)}
SEMIAXES_MM = (58, 80, 105)


def ellipsoid(grid, centre, semiaxes):
    return sum(((axis - middle) / edge) ** 2 for axis, middle, edge in zip(grid, centre, semiaxes, strict=True)) <= 1


def grid_of(spacing_mm, extent_mm):
    x, y, z = (np.arange(round(extent / spacing_mm)) * spacing_mm - extent / 2 for extent in extent_mm)
    return x[None, None, :], y[None, :, None], z[:, None, None]


def chest(spacing_mm, extent_mm=(420, 340, 300), lungs=("right", "left"), scale=1.0, table=True, noise=30):
    """A body on a table with a hollow shell, a windpipe, and in each lung a vessel and a nodule at the wall."""
    x, y, z = grid = grid_of(spacing_mm, extent_mm)
    everywhere = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), bool)
    hounsfield = np.full(everywhere.shape, AIR, np.float32)
    if table:
        shell = (np.abs(x) < 200) & (np.abs(y - 130) < 20) | everywhere
        inside = (np.abs(x) < 196) & (np.abs(y - 130) < 16) | everywhere
        hounsfield[shell] = 0
        hounsfield[inside] = FOAM
    hounsfield[((x / 170) ** 2 + (y / 115) ** 2 <= 1) | everywhere] = TISSUE
    truth = everywhere.copy()
    for name in lungs:
        centre = np.array(LUNGS_MM[name])
        lung = ellipsoid(grid, centre, np.array(SEMIAXES_MM) * scale)
        hounsfield[lung] = LUNG
        hounsfield[lung & ((x - centre[0]) ** 2 + (z - 10) ** 2 < 4**2)] = TISSUE
        wall = np.add(centre, (0, SEMIAXES_MM[1] * scale - 3, 0))
        hounsfield[lung & ellipsoid(grid, wall, (6, 6, 6))] = TISSUE
        truth |= lung
    hounsfield[((x**2 + (y + 20) ** 2 < 9**2) & (z > 20)) | everywhere] = AIR
    hounsfield += np.random.default_rng(0).normal(0, noise, hounsfield.shape)
    return Volume(hounsfield.clip(-1024, 3000).astype(np.int16), (spacing_mm,) * 3, (0.0, 0.0, 0.0)), truth


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("spacing_mm", [2.0, 3.0, 4.5, 6.0])
def test_lungs_with_vessels_and_wall_nodules_are_found(spacing_mm):
    volume, truth = chest(spacing_mm)
    found = lung_mask(volume)
    assert found.failure == ""
    assert found.mask.dtype == bool
    assert dice(found.mask, truth) > 0.95
    assert found.volume_ml == pytest.approx(found.mask.sum() * spacing_mm**3 / 1000)


def test_spacings_may_differ():
    volume, truth = chest(2.0)
    volume = Volume(volume.hounsfield[::3], (2.0, 2.0, 6.0), volume.origin_mm)
    found = lung_mask(volume)
    assert dice(found.mask, truth[::3]) > 0.95
    assert found.volume_ml == pytest.approx(truth.sum() * 2.0**3 / 1000, rel=0.05)


def test_vessels_nodules_and_the_windpipe():
    """Tissue inside the lungs belongs to them, air outside of them does not."""
    volume, truth = chest(2.0, noise=0)
    mask = lung_mask(volume).mask
    vessels_and_nodules = truth & (volume.hounsfield == TISSUE)
    other_air = ~truth & (volume.hounsfield < -400)
    assert mask[vessels_and_nodules].mean() > 0.9
    assert mask[other_air].mean() < 0.001


@pytest.mark.parametrize("extent_mm", [(420, 340, 120), (300, 200, 180)])
def test_a_volume_cropped_to_the_lungs(extent_mm):
    volume, truth = chest(3.0, extent_mm, table=False)
    assert truth[[0, -1]].any()
    found = lung_mask(volume)
    assert found.failure == ""
    assert dice(found.mask, truth) > 0.95


def test_a_slab_of_less_than_a_litre_is_plausible_where_the_scan_cuts_the_lungs_off():
    volume, truth = chest(3.0, (420, 340, 24))
    found = lung_mask(volume)
    assert found.volume_ml < 800
    assert found.failure == ""
    assert dice(found.mask, truth) > 0.95


def test_lungs_that_meet_in_front_of_the_heart():
    volume, truth = chest(3.0)
    x, y, z = grid_of(3.0, (420, 340, 300))
    bridge = (np.abs(x) < 60) & (np.abs(y + 40) < 5) & (np.abs(z) < 40)
    volume.hounsfield[bridge] = LUNG
    found = lung_mask(volume)
    assert found.failure == ""
    assert dice(found.mask, truth | bridge) > 0.95


def test_noise_of_a_low_dose():
    volume, truth = chest(3.0, noise=300)
    assert dice(lung_mask(volume).mask, truth) > 0.95


@pytest.mark.parametrize("cohort", ["lidc", "nlst"])
def test_the_chest_phantom(cohort):
    scan = render_chest([3], cohort, 96, 7.0)
    found = lung_mask(Volume(scan.hounsfield, scan.spacing_mm, scan.origin_mm))
    assert found.failure == ""
    assert dice(found.mask, scan.lungs) > 0.94


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"lungs": ("left",)}, "one lung: 100 % of the volume on one side of the body"),
        ({"scale": 0.4}, "lungs of 0.26 litres, plausible: 0.8 to 10"),
        ({"lungs": ()}, "no air within a body"),
    ],
)
def test_implausible_lungs(changes, failure):
    assert lung_mask(chest(3.0, **changes)[0]).failure == failure


def test_holes_of_pure_air_are_no_lungs():
    volume, truth = chest(3.0)
    volume.hounsfield[truth] = -1000
    assert lung_mask(volume).failure == "lungs of -1000 HU, plausible: -960 to -500"


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("spacing_mm", [0.7, 3.0, 6.0])
@pytest.mark.parametrize(
    ("hounsfield", "failure"),
    [
        (np.full((20, 32, 32), -1000), "no body"),
        (np.full((20, 32, 32), 40), "no air within a body"),
        (np.full((3, 64, 64), 32767), "no air within a body"),
        (np.full((3, 64, 64), -32768), "no body"),
        (np.zeros((1, 1, 1)), "no air within a body"),
        (RANDOM.integers(-1000, 400, (3, 64, 64)), "no air within a body"),
        (RANDOM.normal(-400, 500, (30, 64, 64)), "no air within a body"),
    ],
)
def test_what_is_no_chest_gives_an_empty_mask_and_a_reason(hounsfield, failure, spacing_mm):
    found = lung_mask(Volume(hounsfield.astype(np.int16), (spacing_mm,) * 3, (0.0, 0.0, 0.0)))
    assert found.mask.shape == hounsfield.shape
    assert not found.mask.any()
    assert (found.failure, found.volume_ml) == (failure, 0)


def test_a_large_volume_is_quick():
    volume, _ = chest(1.5, (336, 336, 336), noise=0)
    start = time.process_time()
    lung_mask(volume)
    assert time.process_time() - start < 0.6  # 0.1 s on an idle core


# The quick ways against the plain ones


def test_growing_is_a_threshold_of_the_distance():
    rng = np.random.default_rng(0)
    for _ in range(20):
        shape, spacing = rng.integers(1, 14, 3), rng.choice([0.7, 2.5, 3.0, 4.2], 3)
        mask = rng.random(shape) < 0.02
        mask.flat[rng.integers(mask.size)] = True
        for radius_mm in (*spacing, 10.0):  # a voxel is just as far away as its neighbour
            expected = ndimage.distance_transform_edt(~mask, spacing) <= radius_mm
            np.testing.assert_array_equal(grow(mask, radius_mm, spacing), expected)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.6, 1.0])
def test_holes_are_filled_slice_by_slice(share):
    mask = np.random.default_rng(0).random((6, 20, 30)) < share
    mask[:2, :, 20:] = mask[:, 15:] = False
    np.testing.assert_array_equal(fill_slices(mask), [ndimage.binary_fill_holes(plane) for plane in mask])


@pytest.mark.parametrize("factors", [(1, 1, 1), (1, 2, 4), (3, 2, 1), (5, 3, 2), (7, 8, 9)])
def test_a_mask_is_enlarged_trilinearly(factors):
    coarse = ndimage.gaussian_filter(np.random.default_rng(0).random((9, 12, 10)), 1) > 0.51
    coarse[:, :3] = coarse[:, :, 8:] = False
    shape = np.array(coarse.shape) * factors
    smooth = interpolate(
        torch.from_numpy(coarse)[None, None].double(), size=shape.tolist(), mode="trilinear", align_corners=False
    )[0, 0].numpy()
    cut = tuple(map(slice, shape - np.array(factors) + 1))
    near = np.abs(smooth - 0.5) < 1e-9  # exactly a half is not above it; torch rounds
    found = _enlarge(coarse, factors, shape)
    np.testing.assert_array_equal(found[~near], (smooth > 0.5)[~near])
    assert not found[near].any()
    np.testing.assert_array_equal(_enlarge(coarse, factors, shape - np.array(factors) + 1), found[cut])
