"""Grain: noise and nothing else of a VOI, put back where it was, and drawn where something else was."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from scangan.ct.grain import Grain, grain_ratio, without_grain


def noise(size=32, sigma=30.0, blur=0.0):
    white = np.random.default_rng(99).normal(size=(size,) * 3)
    blurred = gaussian_filter(white, blur, mode="wrap") if blur else white
    return (sigma * blurred / blurred.std()).astype(np.float32)


def test_of_plain_lung_the_grain_is_its_noise():
    voi = noise() - 850
    grain = Grain.of(voi, 1.0)
    assert grain.is_own.mean() > 0.9
    assert np.abs(grain.own).max() == pytest.approx(90, rel=0.1)
    assert (voi - grain.own)[grain.is_own].std() < 3
    np.testing.assert_array_equal(without_grain(voi[None], 1.0)[0], voi - grain.own)


def test_an_edge_and_a_vessel_are_no_grain():
    voi = noise(sigma=10) - 850
    voi[:, :, 16:] += 800
    voi[:, 8, :] += 300
    grain = Grain.of(voi, 1.0)
    assert np.abs(grain.own).max() < 80
    assert not grain.is_own[:, :, 13:19].any()
    assert not grain.is_own[:, 7:10, :13].any()
    assert grain.is_own[:, 20:, 4:8].mean() > 0.9


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_drawn_grain_has_the_deviation_and_the_spectrum_of_the_own(blur):
    field = noise(blur=blur)
    grain = Grain.of(field - 850, 1.0)
    drawn = grain.draw(1)
    assert grain.deviation == pytest.approx((field - gaussian_filter(field, 2.5)).std(), rel=0.05)
    assert drawn.std() == pytest.approx(grain.deviation, rel=0.01)
    of_own, of_drawn = (each - gaussian_filter(each, 1) for each in (grain.own, drawn))
    assert of_drawn.std() == pytest.approx(of_own.std(), rel=0.1)
    np.testing.assert_array_equal(drawn, grain.draw(1))
    assert np.abs(np.corrcoef(drawn.ravel(), grain.own.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize(("spacing_mm", "blur"), [(1.0, 0.0), (1.0, 0.8), (1.5, 0.6)])
def test_small_vessels_everywhere_are_no_grain(spacing_mm, blur):
    """As in a lung, most of whose voxels show some: what a Gaussian takes away is several times the noise."""
    field, size = noise(48, 12.0, blur), 48
    tubes = np.abs(gaussian_filter(np.random.default_rng(3).normal(size=(size,) * 3), 1.5 / spacing_mm))
    shown = 300 * (tubes > np.quantile(tubes, 0.7)).astype(np.float32)
    shown[:, :, :12] = 0  # of a VOI some parts are quiet
    shown = gaussian_filter(shown, 0.5)
    noise_alone = (field - gaussian_filter(field, 2.5 / spacing_mm)).std()
    taken_away = shown + field - gaussian_filter(shown + field, 2.5 / spacing_mm)
    assert taken_away.std() > 5 * noise_alone
    grain = Grain.of(shown + field - 850, spacing_mm)
    assert grain.deviation == pytest.approx(noise_alone, rel=0.15)
    drawn, second = grain.draw(0), lambda values: np.abs(np.diff(values, 2, axis=2)).mean()
    assert second(drawn) == pytest.approx(second(field), rel=0.2)


@pytest.mark.parametrize("spacing_mm", [1.0, 5.5])
def test_with_what_is_left_of_its_own_drawn_grain_makes_as_much_as_before(spacing_mm):
    voi = noise() - 850
    share = np.linspace(0, 1, 32, dtype=np.float32)[:, None, None]
    made = (1 - share) * voi + share * -850 + Grain.of(voi, spacing_mm).draw_over(share, 0)
    deviations = (made + 850).std((1, 2))
    np.testing.assert_allclose(deviations, 30, rtol=0.15)
    np.testing.assert_array_equal(made[0], voi[0])


def test_a_voi_beyond_its_scan_has_grain_where_the_scan_is():
    voi = np.full((24, 24, 24), -1000, np.float32)
    empty = Grain.of(voi, 1.0)
    assert not empty.own.any()
    assert not empty.draw(0).any()
    voi[:12] = noise(24)[:12] - 1000
    grain = Grain.of(voi, 1.0)
    assert grain.own[:8].std() == pytest.approx(30, rel=0.1)
    assert not grain.own[22:].any()


@pytest.mark.parametrize("level", [-850, -900, -970])
@pytest.mark.parametrize(("size", "spacing_mm"), [(32, 1.5), (64, 1.0)])
def test_beyond_its_scan_a_voi_is_not_taken_for_quiet(size, spacing_mm, level):
    lung = noise(size, 12.0)
    voi = np.maximum(level + lung, -1024)
    for axis, edge in ((0, 0.3), (2, 0.2)):  # beyond two faces
        np.moveaxis(voi, axis, 0)[: round(edge * size)] = -1000
    expected = (lung - gaussian_filter(lung, 2.5 / spacing_mm)).std()
    assert Grain.of(voi, spacing_mm).deviation == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("sigma", [1.0, 3.0, 30.0])
def test_quiet_scans_have_little_grain(sigma):
    assert Grain.of(noise(sigma=sigma) - 850, 1.0).deviation == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7)])
def test_the_ratio_of_grain_inside_and_around(spacing):
    rng, shape = np.random.default_rng(0), tuple(round(40 / step) for step in spacing)
    centre = (np.array(shape) - 1) / 2
    away = np.linalg.norm((np.moveaxis(np.indices(shape), 0, -1) - centre) * spacing, axis=-1)
    lung = np.rint(-850 + np.where(away <= 8, 15, 30) * rng.normal(size=shape)).astype(np.int16)
    assert grain_ratio(lung, spacing, centre, 7, 4) == pytest.approx(0.5, rel=0.1)
    assert np.isnan(grain_ratio(np.full(shape, -850, np.int16), spacing, centre, 7, 4))
    assert np.isnan(grain_ratio(lung, spacing, centre, 0.5, 4))


def test_edges_are_hardly_taken_for_grain():
    """A high-pass finds several times as much in a ball that is half in the wall as around it."""
    lung = np.rint(noise(40) - 850).astype(np.int16)
    lung[:, :, 20:] += 850
    lung[17:20, 17:20] += 300
    centre = (19.5,) * 3
    assert 1 < grain_ratio(lung, (1.0, 1.0, 1.0), centre, 5, 3) < 1.8
    fine = lung - gaussian_filter(lung.astype(float), 1)
    inside = np.linalg.norm(np.indices(lung.shape).T - centre, axis=-1).T <= 3.5
    assert fine[inside].std() > 4 * fine[:, :, :10].std()
