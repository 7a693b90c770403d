"""Spheres of known size are measured as large as they are; tables against closed forms, and intervals over patients."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats
from skimage.feature import graycomatrix, graycoprops

from scangan.config import Evaluation, Fidelity
from scangan.ct.grids import cut_voi, sphere
from scangan.data.voi import VOI_TYPES, VoiSet
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics import nodules as metrics
from scangan.metrics.feature_sets import Features
from scangan.metrics.frechet import feature_statistics, frechet_distance
from scangan.metrics.nodules import (
    BASELINES,
    compare_with_truth,
    detect_injected,
    detector_features,
    eraser_table,
    fill_biharmonic,
    fill_lung_mean,
    injector_table,
    measure_diameters,
    segment_nodule,
    texture,
    voi_features,
    weighted_median,
    with_measured_diameters,
)
from scangan.metrics.patients import COLUMNS
from scangan.phantoms.chest import render_chest

SETTINGS = Evaluation(bootstrap=400)
FACTS = Facts("ct_sgan", "phantom", "demo")
LUNG, NODULE = -850.0, 30.0


def grid(size, spacing_mm, offset=(0.0, 0.0, 0.0), parts=1):
    """z, y, x in mm from a VOI's centre and an offset, of each voxel's parts, for broadcasting."""
    places = ((np.arange(size * parts) + 0.5) / parts - size / 2) * spacing_mm
    return np.meshgrid(*(places - shift for shift in offset), indexing="ij", sparse=True)


def averaged(values, parts):
    size = len(values) // parts
    return values.reshape(size, parts, size, parts, size, parts).mean((1, 3, 5))


def ball(diameter_mm, spacing_mm, size=24, noise=0.0, offset=(0.0, 0.0, 0.0), seed=0):
    """A VOI of lung with a ball at its centre: partial volumes, and the scanner's noise."""
    z, y, x = grid(size, spacing_mm, offset, parts=4)
    share = averaged((z**2 + y**2 + x**2 <= (diameter_mm / 2) ** 2).astype(np.float32), 4)
    speckle = np.random.default_rng(seed).normal(0, noise, share.shape) if noise else 0
    return (LUNG + (NODULE - LUNG) * share + speckle).astype(np.float32)


def vois(voxels, patients=None, diameter_mm=8.0, spacing_mm=2.0, kind="nodule"):
    count = len(voxels)
    table = pd.DataFrame({"voi_id": [f"v{number}" for number in range(count)]}).assign(
        patient_id=patients if patients is not None else [f"p{number}" for number in range(count)],
        kind=kind,
        equivalent_diameter_mm=diameter_mm,
        spacing_mm=spacing_mm,
        data="phantom",
    )
    table = table.assign(scan_id=table.patient_id, z_voxel=0.0, y_voxel=0.0, x_voxel=0.0)
    return VoiSet(np.asarray(voxels, np.float32), table[list(VOI_TYPES)].astype(VOI_TYPES))


@pytest.mark.parametrize("spacing_mm", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("noise", [0.0, 40.0])
def test_balls_are_measured_as_large_as_they_are(spacing_mm, noise):
    """From three voxels on, as well as the grid allows: it rounds what is curved off, and the volume with it."""
    for diameter in (8.0, 12.0, 20.0):
        if diameter < 3 * spacing_mm:
            continue
        for seed, offset in enumerate([(0, 0, 0), (0.4, -0.3, 0.2)]):
            voi = ball(diameter, spacing_mm, round(36 / spacing_mm), noise, np.multiply(offset, spacing_mm), seed)
            found = measure_diameters(voi, spacing_mm)
            assert found.axial == pytest.approx(diameter, rel=0.07, abs=0.4 * spacing_mm)
            assert -0.55 * spacing_mm < found.equivalent - diameter < 0


def test_measured_grows_with_the_ball_and_has_hardly_a_bias():
    diameters = np.arange(6, 21, 2.0)
    got = np.array([measure_diameters(ball(each, 2.0, noise=25), 2.0) for each in diameters])
    assert (np.diff(got, axis=0) > 0).all()
    axial, equivalent = np.median(got / diameters[:, None], axis=0)
    assert axial == pytest.approx(1, abs=0.03)
    assert equivalent == pytest.approx(0.95, abs=0.03)


def test_the_axial_diameter_is_the_greatest_within_a_slice():
    z, y, x = grid(32, 1.0)
    flat = np.where((z / 5) ** 2 + (y / 9) ** 2 + (x / 6) ** 2 <= 1, NODULE, LUNG)
    tall = np.where((z / 9) ** 2 + (y / 5) ** 2 + (x / 5) ** 2 <= 1, NODULE, LUNG)
    assert measure_diameters(flat, 1.0) == pytest.approx((18, 2 * (5 * 9 * 6) ** (1 / 3)), rel=0.06)
    assert measure_diameters(tall, 1.0) == pytest.approx((10, 2 * (9 * 5 * 5) ** (1 / 3)), rel=0.07)


def test_vessels_and_the_wall_are_cut_off():
    z, y, x = grid(32, 1.5)
    alone = ball(12.0, 1.5, 32)
    vessel = np.where((np.hypot(y, x) <= 2.0) & (z > 0) | (np.hypot(z, y - 4) <= 1.6), NODULE, alone)
    wall = np.where(x + 0 * y + 0 * z > 4.5, NODULE, alone)  # it swallows a quarter of the ball's width
    expected = measure_diameters(alone, 1.5)
    assert measure_diameters(vessel, 1.5) == pytest.approx(expected, rel=0.03)
    assert measure_diameters(wall, 1.5) == pytest.approx(expected, rel=0.2)
    # Without any of it the bright parts are far larger.
    for voi in (vessel, wall):
        assert (voi > -400).sum() > 1.15 * (alone > -400).sum()


def test_the_mask_is_about_the_centre():
    mask, spacing_mm = segment_nodule(ball(10.0, 2.0, noise=20), 2.0)
    assert mask.dtype == bool
    assert spacing_mm <= 0.7
    centre = np.argwhere(mask).mean(0) - (np.array(mask.shape) - 1) / 2
    assert np.abs(centre * spacing_mm).max() < 0.4


def test_without_a_nodule_nothing_is_measured():
    rng = np.random.default_rng(0)
    lung = (LUNG + rng.normal(0, 40, (24, 24, 24))).astype(np.float32)
    aside = np.roll(ball(8.0, 2.0), 6, axis=2)
    tissue = np.full((24, 24, 24), 40.0, np.float32)
    for voi in (lung, aside, tissue):
        assert np.isnan(measure_diameters(voi, 2.0)).all()
        assert not segment_nodule(voi, 2.0)[0].any()


def test_phantom_nodules_are_measured_within_a_seventh():
    """Solid ones; the phantom's are lobulated, and the measurement takes some lobes for vessels."""
    ratios = []
    chest = render_chest([5, 1], "lidc", 128, 2.5, radii_mm=(4.5, 5.0, 6.0, 7.0, 8.0, 9.0))
    spacing = chest.spacing_mm[::-1]
    for nodule in chest.nodules:
        if nodule.texture == "solid":
            centre = np.subtract(nodule.centre_mm, chest.origin_mm)[::-1] / spacing
            voi = cut_voi(chest.hounsfield, spacing, centre, 24, 2.0)
            ratios.append(np.array(measure_diameters(voi, 2.0)) / (2 * nodule.radius_mm))
    assert len(ratios) >= 4
    assert np.abs(np.median(ratios, axis=0) - 1).max() < 0.15


def test_fills():
    voi, mask = ball(8.0, 2.0, noise=30), sphere(24, 2.0, 8.0)
    voi[0] = 60  # a wall
    mean = fill_lung_mean(voi, mask)
    assert np.unique(mean[mask]) == pytest.approx(voi[1:][~mask[1:]].mean(), abs=1)
    # A biharmonic function is a polynomial's own continuation.
    z, y, x = np.indices(voi.shape) / 24.0
    smooth = (-900 + 300 * z - 200 * y * x).astype(np.float32)
    np.testing.assert_allclose(fill_biharmonic(np.where(mask, 500, smooth), mask), smooth, atol=0.5)
    for fill in BASELINES.values():
        filled = fill(voi, mask)
        assert filled.dtype == np.float32
        np.testing.assert_array_equal(filled[~mask], voi[~mask])
    np.testing.assert_array_equal(BASELINES["none"](voi, mask), voi)
    tissue = np.full_like(voi, 20)
    np.testing.assert_array_equal(fill_lung_mean(tissue, mask), tissue)


def test_large_masks_are_inpainted_on_a_coarser_grid_alike(monkeypatch):
    rng = np.random.default_rng(11)
    z, y, x = np.indices((24, 24, 24)) / 24.0
    voi, mask = (-850 + 400 * np.sin(3 * z) * y + 200 * x**2).astype(np.float32), sphere(24, 2.0, 17.0)
    exact = fill_biharmonic(voi, mask)
    monkeypatch.setattr(metrics, "MOST_INPAINTED", 500)
    for edge in (24, 23):  # blocks of two may jut out
        coarse = fill_biharmonic(voi[:edge, :edge, :edge], mask[:edge, :edge, :edge])
        assert np.abs(coarse - exact[:edge, :edge, :edge]).max() < 25
        np.testing.assert_array_equal(
            coarse[~mask[:edge, :edge, :edge]], voi[:edge, :edge, :edge][~mask[:edge, :edge, :edge]]
        )
    noisy = fill_biharmonic(voi + rng.normal(0, 40, voi.shape).astype(np.float32), mask)
    assert np.abs(noisy - exact)[mask].mean() < 40


def test_comparison_with_the_truth():
    truth, mask = ball(8.0, 2.0, noise=50), sphere(24, 2.0, 10.0)
    outside = np.where(mask, truth, truth + 500)
    assert compare_with_truth(truth, truth, mask) == (0, 1)
    assert compare_with_truth(outside, truth, mask)[0] == 0
    mae, ssim = compare_with_truth(truth + 25, truth, mask)
    assert mae == pytest.approx(25, abs=1e-3)
    assert 0.5 < ssim < 1
    flat = np.where(mask, LUNG, truth)
    assert compare_with_truth(flat, truth, mask)[1] < ssim
    for radius in (3.5, 5.0, 6.0):  # smaller than SSIM's usual window
        assert compare_with_truth(truth, truth, sphere(24, 2.0, radius)) == (0, 1)


def test_eraser_table():
    rng = np.random.default_rng(1)
    truth = (LUNG + rng.normal(0, 30, (6, 24, 24, 24))).astype(np.float32)
    injected = vois(np.where(sphere(24, 2.0, 4.0), NODULE, truth), patients=list("aabbcc"))
    erased = truth + np.repeat([2.0, 4.0, 9.0], 2)[:, None, None, None]
    table = eraser_table(injected, erased, truth, 4.0, SETTINGS, FACTS)
    assert list(table.columns) == COLUMNS
    of_vois = table[table.metric != "detector_auc"]
    assert of_vois.drop_duplicates(["study", "data", "scale", "images"]).shape[0] == 1
    # A constant is nothing that a detector of grey values and grain could miss, or be sure of, in six VOIs.
    [told] = table[table.metric == "detector_auc"].itertuples()
    assert (told.variant, told.images) == ("eraser", 12)
    assert 0 <= told.ci_low <= told.value <= told.ci_high <= 1
    value = table.pivot(index="metric", columns="variant", values="value")
    assert list(table.variant.unique()) == ["eraser", "lung_mean", "biharmonic", "none"]
    assert value.loc["mae_hu", "eraser"] == pytest.approx(5, abs=1e-3)
    mask = sphere(24, 2.0, 8.0)
    nodule_share = sphere(24, 2.0, 4.0).sum() / mask.sum()
    assert value.loc["mae_hu", "none"] == pytest.approx(nodule_share * (NODULE - LUNG), rel=0.02)
    # Noise about its own mean: sqrt(2 / pi) standard deviations.
    assert value.loc["mae_hu", "lung_mean"] == pytest.approx(30 * np.sqrt(2 / np.pi), rel=0.05)
    assert value.loc["ssim", "eraser"] > value.loc["ssim", ["lung_mean", "biharmonic", "none"]].max()
    # With three patients some samples are one patient thrice.
    interval = table.set_index(["variant", "metric"]).loc[("eraser", "mae_hu"), ["ci_low", "ci_high"]]
    assert interval.tolist() == pytest.approx([2, 9], abs=1e-3)
    with pytest.raises(DataError, match="eraser: vois: found 6, 5, 6 injected, erased, true, allowed: as many"):
        eraser_table(injected, erased[:5], truth, 4.0, SETTINGS, FACTS)


def test_intervals_are_over_patients_not_vois():
    """Ten VOIs of each patient, all alike, say no more than one."""
    rng = np.random.default_rng(2)
    truth = np.full((12, 16, 16, 16), LUNG, np.float32)
    erased = truth + rng.uniform(0, 50, 12).astype(np.float32)[:, None, None, None]
    tables = []
    for times in (1, 10):
        patients = np.repeat([f"p{number}" for number in range(12)], times)
        once, again = np.repeat(truth, times, axis=0), np.repeat(erased, times, axis=0)
        table = eraser_table(vois(once, patients), again, once, 2.0, SETTINGS, FACTS, {})
        tables.append(table[table.metric != "detector_auc"])
    pd.testing.assert_frame_equal(tables[0].drop(columns="images"), tables[1].drop(columns="images"))
    assert tables[1].images.unique().tolist() == [120]


def textured(rng, count, diameter_mm, smooth=0.0):
    """VOIs with a nodule whose grain the scanner made, or that is too smooth."""
    size = 16
    voxels = np.stack([ball(diameter_mm, 2.0, size) + rng.normal(0, 40, (size,) * 3) for _ in range(count)])
    if smooth:
        inside = sphere(size, 2.0, diameter_mm / 2 + 4)
        voxels = np.where(inside, [ndimage.gaussian_filter(each, smooth) for each in voxels], voxels)
    return vois(voxels.astype(np.float32), diameter_mm=diameter_mm)


def test_a_detector_tells_smooth_nodules_and_only_those():
    rng = np.random.default_rng(3)
    real, alike, smooth = (textured(rng, 24, 10.0, sigma) for sigma in (0, 0, 0.7))
    alike.table["patient_id"], smooth.table["patient_id"] = ([f"q{number}" for number in range(24)] for _ in range(2))
    told = detect_injected(real, smooth, 4.0, SETTINGS)
    assert told.auc > 0.95
    assert told.ci_low <= told.auc <= told.ci_high
    assert told.images == 48
    chance = detect_injected(real, alike, 4.0, SETTINGS)
    assert chance.ci_low < 0.5 < chance.ci_high
    assert detect_injected(real, alike, 4.0, SETTINGS) == chance
    assert detector_features(real, 4.0).shape == (24, 48)
    assert np.isfinite(detector_features(textured(rng, 3, 3.0), 4.0)).all()


def test_a_detector_cannot_recognise_the_patient():
    """Each patient has grey values of their own; with patients in both parts they would give their kind away."""
    rng = np.random.default_rng(4)
    away = sum(axis**2 for axis in grid(16, 2.0)) ** 0.5
    shells = np.digitize(away, [2.5, 5.0, 9.0])
    patients = np.repeat(np.arange(12), 4)
    own = rng.normal(0, 60, (12, 4))[:, shells]
    voxels = ball(10.0, 2.0, 16) + own[patients] + rng.normal(0, 10, (48, 16, 16, 16))
    names, odd = np.array([f"p{number}" for number in patients]), patients % 2 == 1
    real, injected = vois(voxels[odd], names[odd]), vois(voxels[~odd], names[~odd])
    assert detect_injected(real, injected, 4.0, SETTINGS).auc < 0.8
    real, leaked = (
        vois(each.voxels, [f"{kind}{n}" for n in range(24)]) for each, kind in ((real, "r"), (injected, "i"))
    )
    assert detect_injected(real, leaked, 4.0, SETTINGS).auc > 0.95
    with pytest.raises(DataError, match="detector: patients: found 1 with real, 6 with injected nodules, allowed: at"):
        detect_injected(vois(voxels[:4], ["p"] * 4), injected, 4.0, SETTINGS)


@pytest.fixture
def quick_features(monkeypatch):
    """Instead of a network: grey values of the planes, averaged over 4 x 4 pixels."""

    def extract(images, extractor, weights):
        assert images.dtype == np.float32
        assert 0 <= images.min() <= images.max() <= 1
        flat = images.reshape(len(images), 4, 4, 4, 4).mean((2, 4)).reshape(len(images), -1)
        return Features(flat, flat[:, :5])

    monkeypatch.setattr(metrics, "extract", extract)


def test_features_of_three_planes(quick_features):
    voxels = np.random.default_rng(5).uniform(-1000, 400, (2, 16, 16, 16)).astype(np.float32)
    found = voi_features(voxels, Fidelity())
    assert found.features.shape == (2, 48)
    assert found.logits.shape == (2, 5)
    grey = (voxels + 1000) / 1400
    for number, plane in enumerate((grey[1, 8], grey[1, :, 8], grey[1, :, :, 8])):
        expected = plane.reshape(4, 4, 4, 4).mean((1, 3)).ravel()
        np.testing.assert_allclose(found.features[1, 16 * number : 16 * number + 16], expected, atol=1e-6)


def test_injector_table(quick_features):
    rng = np.random.default_rng(6)
    reference, real = textured(rng, 12, 8.0), textured(rng, 10, 8.0)
    larger = textured(rng, 10, 10.0)  # 8 mm asked, 10 mm made, and 200 HU too bright
    larger = VoiSet(np.where(larger.voxels > -400, larger.voxels + 200, larger.voxels), real.table.copy())
    for each, letter in ((reference, "r"), (real, "t"), (larger, "i")):
        each.table["patient_id"] = [f"{letter}{number}" for number in range(len(each))]
    study = (
        *map(with_measured_diameters, (larger, real)),
        reference,
        4.0,
        SETTINGS,
        Fidelity(resamples=3),
        FACTS,
    )
    table = injector_table(*study)
    assert list(table.columns) == COLUMNS
    assert table.images.isin([10, 22, 32]).all()
    value = table.pivot(index="metric", columns="variant", values="value")
    assert value.loc["diameter_ratio"].tolist() == pytest.approx([1.25, 1.0], abs=0.12)
    assert value.loc["diameter_error", "injector"] == pytest.approx(value.loc["diameter_ratio", "injector"] - 1)
    assert value.loc["histogram_distance_hu", "injector"] > 5 * value.loc["histogram_distance_hu", "real"]
    assert value.loc["texture_contrast_difference", "injector"] > 0
    expected = np.mean([texture(voi, 2.0, 8.0) for voi in larger.voxels], 0)
    expected -= np.mean([texture(voi, 2.0, 8.0) for voi in reference.voxels], 0)
    found = value.loc[["texture_contrast_difference", "texture_homogeneity_difference"], "injector"]
    assert found.tolist() == pytest.approx(expected)
    first, second = (feature_statistics(voi_features(each.voxels, Fidelity()).features) for each in (reference, larger))
    assert value.loc["frechet_distance", "injector"] == pytest.approx(frechet_distance(first, second))
    assert value.loc["frechet_distance", "injector"] > value.loc["frechet_distance", "real"]
    assert value.loc["detector_auc", "injector"] > 0.95
    given = table[table.ci_low.notna()]
    assert (given.ci_low <= given.ci_high).all()
    assert set(table.metric[table.ci_low.isna()]) == {"frechet_distance"}
    pd.testing.assert_frame_equal(table, injector_table(*study))


def test_a_nodule_that_is_not_found_is_an_error_of_all_its_diameter(quick_features):
    rng = np.random.default_rng(7)
    real = textured(rng, 6, 8.0)
    nothing = vois(LUNG + rng.normal(0, 30, real.voxels.shape), [f"i{number}" for number in range(6)])
    sets = (*map(with_measured_diameters, (nothing, real)), real)
    table = injector_table(*sets, 4.0, SETTINGS, Fidelity(resamples=2), FACTS)
    value = table[table.variant == "injector"].set_index("metric").value
    assert (value["diameter_ratio"], value["diameter_error"]) == (0, 1)


def test_histogram_distance_is_that_of_the_samples():
    rng = np.random.default_rng(8)
    one, other = (LUNG + rng.normal(shift, spread, (3, 16, 16, 16)) for shift, spread in ((0, 60), (120, 90)))
    mask = sphere(16, 2.0, 4.0)
    first, second = (metrics._histograms(vois(each)) for each in (one, other))
    found = metrics._histogram_distance(first.sum(0), second.mean(0))
    expected = stats.wasserstein_distance(
        one[:, mask].clip(-1000, 400).ravel(), other[:, mask].clip(-1000, 400).ravel()
    )
    assert found == pytest.approx(expected, abs=metrics.BIN_HU)
    assert metrics._histogram_distance(first[0], first[0]) == 0


def test_texture_is_that_of_the_nodules_planes():
    voi = (LUNG + np.random.default_rng(9).normal(0, 80, (24, 24, 24))).astype(np.float32)
    changed = voi.copy()
    changed[:6] = changed[-6:] = NODULE  # beyond the crop
    assert texture(voi, 2.0, 10.0) == texture(changed, 2.0, 10.0)
    assert texture(np.full_like(voi, LUNG), 2.0, 10.0) == (0, 1)
    stripes = np.zeros((24, 24, 24), np.float32)
    stripes[:] = np.where(np.arange(24) % 2, VOI_LOW, VOI_LOW + 1400 / 32)
    plane = (np.arange(24) % 2 == 0).astype(np.uint8)[7:18] * np.ones((11, 1), np.uint8)
    angles = np.arange(4) * np.pi / 4
    flat = np.tile(plane[:, 5:6], 11)  # the sagittal plane is of one grey
    expected = [
        np.mean([graycoprops(graycomatrix(each, [1], angles, 32, True, True), name) for each in (plane, plane, flat)])
        for name in ("contrast", "homogeneity")
    ]
    assert texture(stripes, 2.0, 10.0) == pytest.approx(expected)


VOI_LOW = -1000.0


def test_weighted_medians_are_those_of_the_drawn():
    rng = np.random.default_rng(10)
    values, weights = rng.random(9), rng.integers(0, 4, (50, 9))
    expected = [np.median(np.repeat(values, each)) for each in weights]
    np.testing.assert_allclose(weighted_median(values, weights), expected)
    np.testing.assert_allclose(weighted_median(values[:4], np.ones((1, 4))), [np.median(values[:4])])
