"""The split's guarantees, over many cohorts and seeds; and a user's own split, fault by fault."""

import logging
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from scangan.config import Split
from scangan.data.split import (
    assert_patients_apart,
    draw_images,
    draw_share,
    patients_on_both_sides,
    read_parts,
    read_split,
    select_split,
    split_cohort,
)
from scangan.data.store import ImageSet, write_image_set
from scangan.errors import DataError
from scangan.training.supervised import assert_no_shared_patients

PAPER = Split(train=144, validation=34, test=22)


def cohort(images=200, positive=None, patients=None, seed=0) -> pd.DataFrame:
    names = [f"{index:03d}" for index in range(images)]
    owners = names if patients is None else [f"p{n}" for n in np.random.default_rng(seed).integers(0, patients, images)]
    bleeding = np.arange(images) < (images // 2 if positive is None else positive)
    return pd.DataFrame({"image_id": names, "patient_id": owners, "label": np.where(bleeding, "haemorrhage", "normal")})


def table_of(split: pd.DataFrame) -> dict:
    return pd.crosstab(split.split, split.label).T.to_dict()


def counts_of(split: pd.DataFrame) -> list[int]:
    return [int((split.split == name).sum()) for name in ("train", "validation", "test")]


@pytest.mark.parametrize("seed", range(5))
def test_the_papers_counts_are_exact_and_stratified(seed):
    split = split_cohort(cohort(), PAPER.model_copy(update={"seed": seed}), 0)
    assert split.columns.tolist() == ["image_id", "patient_id", "label", "split", "method"]
    assert set(split.method) == {"by_patient"}
    assert table_of(split) == {
        "train": {"haemorrhage": 72, "normal": 72},
        "validation": {"haemorrhage": 17, "normal": 17},
        "test": {"haemorrhage": 11, "normal": 11},
    }


@pytest.mark.parametrize("seed", range(30))
def test_any_counts_are_exact_and_stratified_within_an_image(seed):
    generator = np.random.default_rng(seed)
    images = int(generator.integers(40, 300))
    positive = int(generator.integers(15, images - 15))
    test, validation = generator.integers(8, images // 4, 2).tolist()
    wanted = [images - validation - test, validation, test]
    split = split_cohort(
        cohort(images, positive), Split(train=wanted[0], validation=validation, test=test, seed=seed), 0
    )
    assert counts_of(split) == wanted
    assert split.image_id.tolist() == cohort(images).image_id.tolist()
    for name, count in zip(("train", "validation", "test"), wanted, strict=True):
        bleeding = (split.label[split.split == name] == "haemorrhage").sum()
        assert abs(bleeding - count * positive / images) < 1


@pytest.mark.parametrize(
    ("images", "fractions", "wanted"),
    [(200, (0.72, 0.17, 0.11), [144, 34, 22]), (100, (0.7, 0.2, 0.1), [70, 20, 10]), (37, (0.6, 0.2, 0.2), [22, 8, 7])],
)
def test_fractions(images, fractions, wanted):
    split = split_cohort(cohort(images), Split(**dict(zip(("train", "validation", "test"), fractions, strict=True))), 0)
    assert sorted(counts_of(split)) == sorted(wanted)
    assert counts_of(split)[0] == wanted[0]


@pytest.mark.parametrize("seed", range(20))
def test_patients_with_several_images_never_cross(seed):
    generator = np.random.default_rng(seed)
    images = cohort(200, int(generator.integers(50, 150)), patients=int(generator.integers(25, 120)), seed=seed)
    split = split_cohort(images, PAPER.model_copy(update={"seed": seed}), 0)
    assert (split.groupby("patient_id").split.nunique() == 1).all()
    assert sorted(split.image_id) == images.image_id.tolist()
    largest = images.patient_id.value_counts().max()
    assert np.abs(np.subtract(counts_of(split), [144, 34, 22])).max() <= largest


def test_achieved_counts_are_logged(caplog):
    caplog.set_level(logging.INFO, logger="scangan")
    split = split_cohort(cohort(patients=50), PAPER, 0)
    train, validation, test = counts_of(split)
    assert f"{train} train (of 144), {validation} validation (of 34), {test} test (of 22)" in caplog.text


@pytest.mark.parametrize("patients", [None, 60])
def test_order_of_rows_does_not_matter_and_seeds_do(patients):
    images = cohort(patients=patients)
    split = split_cohort(images, PAPER, 0)
    shuffled = images.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(split, split_cohort(shuffled, PAPER, 0))
    other = split_cohort(images, PAPER.model_copy(update={"seed": 1}), 0)
    assert (other.split != split.split).any()
    assert counts_of(split) != [0, 0, 0]


def test_counts_that_include_the_rejected_are_scaled_down(caplog):
    split = split_cohort(cohort(190), PAPER, 10)
    assert counts_of(split) == [137, 32, 21]
    assert "counts of 200 images scaled down to 190, as 10 were rejected" in caplog.text
    assert counts_of(split_cohort(cohort(200), PAPER, 10)) == [144, 34, 22]


def test_counts_that_do_not_add_up():
    message = (
        r"config: split.train, split.validation, split.test: found 144 \+ 34 \+ 22 = 200, "
        r"allowed: 190 \(usable images\) or 193 \(with the 3 rejected\)"
    )
    with pytest.raises(DataError, match=message):
        split_cohort(cohort(190), PAPER, 3)


def test_a_part_without_a_class():
    with pytest.raises(DataError, match="split: validation: found no image of class haemorrhage, allowed: at least 1"):
        split_cohort(cohort(200, positive=2), PAPER, 0)
    with pytest.raises(DataError, match=r"split: \w+: found no image of class"):
        split_cohort(cohort(200, patients=2), PAPER, 0)


# A user's own split


@pytest.fixture
def own(tmp_path):
    split = split_cohort(cohort(40), Split(train=20, validation=10, test=10), 0)
    path = tmp_path / "split.csv"

    def write(change=lambda table: table):
        change(split.copy()).to_csv(path, index=False)
        return path

    return split, write


def replaced(column, row, value):
    return lambda table: table.assign(**{column: [value if n == row else v for n, v in enumerate(table[column])]})


def test_own_split_is_read_whatever_its_order(own):
    split, write = own
    pd.testing.assert_frame_equal(read_split(write(), cohort(40)), split)
    without_first = cohort(40)[1:]
    pd.testing.assert_frame_equal(
        read_split(write(), without_first, ["head_ct/000.png"]), split[split.image_id != "000"].reset_index(drop=True)
    )
    in_folders = without_first.assign(image_id="a/" + without_first.image_id)
    path = write(lambda table: table.assign(image_id="a/" + table.image_id))
    assert len(read_split(path, in_folders, ["a/000.png"])) == 39
    path = write(lambda table: table[["split", "image_id"]].iloc[::-1].rename(columns={"split": " split"}))
    pd.testing.assert_frame_equal(read_split(path, cohort(40)), split)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("image_id", 0, "999"), "image_id: found unknown '999' .*allowed: ids of the cohort"),
        (replaced("image_id", 1, "000"), "image_id: found twice '000' .*allowed: each image once"),
        (lambda table: table[1:], "image_id: found no row for '000' .*allowed: every image of the cohort"),
        (lambda table: table[8:], r"image_id: found no row for '000', '001', '002', \.\.\. \(8 in all\)"),
        (replaced("split", 0, "training"), r"split: found 'training' .*allowed: train \| validation \| test"),
        (replaced("split", 0, ""), r"split: found '' .*allowed: train \| validation \| test"),
        (
            lambda table: table.drop(columns="split"),
            "columns: found image_id, patient_id, label, method; allowed: image_id, split",
        ),
        (lambda table: table.assign(split="train"), "validation: found no image of class haemorrhage, normal"),
    ],
)
def test_own_split_faults_name_file_and_field(own, change, message):
    _, write = own
    with pytest.raises(DataError, match=rf"split\.csv: {message}"):
        read_split(write(change), cohort(40))


def test_own_split_with_a_patient_in_two_parts(own):
    split, write = own
    images = cohort(40)
    train, test = (split.image_id[split.split == name].iloc[0] for name in ("train", "test"))
    images.loc[images.image_id.isin([train, test]), "patient_id"] = "p7"
    with pytest.raises(
        DataError, match=r"split\.csv: patient_id: found patient 'p7' in test and train, allowed: one part"
    ):
        read_split(write(), images)


def test_own_split_missing(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: file: found .*No such file"):
        read_split(tmp_path / "none.csv", cohort(40))


# Using a split


def test_select_split():
    images = cohort(40)
    split = split_cohort(images, Split(train=20, validation=10, test=10), 0)
    image_set = ImageSet(np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1), images)
    train = select_split(image_set, split, "train")
    assert set(train.manifest.image_id) == set(split.image_id[split.split == "train"])
    assert train.images.ravel().astype(int).tolist() == train.manifest.image_id.astype(int).tolist()
    assert len(select_split(image_set, split, "validation", "test")) == 20
    with pytest.raises(ValueError, match="unknown parts"):
        select_split(image_set, split, "training")
    with pytest.raises(DataError, match="split: image_id: found no row for"):
        select_split(image_set, split[3:], "train")


@pytest.mark.parametrize("where", ["split", "manifest"])
def test_select_split_asserts_that_patients_are_apart(where):
    images = cohort(40)
    split = split_cohort(images, Split(train=20, validation=10, test=10), 0)
    (split if where == "split" else images)["patient_id"] = "p0"
    with pytest.raises(DataError, match=f"{where}: patient_id: found patient 'p0' in test and train and validation"):
        select_split(ImageSet(np.zeros((40, 1, 1, 1), np.float32), images), split, "train")


def test_assert_patients_apart():
    table = pd.DataFrame({"patient_id": ["a", "a", "b"], "split": ["train", "train", "test"]})
    assert_patients_apart(table, "here")
    with pytest.raises(DataError, match="here: patient_id: found patient 'a' in test and train"):
        assert_patients_apart(table.assign(split=["train", "test", "test"]), "here")


def test_drawn_images_are_nested():
    images = ImageSet(np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1), cohort(40))
    assert draw_images(images, None, 0) is images
    drawn = {n: set(draw_images(images, n, 0).manifest.image_id) for n in (5, 10, 40)}
    assert [len(names) for names in drawn.values()] == [5, 10, 40]
    assert drawn[5] < drawn[10] < drawn[40]
    assert set(draw_images(images, 5, 1).manifest.image_id) != drawn[5]


def test_fewer_images_than_asked_for_are_all_used_and_told(caplog):
    images = ImageSet(np.zeros((40, 1, 1, 1), np.float32), cohort(40))
    assert len(draw_images(images, 129, 0)) == 40
    assert "found 40 training images, all used where 129 were asked for" in caplog.text


# The data set's own split


def crossing():
    """40 images of 20 patients; `p0` is in training and test, `p13` in validation and test."""
    images = cohort(40).assign(patient_id=[f"p{index % 20}" for index in range(40)])
    parts = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    official = pd.DataFrame({"image_id": images.image_id, "split": parts * 2})
    official.loc[[20, 13], "split"] = "test"
    return images, official


def test_official_parts_are_taken_as_they_are(caplog):
    caplog.set_level(logging.INFO, logger="scangan")
    images, official = crossing()
    split = split_cohort(images.sample(frac=1, random_state=1), Split(method="official"), 0, official)
    assert split.columns.tolist() == ["image_id", "patient_id", "label", "split", "method"]
    assert split.image_id.tolist() == images.image_id.tolist()
    assert split.split.tolist() == official.split.tolist()
    assert patients_on_both_sides(split) == 2
    assert "WARNING" in caplog.text
    assert "official split: 2 patients are in several parts" in caplog.text
    assert "official split: 23 train, 7 validation, 10 test" in caplog.text


def test_official_split_leaves_out_what_it_does_not_name(caplog):
    images, official = crossing()
    split = split_cohort(images, Split(method="official"), 0, official[official.image_id != "005"])
    assert len(split) == 39
    assert "official split: 1 images are in no part, and left out: 005" in caplog.text
    image_set = ImageSet(np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1), images)
    chosen = select_split(image_set, split, "train", "validation", "test")
    assert chosen.images.ravel().tolist() == [number for number in range(40) if number != 5]


@pytest.mark.parametrize("official", [None, pd.DataFrame(columns=["image_id", "split"], dtype="str")])
def test_official_split_that_does_not_exist(official):
    with pytest.raises(DataError, match=r"split\.method: found official, but .* no split, allowed: by_patient"):
        split_cohort(cohort(40), Split(method="official"), 0, official)


def test_official_split_without_a_class_or_of_another_part():
    images, official = crossing()
    with pytest.raises(DataError, match="official split: validation: found no image of class"):
        split_cohort(images, Split(method="official"), 0, official.replace("validation", "test"))
    with pytest.raises(DataError, match=r"official split: split: found 'val' .*allowed: train \| validation \| test"):
        split_cohort(images, Split(method="official"), 0, official.replace("validation", "val"))


def test_patients_on_both_sides():
    table = pd.DataFrame({"patient_id": list("aabbccd"), "split": ["train", "test"] * 2 + ["test", "test", "train"]})
    assert patients_on_both_sides(table) == 2
    assert patients_on_both_sides(split_cohort(cohort(patients=50), PAPER, 0)) == 0


def test_patients_may_cross_in_an_official_split_only(tmp_path, caplog):
    images, official = crossing()
    split = split_cohort(images, Split(method="official"), 0, official)
    split.to_csv(tmp_path / "split.csv", index=False)
    paths = tmp_path / "images.zarr.zip", tmp_path / "manifest.parquet"
    write_image_set(*paths, ImageSet(np.zeros((40, 1, 2, 2), np.float32), images.assign(source="", data="real")))
    caplog.clear()
    parts = read_parts(*paths, tmp_path / "split.csv")
    assert {name: len(part) for name, part in parts.items()} == {"train": 23, "validation": 7, "test": 10}
    assert caplog.text.count("official split: 2 patients are in several parts") == 1
    # The training of classifiers looks once more, at the sets that it is given.
    assert_no_shared_patients(parts["train"], parts["test"])
    unmarked = {name: ImageSet(p.images, p.manifest.drop(columns="split_method")) for name, p in parts.items()}
    with pytest.raises(DataError, match="patient_id: found 'p0' in training and validation"):
        assert_no_shared_patients(unmarked["train"], unmarked["test"])

    split.assign(method="by_patient").to_csv(tmp_path / "split.csv", index=False)
    with pytest.raises(DataError, match="split: patient_id: found patient 'p0' in test and train"):
        read_parts(*paths, tmp_path / "split.csv")


def test_a_share_is_a_multiple_of_the_real_images_of_each_class():
    def image_set(kind, **classes):
        labels = [label for label, count in classes.items() for _ in range(count)]
        ids = [f"{kind}{number}" for number in range(len(labels))]
        manifest = pd.DataFrame({"image_id": ids, "patient_id": ids, "label": labels})
        return ImageSet(np.zeros((len(ids), 1, 2, 2), np.float32), manifest)

    real, synthetic = image_set("r", a=10, b=3), image_set("s", a=40, b=40)
    drawn = {share: draw_share(synthetic, real, share, 0).manifest for share in (0.1, 0.25, 0.5, 1, 4)}
    counts = {share: manifest.label.value_counts().sort_index().tolist() for share, manifest in drawn.items()}
    assert counts == {0.1: [1, 1], 0.25: [2, 1], 0.5: [5, 2], 1: [10, 3], 4: [40, 12]}
    nested = [set(manifest.image_id) for manifest in drawn.values()]
    assert all(small <= large for small, large in pairwise(nested))
    expected = "classifier.shares: found 5, which takes 50 synthetic images of class a; allowed: what 40 suffice for"
    with pytest.raises(DataError, match=re.escape(expected)):
        draw_share(synthetic, real, 5, 0)
