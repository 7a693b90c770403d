"""Distances against closed forms and torch-fidelity; features against what the network is known for."""

import numpy as np
import pytest
import torch

import scangan.compat  # noqa: F401

# isort: split
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from scangan.config import Fidelity
from scangan.errors import DataError
from scangan.metrics.feature_sets import Features
from scangan.metrics.features import extract
from scangan.metrics.fidelity import METRICS, Statistics, compare_sets, feature_statistics, frechet_distance


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
    assert list(table.columns) == ["metric", "value", "ci_low", "ci_high", "images", "reference"]
    assert tuple(table["metric"]) == METRICS
    assert (table["images"] == 40).all()
    assert (table["ci_low"] <= table["value"]).all()
    assert (table["value"] <= table["ci_high"]).all()


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
    assert by_metric(shifted)["kid"] > by_metric(shifted, "reference")["kid"]
    assert by_metric(shifted)["precision"] < 0.2
    copies = compare_sets(train, gaussian(rng, 60), train, Fidelity(resamples=4))
    assert by_metric(copies)["fid"] == pytest.approx(0, abs=1e-6)
    assert by_metric(copies)["precision"] == by_metric(copies)["recall"] == 1


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
    assert table[["value", "reference"]].notna().all(axis=None)
    assert table[["ci_low", "ci_high"]].isna().all(axis=None)
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
