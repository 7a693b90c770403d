"""The head CT phantom: the real layout, read by the real reader, the same for the same seed."""

import numpy as np
import pytest
from PIL import Image

from scangan.config import LabelledImages
from scangan.phantoms.head_ct import HAEMORRHAGES, LEVELS, Head, render_slice, write_phantom
from tests.unit.cohorts import read_cohort

SETTINGS = LabelledImages(
    reader="labelled_images",
    root="head_ct",
    id_column="id",
    label_column="hemorrhage",
    classes={"normal": 0, "haemorrhage": 1},
    image_size=32,
    max_rejected=0,
)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, images=60, image_size=96, seed=0)
    return folder


def test_layout_is_the_real_one(phantom):
    assert sorted(path.name for path in phantom.iterdir()) == ["README.txt", "head_ct", "labels.csv"]
    assert sorted(path.name for path in (phantom / "head_ct").iterdir()) == [f"{index:03d}.png" for index in range(60)]
    lines = (phantom / "labels.csv").read_text().splitlines()
    assert lines[:2] == ["id, hemorrhage", "0,1"]
    assert lines[1:] == [f"{index},{int(index < 30)}" for index in range(60)]
    assert "PHANTOM" in (phantom / "README.txt").read_text()


def test_the_real_reader_takes_every_slice(phantom):
    image_set, ingested = read_cohort(phantom, SETTINGS, "phantom")
    rejected = ingested.rejected
    assert list(zip(rejected.source, rejected.reason, strict=True)) == [("README.txt", "not an image")]
    assert not rejected.counted.any()
    assert image_set.images.shape == (60, 1, 32, 32)
    assert image_set.manifest.label.tolist() == ["haemorrhage"] * 30 + ["normal"] * 30
    # Bone is white, the corners are dark, and no two slices are alike.
    assert image_set.images.max(axis=(1, 2, 3)).min() > 0.8
    assert image_set.images[:, 0, 0, 0].max() < 0.2
    assert len(np.unique(image_set.images.reshape(60, -1), axis=0)) == 60


def test_sizes_and_modes_vary_as_in_the_real_set(phantom):
    opened = [Image.open(path) for path in sorted((phantom / "head_ct").iterdir())]
    assert {image.mode for image in opened} == {"RGB", "RGBA"}
    assert len({image.size for image in opened}) > 40
    proportions = np.array([image.width / image.height for image in opened])
    assert 0.75 < np.median(proportions) < 0.9
    assert proportions.std() > 0.02
    assert 80 < np.median([image.height for image in opened]) < 110


def pixels(folder):
    return [np.asarray(Image.open(path)) for path in sorted((folder / "head_ct").iterdir())]


def test_seed_decides(phantom, tmp_path):
    for name, images, seed in (("again", 6, 0), ("other", 6, 1)):
        write_phantom(tmp_path / name, images=images, image_size=96, seed=seed)
    write_phantom(tmp_path / "twice", images=6, image_size=96, seed=0)
    for first, second in zip(pixels(tmp_path / "again"), pixels(tmp_path / "twice"), strict=True):
        np.testing.assert_array_equal(first, second)
    # The first three bleed in either set, so a larger set begins with the smaller one's.
    for small, large in zip(pixels(tmp_path / "again")[:3], pixels(phantom)[:3], strict=True):
        np.testing.assert_array_equal(small, large)
    assert any(a.shape != b.shape for a, b in zip(pixels(tmp_path / "again"), pixels(tmp_path / "other"), strict=True))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", HAEMORRHAGES)
def test_every_haemorrhage_adds_blood_inside_the_skull(level, kind, monkeypatch):
    monkeypatch.setattr("scangan.phantoms.head_ct.LEVELS", {level: 1.0})
    added = []
    for seed in range(4):
        head = Head(np.random.default_rng(seed), 96, True)
        head.paint_skull()
        head.paint_brain()
        before = head.hounsfield.copy()
        getattr(head, f"paint_{kind}")()
        brighter = head.hounsfield - before > 8
        assert not brighter[head.depth < -2 * head.pixel].any()
        added.append(brighter.sum() / (head.depth > 0).sum())
    assert max(added) > 0.003
    assert max(added) < 0.5


def test_an_interrupted_phantom_leaves_nothing(tmp_path, monkeypatch):
    def stop(rng, image_size, bleeds):
        if not bleeds:
            raise KeyboardInterrupt
        return render_slice(rng, image_size, bleeds)

    monkeypatch.setattr("scangan.phantoms.head_ct.render_slice", stop)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "phantom", images=2, image_size=64, seed=0)
    assert list(tmp_path.iterdir()) == []
