"""The split's guarantees, over many cohorts and seeds; and a user's own split, fault by fault."""

import logging
import re
from itertools import pairwise, product

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
    repeat_images,
    select_split,
    split_cohort,
    split_of_branch,
    thin_out,
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


ENOUGH = "allowed: at least 3 of each class, so that train, validation and test can each hold every class"


@pytest.mark.parametrize(
    ("owners", "labels", "found"),
    [
        ("p" * 6, "ababab", "1 patient (a 1, b 1)"),
        ("ppqqqq", "ababab", "2 patients (a 2, b 2)"),
        ("abcdefgh", "aaaaaabb", "8 patients (a 6, b 2)"),
        ("aabbccde", "abababaa", None),
        ("aabbcdef", "ababaaaa", "6 patients (a 6, b 2)"),
        ("abcde", "aabbb", "5 patients (a 2, b 3)"),
        ("abcd", "aaaa", None),
        ("aabb", "aaaa", "2 patients (a 2)"),
    ],
)
def test_too_few_patients_are_counted_by_class(owners, labels, found):
    images = pd.DataFrame(
        {"image_id": [f"{n:03d}" for n in range(len(owners))], "patient_id": list(owners), "label": list(labels)}
    )
    if found is None:
        split = split_cohort(images, Split(), 0)
        assert (pd.crosstab(split.split, split.label).loc[["train", "validation", "test"]] > 0).all(axis=None)
        return
    with pytest.raises(DataError, match=re.escape(f"split: patient_id: found {found}, {ENOUGH}")):
        split_cohort(images, Split(), 0)


SHARES = [(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.34, 0.33, 0.33), (0.9, 0.05, 0.05)]


def of_shares(shares, seed=0):
    return Split(**dict(zip(("train", "validation", "test"), shares, strict=True)), seed=seed)


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("seed", range(3))
def test_four_equal_patients_are_divided_two_one_one(shares, seed):
    images = pd.DataFrame(
        {
            "image_id": [f"{n:03d}" for n in range(40)],
            "patient_id": [f"p{n // 10}" for n in range(40)],
            "label": ["a", "b"] * 20,
        }
    )
    split = split_cohort(images, of_shares(shares, seed), 0)
    assert sorted(split.groupby("split").patient_id.nunique()) == [1, 1, 2]
    assert (pd.crosstab(split.split, split.label) > 0).all(axis=None)


def small_cohort(generator):
    """Up to six patients with one to three classes, few images each."""
    classes = "abc"[: generator.integers(1, 4)]
    patients = int(generator.integers(1, 7))
    rows = [
        (f"p{patient}", label)
        for patient in range(patients)
        for label in generator.choice(list(classes), int(generator.integers(1, 5)))
    ]
    table = pd.DataFrame(rows, columns=["patient_id", "label"])
    return table.assign(image_id=[f"{n:03d}" for n in range(len(rows))])


def can_be_divided(images):
    """By trying all ways: whether three groups of patients can each hold every class."""
    of_patient = images.groupby("patient_id").label.agg(set).tolist()
    every = set(images.label)
    return any(
        all(
            set().union(*(held for held, group in zip(of_patient, groups, strict=True) if group == part)) == every
            for part in range(3)
        )
        for groups in product(range(3), repeat=len(of_patient))
    )


def plainly_greedy(images, settings):
    """Patients by size, each where chi-square falls most, whatever that leaves the other parts: [N] of parts."""
    images = images.sort_values("image_id", ignore_index=True)
    table = pd.crosstab(images.patient_id, images.label)
    shares = np.array([settings.train, settings.validation, settings.test])
    expected = shares / shares.sum() * len(images)
    counts = np.floor(expected + 1e-9).astype(int)
    counts[np.argsort(counts - expected, kind="stable")[: len(images) - counts.sum()]] += 1
    target = np.outer(counts, table.sum() / len(images)).clip(min=1e-9)
    have, part_of = np.zeros_like(target), {}
    order = np.random.default_rng(settings.seed).permutation(len(table))
    for patient in order[np.argsort(-table.to_numpy().sum(1)[order], kind="stable")]:
        more = table.to_numpy()[patient]
        best = int(((have + more - target) ** 2 / target - (have - target) ** 2 / target).sum(1).argmin())
        have[best] += more
        part_of[table.index[patient]] = ("train", "validation", "test")[best]
    return images.patient_id.map(part_of)


def test_a_split_is_found_wherever_there_is_one():
    generator = np.random.default_rng(0)
    possible, as_before = 0, 0
    for number in range(240):
        images, settings = small_cohort(generator), of_shares(SHARES[number % len(SHARES)], seed=number)
        if not can_be_divided(images):
            with pytest.raises(DataError, match=r"split: patient_id: found \d patients? \("):
                split_cohort(images, settings, 0)
            continue
        possible += 1
        split = split_cohort(images, settings, 0)
        assert (pd.crosstab(split.split, split.label).reindex(["train", "validation", "test"]) > 0).all(axis=None)
        assert (split.groupby("patient_id").split.nunique() == 1).all()
        greedy = split.assign(split=plainly_greedy(images, settings))
        if images.patient_id.duplicated().any() and (
            (pd.crosstab(greedy.split, greedy.label).reindex(["train", "validation", "test"]) > 0).all(axis=None)
        ):
            as_before += 1
            assert split.split.tolist() == greedy.split.tolist()
    assert possible > 60
    assert 20 < as_before < possible - 20


@pytest.mark.parametrize("seed", range(10))
def test_a_rare_class_of_single_images_is_in_every_part(seed):
    split = split_cohort(cohort(200, positive=3), PAPER.model_copy(update={"seed": seed}), 0)
    assert counts_of(split) == [144, 34, 22]
    assert (pd.crosstab(split.split, split.label).haemorrhage == 1).all()


def test_shares_of_few_single_images_leave_each_class_one():
    split = split_cohort(cohort(6), Split(), 0)
    assert table_of(split) == {name: {"haemorrhage": 1, "normal": 1} for name in ("train", "validation", "test")}
    split = split_cohort(cohort(20), Split(train=0.9, validation=0.05, test=0.05), 0)
    assert counts_of(split) == [16, 2, 2]


def test_counts_that_a_user_asked_for_are_not_changed():
    message = "config: split.test: found 1, allowed: at least 2, an image of each class"
    with pytest.raises(DataError, match=message):
        split_cohort(cohort(40), Split(train=37, validation=2, test=1), 0)
    # But a patient is not divided, and may have more.
    by_patient = cohort(40).assign(patient_id=[f"p{n % 20}" for n in range(40)])
    assert counts_of(split_cohort(by_patient, Split(train=37, validation=2, test=1), 0))[2] == 2


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
        DataError, match=r"split\.csv: patient_id: found patient 'p7' in test and train \(1 in all\), allowed: one part"
    ):
        read_split(write(), images)


def test_own_split_with_several_patients_in_two_parts_counts_them(own):
    _, write = own
    by_twos = cohort(40).assign(patient_id=[f"p{n // 2:02d}" for n in range(40)])
    path = write(lambda table: table.assign(split=["train", "validation", "test", "test"] * 10))
    expected = "patient_id: found patient 'p00' in train and validation (10 in all), allowed: one part for each patient"
    with pytest.raises(DataError, match=re.escape(expected)):
        read_split(path, by_twos)


def test_own_split_missing(tmp_path):
    expected = "none.csv: file: found No such file or directory, allowed: a CSV with columns image_id, split"
    with pytest.raises(DataError, match=re.escape(expected)):
        read_split(tmp_path / "none.csv", cohort(40))


def sourced(folder="head_ct", ending=".png"):
    images = cohort(40)
    return images.assign(source=f"{folder}/" + images.image_id + ending)


@pytest.mark.parametrize(
    ("as_written", "said"),
    [
        ("{}.png", "their ending: read as the id without .png ('000.png' as '000')"),
        ("images/{}.png", "their ending: read as the id without .png ('images/000.png' as '000')"),
        ("head_ct\\{}.PNG", "their ending: read as the id without .PNG ('head_ct\\000.PNG' as '000')"),
        ("elsewhere/{}", "another folder ('elsewhere/000' as '000')"),
    ],
)
def test_ids_with_ending_or_folder_are_read_and_told_once(own, caplog, as_written, said):
    split, write = own
    path = write(lambda table: table.assign(image_id=table.image_id.map(as_written.format)))
    pd.testing.assert_frame_equal(read_split(path, sourced()), split)
    assert caplog.messages == [f"40 ids of {path} are written with {said}"]


def test_ids_in_folders_may_be_written_without_them(own, caplog):
    split, write = own
    in_folders = sourced().assign(image_id="a/" + cohort(40).image_id)
    path = write(lambda table: table.assign(image_id=table.image_id + ".png"))
    assert read_split(path, in_folders).split.tolist() == split.split.tolist()
    assert len(caplog.messages) == 1


def test_rows_of_rejected_images_may_have_an_ending_too(own, caplog):
    _, write = own
    path = write(lambda table: table.assign(image_id=table.image_id + ".png"))
    assert len(read_split(path, sourced()[2:], ["head_ct/000.png", "head_ct/001.png"])) == 38
    assert caplog.messages[0] == f"{path}: 2 images of the split were rejected before"
    assert caplog.messages[1].startswith(f"38 ids of {path} ")


@pytest.mark.parametrize(
    ("images", "change", "message"),
    [
        (
            sourced(),
            replaced("image_id", 3, "999.png"),
            "found unknown '999.png' (1 in all), allowed: the id without .png, such as '000'",
        ),
        (
            sourced(),
            lambda table: table.assign(image_id=table.image_id + ".jpg"),
            "found unknown '000.jpg', '001.jpg', '002.jpg', ... (40 in all), allowed: the id without .jpg, such as",
        ),
        # 000 may be that of either folder.
        (
            pd.concat([sourced().assign(image_id=f"{folder}/" + cohort(40).image_id) for folder in "ab"]),
            lambda table: table.assign(image_id=table.image_id + ".png"),
            "found unknown '000.png', '001.png', '002.png', ... (40 in all), allowed: the id without .png, such as",
        ),
        (sourced(), replaced("image_id", 1, "000.png"), "found twice '000' (1 in all), allowed: each image once"),
        (
            sourced(),
            replaced("image_id", 1, "001.v2"),
            "found unknown '001.v2' (1 in all), allowed: the id without .v2",
        ),
        (sourced(), replaced("image_id", 1, ""), "found unknown '' (1 in all), allowed: ids of the cohort"),
    ],
)
def test_ids_that_may_be_several_or_none_are_one_line(own, images, change, message):
    _, write = own
    with pytest.raises(DataError, match=re.escape(f"split.csv: image_id: {message}")) as error:
        read_split(write(change), images)
    assert len(str(error.value).splitlines()) == 1


def test_an_id_with_a_dot_is_itself(own, caplog):
    split, write = own
    names = ["scan", "scan.png", *cohort(40).image_id[2:]]
    path = write(lambda table: table.assign(image_id=names))
    found = read_split(path, sourced().assign(image_id=names)).set_index("image_id").split
    assert found[names].tolist() == split.split.tolist()
    assert caplog.messages == []


# In whatever way it was saved


def text_of(split, separator=",", quote=""):
    rows = [("image_id", "split"), *zip(split.image_id, split.split, strict=True)]
    return "".join(separator.join(f"{quote}{value}{quote}" for value in row) + "\n" for row in rows)


@pytest.mark.parametrize("separator", [",", ";", "\t", " , ", "; "])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_own_split_is_read_however_it_was_saved(own, separator, quote, encoding, line):
    split, write = own
    path, text = write(), text_of(split, separator, quote)
    path.write_bytes(text.replace("\n", line).encode(encoding))
    pd.testing.assert_frame_equal(read_split(path, cohort(40)), split)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_names_beyond_ascii_are_read_in_every_encoding(own, encoding):
    split, write = own
    names = "M\u00fcller-" + cohort(40).image_id
    path = write()
    path.write_bytes(text_of(split.assign(image_id=names)).encode(encoding))
    assert read_split(path, cohort(40).assign(image_id=names)).image_id.tolist() == names.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file: found nothing in it, allowed: a CSV with columns image_id, split"),
        (b"\xef\xbb\xbf\n \n", "file: found nothing in it, allowed"),
        (b"PK\x03\x04\x00\x00", "file: found no text, allowed: a CSV with columns image_id, split, in UTF-8"),
        ("image_id,split\n".encode("utf-16-le"), "file: found no text, allowed"),
        (b"\x81\x8d\x8f", "file: found no text, allowed"),
        (b"image_id,split\n", "file: found no rows below the names of the columns, allowed: a CSV with"),
        (
            b"image_id,split,split\n000,test,train\n",
            "columns: found image_id, split, split; allowed: image_id, split, ",
        ),
        (b"id;part\n000;test\n", "columns: found id;part; allowed: image_id, split"),
        (b"a,b,c,d,e,f,g,h\n", "columns: found a, b, c, d, e, f, ...; allowed: image_id, split"),
        (b"image_id,split\n000,test,7\n", "file: found 3 fields in line 2, allowed: 2, as there are columns"),
        (b"image_id,split\n000\n", "image_id: found no row for '001'"),
    ],
)
def test_files_that_are_no_split_are_one_line(own, content, message):
    _, write = own
    path = write()
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"split.csv: {message}")) as error:
        read_split(path, cohort(40))
    assert len(str(error.value).splitlines()) == 1


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


def test_of_many_images_every_so_manieth_is_looked_at():
    images = ImageSet(np.zeros((10, 1, 2, 2), np.float32), pd.DataFrame({"image_id": list("abcdefghij")}))
    found = {most: "".join(thin_out(images, most).manifest.image_id) for most in (3, 5, 9, 10)}
    assert found == {3: "aei", 5: "acegi", 9: "acegi", 10: "abcdefghij"}


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


def test_copies_are_as_many_as_asked_for_and_all_images_equally_often():
    labels = ["a"] * 3 + ["b"] * 5
    ids = [f"i{number}" for number in range(8)]
    manifest = pd.DataFrame({"image_id": ids, "patient_id": ids, "label": labels})
    real = ImageSet(np.arange(8, dtype=np.float32)[:, None, None, None], manifest)
    copies = repeat_images(real, {"a": 7, "b": 4}, 0)
    assert copies.manifest["label"].value_counts().to_dict() == {"a": 7, "b": 4}
    often = copies.manifest["image_id"].value_counts()
    assert sorted(often[often.index.isin(ids[:3])]) == [2, 2, 3]
    assert sorted(often[often.index.isin(ids[3:])]) == [1, 1, 1, 1]
    assert [f"i{value:.0f}" for value in copies.images.ravel()] == copies.manifest["image_id"].tolist()
    # Which ones come once more is drawn.
    extra = {repeat_images(real, {"a": 4}, seed).manifest["image_id"].value_counts().idxmax() for seed in range(20)}
    assert extra == {"i0", "i1", "i2"}


FOLDS = Split(method="folds", folds=5)


@pytest.mark.parametrize("patients", [None, 60])
def test_folds_keep_patients_together_and_classes_in_proportion(patients):
    table = split_cohort(cohort(patients=patients), FOLDS, 0)
    assert set(table.split) == {f"fold{number}" for number in range(5)}
    assert set(table.method) == {"folds"}
    assert patients_on_both_sides(table) == 0
    counts = pd.crosstab(table.split, table.label)
    slack = 0 if patients is None else 6
    assert (counts - 20).abs().to_numpy().max() <= slack
    again = split_cohort(cohort(patients=patients).sample(frac=1, random_state=1), FOLDS, 0)
    assert table.equals(again)


def test_every_fold_tests_once_and_validates_once():
    table = split_cohort(cohort(), FOLDS, 0)
    splits = [split_of_branch(table, fold, None, 0) for fold in range(5)]
    for part in ("test", "validation"):
        named = pd.concat([split.image_id[split.split == part] for split in splits])
        assert sorted(named) == sorted(table.image_id)
    for fold, split in enumerate(splits):
        assert counts_of(split) == [120, 40, 40]
        assert (split.split == "test").equals(table.split == f"fold{fold}")


def test_a_share_of_the_training_patients_is_within_a_larger_one():
    table = split_cohort(
        cohort(patients=60), PAPER.model_copy(update={"train": 0.6, "validation": 0.2, "test": 0.2}), 0
    )
    quarter, half = (split_of_branch(table, None, share, 0) for share in (0.25, 0.5))
    trained = [set(split.patient_id[split.split == "train"]) for split in (quarter, half, table)]
    assert trained[0] < trained[1] < trained[2]
    assert len(trained[1]) == pytest.approx(len(trained[2]) / 2, abs=2)
    for split in (quarter, half):
        held_out = table.split != "train"
        assert split.split[held_out].equals(table.split[held_out])
        assert set(split.split[~held_out]) == {"train", "unused"}
        assert set(split.label[split.split == "train"]) == {"haemorrhage", "normal"}
    # Folds first, then the share; of the whole of folds nobody is left out.
    folds = split_cohort(cohort(), FOLDS, 0)
    assert split_of_branch(folds, None, 0.5, 0).equals(folds)
    assert counts_of(split_of_branch(folds, 4, 0.5, 0)) == [60, 40, 40]


def test_more_folds_than_patients_of_a_class_are_refused():
    few = cohort(images=20, positive=4)
    with pytest.raises(DataError) as refused:
        split_cohort(few, FOLDS, 0)
    assert str(refused.value) == (
        "config: split.folds: found 5 with patients of haemorrhage 4, normal 16, "
        "allowed: as many as the smallest class has patients"
    )


@pytest.mark.parametrize("classes", [2, 10])
def test_many_classes_are_divided_at_once(classes):
    """Ten classes have 2^30 states; where patients are of one class each they need not be looked at together."""
    rows = [(f"{c}_{i}", f"{c}_{i // 2}", f"c{c}") for c in range(classes) for i in range(6)]
    manifest = pd.DataFrame(rows, columns=["image_id", "patient_id", "label"])
    split = split_cohort(manifest, Split(train=0.6, validation=0.2, test=0.2), 0)
    assert (split.groupby("split").label.nunique() == classes).all()
    few = manifest[manifest.patient_id != "0_2"]
    with pytest.raises(DataError, match=r"c0 2, c1 3, .*allowed: at least 3 of each class|c0 2, c1 3\), allowed"):
        split_cohort(few, Split(train=0.6, validation=0.2, test=0.2), 0)
