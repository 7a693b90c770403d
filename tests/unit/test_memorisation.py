"""Copies are found, and fresh images are suspected as often as promised."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scangan.metrics.memorisation import fewest_held_out, nearest, suspected_copies


def names(prefix, images):
    return [f"{prefix}{number}" for number in range(len(images))]


def find(train, held_out, synthetic, quantile=0.05):
    return suspected_copies(train, held_out, synthetic, quantile, names("t", train), names("s", synthetic))


def test_nearest_is_the_smallest_of_all_distances():
    rng = np.random.default_rng(0)
    images, train = rng.normal(size=(30, 6)), rng.normal(size=(50, 6))
    distance, index = nearest(images, train)
    assert distance == pytest.approx(cdist(images, train).min(axis=1))
    assert (index == cdist(images, train).argmin(axis=1)).all()


def test_copies_are_named_with_their_originals():
    rng = np.random.default_rng(1)
    train, held_out = (rng.normal(size=(count, 16)).astype(np.float32) for count in (100, 60))
    synthetic = np.concatenate([rng.normal(size=(40, 16)), train[[7, 9]] + 1e-4]).astype(np.float32)
    found = find(train, held_out, synthetic, quantile=1e-6)
    assert list(found.images.columns) == ["image_id", "nearest_image_id", "distance", "suspected"]
    suspected = found.images[found.images["suspected"]]
    assert {("s40", "t7"), ("s41", "t9")} <= set(zip(suspected["image_id"], suspected["nearest_image_id"], strict=True))
    assert found.share == len(suspected) / 42
    assert found.images["distance"].is_monotonic_increasing
    assert found.median_synthetic == pytest.approx(np.median(found.images["distance"]))


def test_fresh_real_images_are_suspected_as_often_as_expected():
    """Also where the quantile lies below the nearest of the held-out images: then `expected` is 1 / (m + 1)."""
    rng = np.random.default_rng(2)
    for quantile, expected in ((0.1, 0.1), (0.001, 1 / 21)):
        shares = []
        for _ in range(200):
            train, held_out, fresh = (rng.normal(size=(count, 4)) for count in (30, 20, 50))
            found = find(train, held_out, fresh, quantile)
            assert found.expected == expected
            shares.append(found.share)
        assert np.mean(shares) == pytest.approx(expected, abs=0.02)


def test_the_interval_is_wilsons():
    train = np.zeros((1, 1))
    held_out = np.linspace(1, 2, 99)[:, None]
    synthetic = np.array([0.5] * 3 + [3.0] * 37)[:, None]
    found = find(train, held_out, synthetic)
    n, share, z = 40, 3 / 40, 1.959964
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert found.share == share
    assert (found.ci_low, found.ci_high) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert found.threshold == pytest.approx(held_out[4, 0])  # the 5th of 99: 5 / 100
    assert found.median_held_out == pytest.approx(1.5)


@pytest.mark.parametrize(("duplicates", "noise"), [(1, 0), (1, 1e-5), (5, 1e-5)])
def test_a_training_image_among_the_held_out_ones_hides_no_copies(caplog, duplicates, noise):
    """One was enough: the threshold was 0, and none of the copies was suspected any more."""
    rng = np.random.default_rng(3)
    train, held_out = rng.normal(size=(100, 8)), rng.normal(size=(60, 8))
    copies = train[:40] + rng.normal(scale=0.01, size=(40, 8))
    clean = find(train, held_out, copies, quantile=0.02)
    assert clean.share == 1
    leaking = np.concatenate([held_out, train[:duplicates] + noise])
    found = find(train, leaking, copies, quantile=0.02)
    assert found.share == 1
    assert (found.threshold, found.expected) == (clean.threshold, clean.expected)
    assert f"{duplicates} of {60 + duplicates} held-out images are training images, left aside" in caplog.text


@pytest.mark.parametrize(
    ("held_out", "quantile", "is_enough"), [(19, 0.05, True), (18, 0.05, False), (98, 0.01, False)]
)
def test_too_few_held_out_images_are_told(caplog, held_out, quantile, is_enough):
    rng = np.random.default_rng(4)
    train, fresh, synthetic = (rng.normal(size=(count, 4)) for count in (30, held_out, 10))
    found = find(train, fresh, synthetic, quantile)
    line = f"found {held_out} held-out images, allowed: {fewest_held_out(quantile)} for quantile {quantile}"
    assert (line not in caplog.text) == is_enough
    assert (found.expected == quantile) == is_enough
    assert found.expected == pytest.approx(max(quantile, 1 / (held_out + 1)))


@pytest.mark.parametrize("held_out", [0, 1, 7])
def test_without_a_fresh_image_there_is_no_share(held_out):
    train = np.random.default_rng(5).normal(size=(20, 4))
    found = find(train, train[:held_out], train[:3])
    assert np.isnan([found.share, found.ci_low, found.ci_high, found.threshold]).all()
    assert found.expected == 1
    assert not found.images["suspected"].any()
