"""Lung masks of bodies whose lungs are known; what fails says why, and nothing raises."""

import time

import numpy as np
import pytest

from scangan.ct.lungs import lung_mask
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
        (np.zeros((1, 1, 1)), "no body"),
        (RANDOM.integers(-1000, 400, (3, 64, 64)), "no air within a body"),
        (RANDOM.normal(-400, 500, (30, 64, 64)), "no air within a body"),
    ],
)
def test_what_is_no_chest_gives_an_empty_mask_and_a_reason(hounsfield, failure, spacing_mm):
    found = lung_mask(Volume(hounsfield.astype(np.int16), (spacing_mm,) * 3, (0.0, 0.0, 0.0)))
    assert found.mask.shape == hounsfield.shape
    assert not found.mask.any()
    assert (found.failure, found.volume_ml) == (failure, 0)


def test_a_large_volume_takes_about_a_second():
    volume, _ = chest(1.5, (330, 330, 300), noise=0)
    start = time.process_time()
    lung_mask(volume)
    assert time.process_time() - start < 4  # 0.6 s on an idle core
