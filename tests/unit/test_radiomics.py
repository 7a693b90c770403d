"""Radiomics against pyradiomics 3.0.1, and their distance against frd-score 1.0.1, on the same images.

The numbers were made with binWidth 8 and a mask over the whole image; frd-score with version v1 of the distance on the
original image (image_types), without normalisation, resampling and cropping.
"""

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from scangan.metrics import radiomics as module
from scangan.metrics.radiomics import (
    LEVELS,
    NAMES,
    frechet_radiomics_distance,
    radiomics,
    standardise,
    standardise_within_bounds,
)

PYRADIOMICS = {
    "first_order_energy": 10240326.0,
    "first_order_entropy": 4.684934082663508,
    "first_order_interquartile_range": 71.25,
    "first_order_kurtosis": 2.5726151492689056,
    "first_order_robust_mean_absolute_deviation": 30.135094160069784,
    "first_order_skewness": 0.08628685693652521,
    "first_order_uniformity": 0.04379460841049383,
    "pairs_autocorrelation": 286.09239130434776,
    "pairs_cluster_prominence": 49098.66360254536,
    "pairs_cluster_shade": 99.83559014667745,
    "pairs_correlation": 0.6706773765356211,
    "pairs_difference_entropy": 3.4479840636427848,
    "pairs_difference_variance": 9.553056390230921,
    "pairs_imc1": -0.1983869987052655,
    "pairs_imc2": 0.9168521830993702,
    "pairs_idmn": 0.975444230445127,
    "pairs_inverse_variance": 0.21589423522226883,
    "pairs_sum_entropy": 5.501748776911764,
    "runs_short_emphasis": 0.9399997958793196,
    "runs_level_non_uniformity": 23.228810951253053,
    "runs_percentage": 0.9223090277777778,
    "runs_entropy": 5.046408756165462,
    "runs_long_low_level_emphasis": 0.01908244730254964,
    "zones_long_emphasis": 2.5084745762711864,
    "zones_entropy": 5.698847291102803,
    "zones_size_non_uniformity": 233.58595641646488,
    "zones_short_high_level_emphasis": 232.23080172181864,
    "neighbourhoods_coarseness": 0.01981867290587851,
    "neighbourhoods_contrast": 0.18742150648654043,
    "neighbourhoods_busyness": 0.1236555251110468,
    "neighbourhoods_complexity": 834.8040909138991,
    "neighbourhoods_strength": 6.2197952567603,
}
PYRADIOMICS_OF_A_VOLUME = {
    "first_order_entropy": 4.415212359880379,
    "pairs_contrast": 22.30034709958954,
    "pairs_cluster_shade": 57.06668822417334,
    "pairs_imc1": -0.1282575916195337,
    "runs_entropy": 4.798321786796221,
    "runs_long_emphasis": 1.2496155497272468,
    "zones_entropy": 6.6007764550902035,
    "zones_long_emphasis": 20.674463937621834,
    "neighbourhoods_busyness": 0.23855567435069983,
    "neighbourhoods_strength": 2.4661688402148303,
}
FRD_SCORE = 5.819455087132287


@cache
def textures(first, count, smooth):
    """8-bit images [count, 1, 24, 24] in [0, 1]."""
    images = []
    for number in range(first, first + count):
        image = gaussian_filter(np.random.default_rng(number).random((24, 24)), smooth, mode="wrap")
        images.append(np.round(255 * (image - image.min()) / np.ptp(image)) / 255)
    return np.stack(images)[:, None]


def by_name(image):
    (features,) = radiomics(image[None])
    return dict(zip(NAMES, features, strict=True))


def test_features_of_an_image_are_pyradiomics():
    found = by_name(textures(0, 1, 1.0)[0])
    assert {name: found[name] for name in PYRADIOMICS} == pytest.approx(PYRADIOMICS, rel=1e-9)


def test_features_of_a_volume_are_pyradiomics():
    slices = 255 * np.concatenate([textures(50 + number, 1, 1.0)[0, :, :12, :12] for number in range(10)])
    volume = gaussian_filter(slices, (1, 0, 0), mode="wrap").round()
    volume = np.round(255 * (volume - volume.min()) / np.ptp(volume)) / 255
    found = by_name(volume[None])
    assert {name: found[name] for name in PYRADIOMICS_OF_A_VOLUME} == pytest.approx(PYRADIOMICS_OF_A_VOLUME, rel=1e-9)


def test_the_distance_is_frd_scores():
    """frd-score rounds its features to single precision."""
    found = frechet_radiomics_distance(
        *(radiomics(textures(first, 12, smooth)) for first, smooth in ((0, 1), (100, 1.3)))
    )
    assert found == pytest.approx(FRD_SCORE, rel=1e-3)


def test_stripes_have_runs_along_them_and_zones_of_their_size():
    stripes = np.zeros((1, 8, 8))
    stripes[:, ::2] = 1
    found = by_name(stripes)
    assert found["zones_percentage"] == 8 / 64
    assert found["zones_long_emphasis"] == 64
    # Eight runs of eight along them; every element a run of its own in the three other directions.
    assert found["runs_percentage"] == pytest.approx((8 / 64 + 3) / 4)
    assert found["pairs_maximum_probability"] == pytest.approx((0.5 + 3 * 0.5) / 4)
    assert found["first_order_entropy"] == pytest.approx(1)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_flat_image_has_features_as_well(value):
    found = by_name(np.full((1, 6, 5), value))
    assert np.isfinite(list(found.values())).all()
    assert found["pairs_joint_average"] == np.floor(255 * value / 8) + 1 <= LEVELS
    assert found["zones_long_emphasis"] == 900


def test_a_diagonal_line_is_one_run():
    line = np.eye(6, 9)[None, ::-1]  # upwards to the right
    found = by_name(line)
    # Where it crosses a row, column or falling diagonal it begins two runs, or one at their ends, or none if it is all.
    rows, columns = 6 + 2 * 5 + 1, 9 + 2 * 4 + 2
    falling, rising = 14 + 2 * 4 + 1, 14
    assert found["runs_percentage"] == pytest.approx((rows + columns + falling + rising) / 4 / 54)


def test_several_threads_and_parts_give_the_same(monkeypatch):
    images = textures(0, 7, 1.0)
    monkeypatch.setattr(module, "AT_ONCE", 3)
    np.testing.assert_array_equal(radiomics(images, threads=2), radiomics(images))


def test_channels_become_grey():
    image = textures(0, 1, 1.0)
    assert radiomics(image.repeat(3, axis=1)) == pytest.approx(radiomics(image))


def test_standardised_features_leave_out_what_does_not_vary_in_training():
    train, other = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 6.0]])
    found = standardise(train, other)
    assert found[0].tolist() == [[-1], [1]]
    assert found[1].tolist() == [[0]]


def test_of_a_feature_without_bound_ten_deviations_count():
    train = np.array([[-1.0], [1.0]])
    assert standardise_within_bounds(train, np.array([[-9.0], [1e9]]))[1].tolist() == [[-9], [10]]
