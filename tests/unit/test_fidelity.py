"""Distances against closed forms and torch-fidelity; features against what the network is known for."""

import numpy as np
import pytest
import torch

import scangan.compat  # noqa: F401

# isort: split
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from scangan.config import Fidelity
from scangan.errors import DataError
from scangan.metrics.feature_sets import Features
from scangan.metrics.features import extract
from scangan.metrics.fidelity import (
    COLUMNS,
    METRICS,
    compare_sets,
    compare_unbiased,
    density_and_coverage,
    unbiased_distances,
)
from scangan.metrics.frechet import Statistics, feature_statistics, frechet_distance


def gaussian(rng, count, size=8, shift=0.0):
    features = (rng.normal(size=(count, size)) + shift).astype(np.float32)
    return Features(features, features)


def by_metric(table, column="value"):
    return table.set_index("metric")[column]


def test_equal_covariances_leave_the_squared_distance_of_the_means():
    factor = np.random.default_rng(0).normal(size=(5, 5))
    first, second = Statistics(np.zeros(5), factor), Statistics(np.arange(5.0), factor)
    assert frechet_distance(first, second) == pytest.approx(30)


def test_commuting_covariances():
    """For diagonal covariances the distance is that of the means and of the standard deviations."""
    deviations = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.5, 3.0])
    first, second = (Statistics(np.full(3, mean), np.diag(s)) for mean, s in zip((0.0, 1.0), deviations, strict=True))
    assert frechet_distance(first, second) == pytest.approx(3 + ((deviations[0] - deviations[1]) ** 2).sum())


@pytest.mark.parametrize(("count", "other", "size"), [(30, 12, 100), (300, 12, 40), (300, 200, 40)])
def test_frechet_distance_is_torch_fidelitys(count, other, size):
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(size, size))
    first, second = rng.normal(size=(count, size)) @ mix, rng.normal(size=(other, size)) + 0.3
    expected = fid_statistics_to_metric(
        *(fid_features_to_statistics(torch.from_numpy(x)) for x in (first, second)), False
    )
    ours = frechet_distance(feature_statistics(first), feature_statistics(second))
    assert ours == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)
    assert frechet_distance(feature_statistics(first), feature_statistics(first)) == pytest.approx(0, abs=1e-6)


def test_the_table_has_a_row_a_metric():
    rng = np.random.default_rng(2)
    table = compare_sets(gaussian(rng, 100), gaussian(rng, 40), gaussian(rng, 200), Fidelity(resamples=8))
    assert list(table.columns) == ["metric", *COLUMNS]
    assert tuple(table["metric"]) == METRICS
    assert list(table["images"]) == [200, 200] + [40] * 7
    for value, low, high in (("value", "ci_low", "ci_high"), ("reference", "reference_low", "reference_high")):
        assert (table[low] <= table[value]).all()
        assert (table[value] <= table[high]).all()
        assert (table[low] < table[high]).all()


def unbiased(first, second, seed=0, first_units=None, second_units=None):
    units = (np.arange(len(x)) if u is None else u for x, u in ((first, first_units), (second, second_units)))
    return unbiased_distances(first, second, *units, np.random.default_rng(seed))


def test_energy_distance_of_four_points():
    """On a line: between the sets 1, 2, 4, 5 (mean 3), within them 1 and 4, so (6 - 1 - 4) / 6."""
    found = unbiased(np.array([[0.0], [1.0]]), np.array([[2.0], [-2.0]]) + 0.0)["energy_distance"]
    between = np.mean([2, 2, 1, 3])
    assert found.value == pytest.approx((2 * between - 1 - 4) / (2 * between))


def test_kid_is_torch_fidelitys_of_the_whole_sets():
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=(30, 6)), rng.normal(size=(30, 6)) + 0.5
    pair = (torch.from_numpy(x) for x in (first, second))
    expected = kid_features_to_metric(*pair, kid_subsets=1, kid_subset_size=30, rng_seed=0, verbose=False)
    assert unbiased(first, second)["kid"].value == pytest.approx(expected["kernel_inception_distance_mean"])


def test_images_of_one_patient_are_no_pairs():
    """Each patient's two images are the same: two patients, or two images, must say the same."""
    rng = np.random.default_rng(9)
    first, second = rng.normal(size=(12, 3)), rng.normal(size=(9, 3))
    single = unbiased(first, second)
    double = unbiased(first, second.repeat(2, axis=0), second_units=np.arange(9).repeat(2))
    for name in single:
        assert double[name] == pytest.approx(single[name])
    alone = unbiased(first, second, second_units=np.zeros(9))
    assert np.isnan(alone["kid"]).all()


def test_the_distances_are_unbiased_and_their_intervals_hold():
    rng = np.random.default_rng(10)
    found = [unbiased(rng.normal(size=(14, 6)), rng.normal(size=(40, 6)), seed) for seed in range(100)]
    for name in ("energy_distance", "kid"):
        values = np.array([each[name] for each in found])
        error = values[:, 0].std(ddof=1) / 10
        assert abs(values[:, 0].mean()) < 3 * error
        held = (values[:, 1] <= 0) & (values[:, 2] >= 0)
        assert 0.9 <= held.mean() <= 1


def test_another_referee_gives_the_unbiased_rows_alone():
    rng = np.random.default_rng(11)
    real, unseen, drawn = (gaussian(rng, count) for count in (30, 20, 25))
    patients = np.arange(30) // 2, np.arange(20) // 2
    whole = compare_sets(real, unseen, drawn, Fidelity(resamples=1), *patients).set_index("metric")
    found = compare_unbiased(real.features, unseen.features, drawn.features, 0, *patients).set_index("metric")
    assert list(found.index) == ["energy_distance", "kid"]
    for column in ("value", "images", "reference"):
        assert found[column].to_dict() == pytest.approx(whole.loc[found.index, column].to_dict())
    alone = compare_unbiased(real.features[:1], unseen.features, drawn.features, 0, None, patients[1])
    assert alone.set_index("metric")["value"].to_dict() == pytest.approx(found["value"].to_dict())
    assert alone[["reference", "reference_low", "reference_high"]].isna().all(axis=None)
    with pytest.raises(DataError, match="found 1 held-out, 25 synthetic, allowed: at least 2 of each"):
        compare_unbiased(real.features, unseen.features[:1], drawn.features, 0)


def test_density_and_coverage_of_points_on_a_line():
    """With k = 1 and real images at 0, 1, 3 the balls' radii are 1, 1, 2."""
    real = np.array([[0.0], [1.0], [3.0]])
    assert density_and_coverage(real, real, neighbours=1) == (1, 1)
    # 0.5 lies in the balls of 0 and 1, 1.5 in those of 1 and 3, 9 in none.
    assert density_and_coverage(real, np.array([[0.5], [1.5], [9.0], [9.0]]), neighbours=1) == (1, 1)
    assert density_and_coverage(real, np.array([[0.5], [0.4]]), neighbours=1) == (2, pytest.approx(2 / 3))
    assert density_and_coverage(real, np.array([[9.0]])) == (0, 0)


def generators(rng, count, size, train=144):
    """Training and held-out images, and what three generators draw: a perfect one, one of a quarter of the variance,
    one that copies ten training images. Their features have long tails of small variances, as those of networks."""
    deviations = 1 / np.sqrt(np.arange(1, size + 1))
    seen, unseen, perfect, narrow = (rng.normal(size=(n, size)) * deviations for n in (max(train, count), *[count] * 3))
    ten = seen[rng.choice(len(seen), 10, replace=False)]
    return seen, unseen, {"perfect": perfect, "narrow": narrow / 2, "copies": ten[rng.integers(0, 10, count)]}


@pytest.mark.parametrize("size", [16, 1280])
@pytest.mark.parametrize("count", [28, 300])
def test_the_headline_tells_a_perfect_generator_from_a_narrow_one_and_from_copies(count, size):
    rng = np.random.default_rng(11)
    for _ in range(10 if count == 28 else 2):
        _, unseen, drawn = generators(rng, count, size)
        distance = {name: unbiased(unseen, images)["energy_distance"] for name, images in drawn.items()}
        assert distance["perfect"].value < min(distance["narrow"].value, distance["copies"].value)
        assert distance["perfect"].low < 0 < distance["narrow"].low


def test_fid_of_few_images_prefers_the_narrow_generator():
    """Why FID is not the headline."""
    rng = np.random.default_rng(12)
    seen, _, drawn = generators(rng, 28, 1280)
    real = feature_statistics(seen)
    fid = {name: frechet_distance(real, feature_statistics(images)) for name, images in drawn.items()}
    assert fid["narrow"] < fid["perfect"]


def test_fid_extrapolated_to_infinitely_many_images():
    """Two Gaussians with a distance of 8 x 0.5^2 = 2 between their means: FID of 100 images is too large."""
    rng = np.random.default_rng(13)
    found = [
        by_metric(compare_sets(gaussian(rng, 100), gaussian(rng, 100), gaussian(rng, 100, shift=0.5), Fidelity()))
        for _ in range(10)
    ]
    assert np.mean([each["fid"] for each in found]) > 2.2
    assert np.mean([each["fid_infinity"] for each in found]) == pytest.approx(2, abs=0.2)


def test_images_of_the_training_distribution_score_like_the_reference_on_average():
    """One reference of 40 images scatters by a fifth of its FID; over repetitions the two must agree."""
    rng = np.random.default_rng(2)
    tables = [
        compare_sets(gaussian(rng, 100), gaussian(rng, 40), gaussian(rng, 200), Fidelity(resamples=4))
        for _ in range(30)
    ]
    differences = np.array([table["value"] - table["reference"] for table in tables])
    standard_error = differences.std(axis=0, ddof=1) / np.sqrt(len(tables))
    assert (np.abs(differences.mean(axis=0)) < 3 * standard_error).all()


def test_shifted_images_score_worse_and_copies_score_best():
    rng = np.random.default_rng(3)
    train, held_out = gaussian(rng, 60), gaussian(rng, 40)
    shifted = compare_sets(train, held_out, gaussian(rng, 80, shift=3.0), Fidelity(resamples=4))
    assert by_metric(shifted)["fid"] > 3 * by_metric(shifted, "reference")["fid"]
    for metric in ("energy_distance", "kid"):
        assert by_metric(shifted, "ci_low")[metric] > by_metric(shifted, "reference_high")[metric]
    assert by_metric(shifted)["precision"] < 0.2
    copies = compare_sets(train, gaussian(rng, 60), train, Fidelity(resamples=4))
    assert by_metric(copies)["fid"] == pytest.approx(0, abs=1e-6)
    assert by_metric(copies)["precision"] == by_metric(copies)["recall"] == by_metric(copies)["coverage"] == 1
    assert by_metric(copies)["energy_distance"] == by_metric(copies, "reference")["energy_distance"]


def test_precision_is_of_the_synthetic_images_and_recall_of_the_real_ones():
    rng = np.random.default_rng(4)
    train, narrow = gaussian(rng, 60), Features(*[0.05 * rng.normal(size=(30, 8)).astype(np.float32)] * 2)
    values = by_metric(compare_sets(train, gaussian(rng, 30), narrow, Fidelity(resamples=1)))
    assert (values["precision"], values["recall"]) == (1.0, 0.0)
    expected = prc_features_to_metric(
        torch.from_numpy(narrow.features), torch.from_numpy(train.features), verbose=False
    )
    assert values["precision"] == expected["precision"]


def test_small_sets_are_scored_without_an_interval_and_tiny_ones_refused():
    rng = np.random.default_rng(5)
    table = compare_sets(gaussian(rng, 10), gaussian(rng, 3), gaussian(rng, 2), Fidelity(resamples=4))
    scores = table[table["metric"] != "fid_infinity"]
    assert scores[["value", "reference"]].notna().all(axis=None)
    assert table.loc[2:, ["ci_low", "ci_high", "reference_low", "reference_high"]].isna().all(axis=None)
    with pytest.raises(DataError, match="found 10 training, 3 held-out, 1 synthetic, allowed: at least 2"):
        compare_sets(gaussian(rng, 10), gaussian(rng, 3), gaussian(rng, 1), Fidelity())


def test_nothing_is_printed_and_the_seed_decides(capfd):
    rng = np.random.default_rng(6)
    sets = gaussian(rng, 40), gaussian(rng, 20), gaussian(rng, 50)
    first, again = (compare_sets(*sets, Fidelity(resamples=3, seed=1)) for _ in range(2))
    assert first.equals(again)
    assert not first.equals(compare_sets(*sets, Fidelity(resamples=3, seed=2)))
    assert capfd.readouterr() == ("", "")


def test_efficientnet_lite0_knows_a_cat():
    from skimage.data import chelsea

    cat = chelsea()[:, 75:375].transpose(2, 0, 1)[None].astype(np.float32) / 255
    found = extract(cat, "efficientnet-lite0", device="cpu")
    assert found.features.shape == (1, 1280)
    assert found.logits.shape == (1, 1000)
    assert found.logits.argmax() in range(281, 286)  # ImageNet's domestic cats


def test_features_do_not_depend_on_the_batch_and_grey_is_grey(capfd):
    images = np.random.default_rng(7).random((3, 1, 32, 32), dtype=np.float32)
    whole = extract(images, "efficientnet-lite0", device="cpu")
    parts = extract(images.repeat(3, axis=1), "efficientnet-lite0", batch_size=2, device="cpu")
    assert whole.features == pytest.approx(parts.features, abs=1e-4)
    assert whole.select(np.array([True, False, True])).logits.shape == (2, 1000)
    assert capfd.readouterr() == ("", "")


def test_inception_takes_a_weights_file(tmp_path):
    """Random weights of the right shapes: the file is read, nothing is downloaded."""
    from unittest.mock import patch

    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with patch("torch.load", return_value={}), patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], "unread")
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    found = extract(
        np.zeros((1, 1, 32, 32), np.float32), "inception-v3-compat", str(tmp_path / "inception.pth"), device="cpu"
    )
    assert found.features.shape == (1, 2048)
    assert found.logits.shape == (1, 1008)
