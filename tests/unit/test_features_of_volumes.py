"""Features of volumes: means over slices of three planes."""

import numpy as np

from scangan.metrics import features
from scangan.metrics.feature_sets import Features


def test_slices_are_evenly_spaced_in_each_plane():
    volume = np.random.default_rng(0).random((1, 4, 4, 4), np.float32)
    found = features.plane_slices(volume, 2)
    assert found.shape == (6, 1, 4, 4)
    np.testing.assert_array_equal(found[:2, 0], volume[0, [1, 3]])
    np.testing.assert_array_equal(found[3, 0], volume[0, :, 3])
    np.testing.assert_array_equal(found[4, 0], volume[0, :, :, 1])


def test_features_of_a_volume_are_the_mean_of_its_slices(monkeypatch):
    asked = []

    def extract(images, extractor, weights):
        asked.append(len(images))
        return Features(images.mean(axis=(2, 3)), images.max(axis=(2, 3)))

    monkeypatch.setattr(features, "extract", extract)
    monkeypatch.setattr(features, "SLICES_AT_ONCE", 14)
    volumes = np.random.default_rng(0).random((5, 1, 8, 8, 8), np.float32)
    found = features.extract_volumes(volumes, 2, "any")
    assert asked == [12, 12, 6]
    expected = [np.mean([part.mean() for part in features.plane_slices(volume, 2)]) for volume in volumes]
    np.testing.assert_allclose(found.features[:, 0], expected, rtol=1e-5)
    assert found.logits.shape == (5, 1)
