"""Features come back as they were written, by the images' names, and what is wrong with a file is said."""

import numpy as np
import pandas as pd
import pytest

from scangan.data.split import split_parts
from scangan.errors import DataError
from scangan.metrics.feature_sets import ALL, Features, FeatureSet, read_feature_set, write_features

IDS = [f"i{number}" for number in range(6)]
MANIFEST = pd.DataFrame({"image_id": IDS, "patient_id": IDS, "label": ["sick", "well"] * 3})


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return Features(*(rng.normal(size=(6, size)).astype(np.float32) for size in (4, 3)))


@pytest.fixture
def path(tmp_path, features):
    write_features(tmp_path / "deeper/gan.safetensors", features, IDS)
    return tmp_path / "deeper/gan.safetensors"


def test_features_come_back_in_the_order_of_the_manifest(path, features):
    order = [5, 0, 3]
    found = read_feature_set(path, MANIFEST.iloc[order])
    assert found.manifest.image_id.tolist() == ["i5", "i0", "i3"]
    np.testing.assert_array_equal(found.features.features, features.features[order])
    np.testing.assert_array_equal(found.features.logits, features.logits[order])


def test_a_whole_file_stays_on_the_disk(path, features):
    found = read_feature_set(path, MANIFEST).features
    assert isinstance(found.features, np.memmap)
    found.logits[:] = 0  # of this process alone
    np.testing.assert_array_equal(read_feature_set(path, MANIFEST).features.logits, features.logits)


def test_the_same_features_give_the_same_bytes(path, features, tmp_path):
    write_features(tmp_path / "again.safetensors", features, pd.Series(IDS))
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_classes_and_parts(path, features, tmp_path):
    both = read_feature_set(path, MANIFEST)
    sick, well, everything = (both.of_class(label) for label in ("sick", "well", ALL))
    assert sick.manifest.image_id.tolist() == ["i0", "i2", "i4"]
    np.testing.assert_array_equal(sick.features.features, features.features[::2])
    assert everything is both
    joined = FeatureSet.concatenate([sick, well])
    assert joined.manifest.image_id.tolist() == ["i0", "i2", "i4", "i1", "i3", "i5"]
    np.testing.assert_array_equal(joined.features.logits[3:], features.logits[1::2])
    split = ["train", "train", "test", "validation", "validation", "test"]
    MANIFEST.assign(split=split, method="by_patient").to_csv(tmp_path / "split.csv", index=False)
    parts = split_parts(both, tmp_path / "split.csv")
    assert {name: part.manifest.image_id.tolist() for name, part in parts.items()} == {
        "train": ["i0", "i1"],
        "validation": ["i3", "i4"],
        "test": ["i2", "i5"],
    }
    np.testing.assert_array_equal(parts["test"].features.features, features.features[[2, 5]])


def test_a_missing_image_is_named(path):
    more = pd.concat([MANIFEST, pd.DataFrame({"image_id": ["j0", "j1"], "label": "sick"})])
    with pytest.raises(DataError, match=f"^{path}: image_id: found no j0 and 1 others, allowed: every image"):
        read_feature_set(path, more)


def test_what_is_no_file_of_features_is_refused(path):
    whole = path.read_bytes()
    for content, found in ((whole[:100], ".+"), (whole[:-1], ".+"), (b"", ".+")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"^{path}: features: found {found}, allowed: a whole safetensors file"):
            read_feature_set(path, MANIFEST)
    path.unlink()
    with pytest.raises(DataError, match="features: found no such file, allowed"):
        read_feature_set(path, MANIFEST)


def test_lengths_must_fit(features, tmp_path):
    with pytest.raises(ValueError, match="features of 6 images do not fit 5 names"):
        write_features(tmp_path / "f.safetensors", features, IDS[1:])
    with pytest.raises(ValueError, match="features of 6 images do not fit a manifest of 5"):
        FeatureSet(features, MANIFEST[1:])
