"""Readers of labelled images: every format, and every fault by its message."""

import os
import struct

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scangan.config import Images
from scangan.data.store import ImageSet, fit_square, scale_images, stretch_square
from scangan.errors import DataError
from scangan.ingest.images import read_image
from scangan.ingest.listing import mark_results
from scangan.rejected import REJECTED_TYPES, Unusable
from tests.unit.cohorts import read_cohort
from tests.unit.test_dicom_image import write_image

RAMP = np.add.outer(np.arange(12) * 8, np.arange(10) * 4).astype(np.uint8)


def settings(**changes) -> Images:
    defaults = {
        "reader": "labelled_images",
        "root": "head_ct",
        "label_column": "hemorrhage",
        "classes": {"normal": 0, "haemorrhage": 1},
        "image_size": 8,
        "max_rejected": 0.5,
    }
    if changes.get("reader") not in (None, "labelled_images"):
        defaults |= {"label_column": None}  # null drops what another reader reads
    return Images.of_kind(defaults | changes)


@pytest.fixture
def cohort(tmp_path):
    """Ten slices in Kaggle's layout; id 0 to 4 bleed."""
    (tmp_path / "head_ct").mkdir()
    for index in range(10):
        Image.fromarray(RAMP + np.uint8(index)).convert("RGB").save(tmp_path / "head_ct" / f"{index:03d}.png")
    write_labels(tmp_path, [f"{index},{int(index < 5)}" for index in range(10)])
    return tmp_path


def write_labels(root, rows, header="id, hemorrhage"):
    (root / "labels.csv").write_text("\n".join([header, *rows, ""]))


def labels(cohort) -> list[str]:
    return (cohort / "labels.csv").read_text().splitlines()[1:]


def rejected_of(cohort, **changes) -> list[tuple[str, str, str]]:
    _, ingested = read_cohort(cohort, settings(**changes), "real")
    rejected = ingested.rejected
    assert rejected.columns.tolist() == list(REJECTED_TYPES)
    assert rejected.counted.all()
    assert (rejected.remedy != "").all()
    return list(zip(rejected.source, rejected.reason, rejected.found, strict=True))


# Whole cohorts


def test_kaggle_layout(cohort):
    image_set, ingested = read_cohort(cohort, settings(), "phantom")
    rejected = ingested.rejected
    assert len(rejected) == 0
    assert image_set.images.shape == (10, 1, 8, 8)
    assert image_set.images.dtype == np.float32
    manifest = image_set.manifest
    assert manifest.image_id.tolist() == [f"{index:03d}" for index in range(10)]
    assert manifest.patient_id.tolist() == manifest.image_id.tolist()
    assert manifest.label.tolist() == ["haemorrhage"] * 5 + ["normal"] * 5
    assert manifest.source[3] == "head_ct/003.png"
    assert set(manifest.data) == {"phantom"}
    assert manifest.spacing_mm.isna().all()


def test_order_of_rows_and_spaces_do_not_matter(cohort):
    first, _ = read_cohort(cohort, settings(), "real")
    write_labels(cohort, [f" {row.replace(',', ' ,  ')} " for row in reversed(labels(cohort))], " id ,hemorrhage  ")
    second, _ = read_cohort(cohort, settings(), "real")
    np.testing.assert_array_equal(first.images, second.images)
    assert first.manifest.equals(second.manifest)


def test_patient_column(cohort):
    write_labels(cohort, [f"{row},p{index // 2}" for index, row in enumerate(labels(cohort))], "id,hemorrhage,patient")
    image_set, _ = read_cohort(cohort, settings(patient_column="patient"), "real")
    assert image_set.manifest.patient_id.tolist() == [f"p{index // 2}" for index in range(10)]


def test_image_folder(tmp_path):
    for folder, count in (("COVID", 3), ("healthy/deeper", 2)):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(RAMP).save(tmp_path / folder / f"{folder[0]}{index}.jpg")
    (tmp_path / "COVID" / "notes.txt").write_text("no image")
    (tmp_path / "README").write_text("of no class")
    (tmp_path / "other/deeper").mkdir(parents=True)
    (tmp_path / "other/deeper/c.png").write_bytes(b"")
    chosen = settings(reader="image_folder", classes={"covid": "COVID", "normal": "healthy"})
    image_set, ingested = read_cohort(tmp_path, chosen, "real")
    rejected = ingested.rejected
    assert image_set.manifest.label.tolist() == ["covid"] * 3 + ["normal"] * 2
    assert image_set.manifest.image_id.tolist() == [
        "COVID/C0",
        "COVID/C1",
        "COVID/C2",
        "healthy/deeper/h0",
        "healthy/deeper/h1",
    ]
    assert image_set.manifest.source[4] == "healthy/deeper/h1.jpg"
    assert list(zip(rejected.source, rejected.reason, rejected.found, strict=True)) == [
        ("COVID/notes.txt", "not an image", "the ending '.txt'"),
        ("README", "of no class", "1 file"),
        ("other", "of no class", "1 file"),
    ]
    assert not rejected.counted.any()


# Rejected, and the run goes on


def test_id_without_a_file(cohort):
    write_labels(cohort, [*labels(cohort), "77,1"])
    assert rejected_of(cohort) == [("labels.csv id '77'", "no image file of this id", "none")]


def test_file_without_an_id(cohort):
    write_labels(cohort, labels(cohort)[:-1])
    assert rejected_of(cohort) == [("head_ct/009.png", "no row of this id", "none in labels.csv")]


@pytest.mark.parametrize("content", [b"", b"not an image", None], ids=["zero-size", "text", "truncated"])
def test_unreadable_image(cohort, content):
    path = cohort / "head_ct" / "002.png"
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    [(source, reason, found)] = rejected_of(cohort)
    assert source == "head_ct/002.png"
    assert reason == "unreadable image"
    assert found
    assert str(cohort) not in found


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".bmp"])
def test_truncated_image_of_other_formats(cohort, suffix):
    path = cohort / "head_ct" / f"extra{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    write_labels(cohort, [*labels(cohort), "extra,1"])
    [(source, reason, found)] = rejected_of(cohort)
    assert source == f"head_ct/extra{suffix}"
    assert reason == "unreadable image"
    assert found


@pytest.mark.parametrize("label", ["2", "", "yes"])
def test_label_that_is_not_of_the_set(cohort, label):
    write_labels(cohort, [f"0,{label}", *labels(cohort)[1:]])
    assert rejected_of(cohort) == [("head_ct/000.png", "label of no class", f"'{label}' in hemorrhage, allowed: 0 | 1")]


def test_row_with_too_few_values(cohort):
    write_labels(cohort, ["0", *labels(cohort)[1:]])
    assert rejected_of(cohort) == [("head_ct/000.png", "label of no class", "'' in hemorrhage, allowed: 0 | 1")]


def test_identical_repeated_row(cohort):
    write_labels(cohort, [*labels(cohort), "3,1", "003,1"])
    image_set, ingested = read_cohort(cohort, settings(), "real")
    rejected = ingested.rejected
    assert len(image_set) == 10
    assert rejected.reason.tolist() == ["repeated row"]
    assert rejected.found.tolist() == ["its id 3 times in labels.csv"]
    assert rejected.source.tolist() == ["head_ct/003.png"]
    assert not rejected.counted.any()


def test_contradicting_rows(cohort):
    write_labels(cohort, [*labels(cohort), "3,0"])
    image_set, ingested = read_cohort(cohort, settings(), "real")
    rejected = ingested.rejected
    assert "003" not in set(image_set.manifest.image_id)
    assert rejected.reason.tolist() == ["rows contradict each other"]
    assert rejected.found.tolist() == ["0 | 1 in labels.csv"]


def test_two_files_with_one_id(cohort):
    Image.fromarray(RAMP).save(cohort / "003.jpg")
    assert rejected_of(cohort) == [
        ("003.jpg", "another file has the same id", "head_ct/003.png"),
        ("head_ct/003.png", "another file has the same id", "003.jpg"),
    ]


def test_two_files_with_one_number(cohort):
    Image.fromarray(RAMP).save(cohort / "head_ct" / "0003.png")
    assert len(rejected_of(cohort)) == 2


def test_an_exact_name_goes_before_a_number(cohort):
    Image.fromarray(RAMP).save(cohort / "head_ct" / "3.png")
    write_labels(cohort, [*labels(cohort), "003,0"])
    image_set, ingested = read_cohort(cohort, settings(), "real")
    rejected = ingested.rejected
    assert len(rejected) == 0
    assert dict(zip(image_set.manifest.image_id, image_set.manifest.label, strict=True))["003"] == "normal"


def test_missing_patient(cohort):
    write_labels(
        cohort, [f"{row},{'p' if index else ''}" for index, row in enumerate(labels(cohort))], "id,hemorrhage,who"
    )
    assert rejected_of(cohort, patient_column="who") == [
        ("head_ct/000.png", "missing patient", "nothing in who, allowed: the patient's name")
    ]


def test_two_classes_may_have_files_of_one_name(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for file in ("same.png", "twice.png", "twice.jpg"):
            Image.fromarray(RAMP).save(tmp_path / folder / file)
    chosen = settings(reader="image_folder", classes={"normal": "a", "haemorrhage": "b"}, max_rejected=0.7)
    image_set, ingested = read_cohort(tmp_path, chosen, "real")
    rejected = ingested.rejected
    assert image_set.manifest.image_id.tolist() == ["a/same", "b/same"]
    assert set(rejected.reason) == {"another file has the same id"}
    assert sorted(rejected.found) == [f"{folder}/twice.{ending}" for folder in "ab" for ending in ("jpg", "png")]


@pytest.mark.parametrize(
    "written",
    ["{0:03d}.png", "head_ct/{0:03d}.png", "head_ct/{0:03d}", r"head_ct\{0:03d}.png", "./head_ct/{0:03d}.png"],
)
def test_ids_written_with_ending_or_folder_are_read_as_ids(cohort, caplog, written):
    caplog.set_level("INFO")
    before, _ = read_cohort(cohort, settings(), "real")
    write_labels(cohort, [f"{written.format(index)},{int(index < 5)}" for index in range(10)])
    after, ingested = read_cohort(cohort, settings(), "real")
    assert after.manifest.equals(before.manifest)
    assert len(ingested.rejected) == 0
    [line] = [record.getMessage() for record in caplog.records if "ids are written" in record.getMessage()]
    assert line.startswith("labels.csv: 10 ids are written with their folder or ending")
    assert line.endswith("'000'")
    if written.endswith(".png"):
        assert "the id without .png" in line


def test_an_id_with_a_wrong_ending_or_folder_is_said_once(cohort):
    rows = labels(cohort)
    write_labels(cohort, [*rows[:7], "007.jpg,0", "elsewhere/008.png,0", "elsewhere/77.png,0", rows[9]])
    _, ingested = read_cohort(cohort, settings(), "real")
    remedies = dict(zip(ingested.rejected.source, ingested.rejected.remedy, strict=True))
    assert remedies == {
        "labels.csv id '007.jpg'": "write the id without its folder and ending, '007'",
        "labels.csv id 'elsewhere/008.png'": "write the id without its folder and ending, '008'",
        "labels.csv id 'elsewhere/77.png'": "add the image, or remove the row",
    }


# Names, formats and folders


def folders_of(tmp_path, names, pixels=RAMP):
    for index, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(pixels, index)).save(path)


def in_folders(**changes):
    return settings(reader="image_folder", classes={"sick": "a", "well": "b"}, **changes)


def test_links_are_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    folders_of(elsewhere, ["1.png", "deep/2.png"])
    root = tmp_path / "data"
    folders_of(root, ["a/0.png", "b/0.png"])
    (root / "a/linked").symlink_to(elsewhere)
    (root / "b/1.png").symlink_to(elsewhere / "1.png")
    (root / "b/loop").symlink_to(root)
    image_set, _ = read_cohort(root, in_folders(), "real")
    assert image_set.manifest.image_id.tolist() == ["a/0", "a/linked/1", "a/linked/deep/2", "b/0", "b/1"]


@pytest.mark.parametrize("mark", [".ipynb_checkpoints", "__MACOSX", ".Trash"])
def test_copies_that_tools_leave_are_not_images(tmp_path, mark):
    folders_of(tmp_path, ["a/0.png", "b/0.png", f"a/{mark}/0-checkpoint.png", f"{mark}/b/0.png"])
    (tmp_path / "a/._0.png").write_bytes(b"\0\x05\x16\x07")
    (tmp_path / "b/Thumbs.db").write_bytes(b"\xd0\xcf")
    image_set, ingested = read_cohort(tmp_path, in_folders(), "real")
    assert image_set.manifest.image_id.tolist() == ["a/0", "b/0"]
    assert len(ingested.rejected) == 0


def test_our_own_results_are_not_images(tmp_path):
    folders_of(tmp_path, ["a/0.png", "b/0.png", "a/results/figures/1.png"])
    mark_results(tmp_path / "a/results")
    image_set, ingested = read_cohort(tmp_path, in_folders(), "real")
    assert image_set.manifest.image_id.tolist() == ["a/0", "b/0"]
    assert len(ingested.rejected) == 0


@pytest.mark.parametrize("ending", ["webp", "gif", "jfif", "jp2", "pgm", "ppm", "j2k", "JPG"])
def test_what_pillow_reads_well_is_read(tmp_path, ending):
    lossless = {"lossless": True} if ending == "webp" else {"quality": 95} if ending in ("jfif", "JPG") else {}
    path = save(tmp_path / f"a.{ending}", RAMP, "RGB" if ending == "ppm" else None, **lossless)
    np.testing.assert_allclose(pixels_of(path, 1), RAMP[None] / 255, atol=0.03 if "quality" in lossless else 0.005)


@pytest.mark.parametrize("name", ["a/1.2.840.113", "a/0001", "a/image.xyz"])
def test_an_image_is_known_by_what_it_holds(tmp_path, name):
    folders_of(tmp_path, ["a/0.png", "b/0.png", "b/source.png"])
    (tmp_path / "b/source.png").rename(tmp_path / name)
    image_set, ingested = read_cohort(tmp_path, in_folders(), "real")
    assert image_set.manifest.image_id.tolist() == sorted(["a/0", name, "b/0"])
    assert len(ingested.rejected) == 0


def test_of_what_is_no_image_each_is_listed_and_none_counts(tmp_path):
    folders_of(tmp_path, ["a/0.png", "b/0.png"])
    for name, content in (("a/notes.txt", b"P5 is a fine paper"), ("a/volume.nii.gz", b"\x1f\x8b"), ("b/README", b"")):
        (tmp_path / name).write_bytes(content)
    _, ingested = read_cohort(tmp_path, in_folders(max_rejected=0), "real")
    assert dict(zip(ingested.rejected.source, ingested.rejected.found, strict=True)) == {
        "a/notes.txt": "the ending '.txt'",
        "a/volume.nii.gz": "the ending '.gz'",
        "b/README": "no ending",
    }
    assert set(ingested.rejected.reason) == {"not an image"}
    assert not ingested.rejected.counted.any()


@pytest.mark.parametrize("name", [b"a/caf\xe9.png", b"a/\x83\x65.png", b"a/\xff/0.png"])
def test_a_name_that_is_not_utf8_costs_one_image(tmp_path, name):
    folders_of(tmp_path, ["a/0.png", "b/0.png", os.fsdecode(name)])
    image_set, ingested = read_cohort(tmp_path, in_folders(max_rejected=0.5), "real")
    assert image_set.manifest.image_id.tolist() == ["a/0", "b/0"]
    [rejected] = ingested.rejected.itertuples()
    assert rejected.reason == "name is not UTF-8"
    assert rejected.source == name.decode(errors="backslashreplace")
    assert rejected.counted
    ingested.rejected.to_csv(tmp_path / "rejected.csv")


@pytest.mark.parametrize("name", ["a/two words.png", 'a/it\'s "so"; --rm.png', "a/line\nbreak.png", "a/\u202egnp.png"])
def test_any_other_name_is_harmless(tmp_path, name):
    folders_of(tmp_path, ["a/0.png", "b/0.png", name])
    image_set, _ = read_cohort(tmp_path, in_folders(), "real")
    assert name.removesuffix(".png") in set(image_set.manifest.image_id)


# DICOM images, one a file


def radiographs(tmp_path, names, **values):
    """Radiographs of 12 bits, each a ramp that begins one value later than the one before."""
    for index, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path.parent, RADIOGRAPH + index, **values).rename(path)


RADIOGRAPH = np.arange(0, 64 * 50, 50, dtype=np.uint16).reshape(8, 8)


def test_class_folders_of_radiographs(tmp_path):
    radiographs(tmp_path, ["a/1.dcm", "a/2.2.840.113", "b/noending"], PatientID="P1")
    radiographs(
        tmp_path,
        ["b/IM.ima"],
        PatientID="P2",
        WindowCenter=1000,
        WindowWidth=1,
        PhotometricInterpretation="MONOCHROME1",
    )
    image_set, ingested = read_cohort(tmp_path, in_folders(), "real")
    manifest = image_set.manifest
    assert manifest.image_id.tolist() == ["a/1", "a/2.2.840.113", "b/IM", "b/noending"]
    ramp = np.arange(64, dtype=np.float32).reshape(8, 8) / 63
    for index in (0, 1, 3):
        np.testing.assert_allclose(image_set.images[index, 0], ramp, atol=1e-6)
    np.testing.assert_array_equal(image_set.images[2, 0], RADIOGRAPH < 1000)
    # Patients are those of the headers, by pseudonyms.
    assert manifest.patient_id[0] == manifest.patient_id[1] == manifest.patient_id[3] != manifest.patient_id[2]
    assert not manifest.patient_id.str.contains("P1|P2").any()
    assert ingested.notes == ("grey scale: DICOM (full range) in 3 images, DICOM (own window) in 1 image",)
    # A folder or name that says whose they are goes before.
    named, _ = read_cohort(tmp_path, in_folders(patient_from=r"^\w"), "real")
    assert named.manifest.patient_id.tolist() == ["1", "2", "I", "n"]


@pytest.mark.parametrize("name", ["a/damaged.dcm", "a/empty.dcm", "a/cut.dcm"])
def test_a_damaged_radiograph_is_refused_by_name(tmp_path, name):
    radiographs(tmp_path, ["a/0.dcm", "b/0.dcm", name])
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes({"damaged": b"no DICOM", "empty": b"", "cut": content[:-10]}[(tmp_path / name).stem])
    image_set, ingested = read_cohort(tmp_path, in_folders(max_rejected=0.5), "real")
    assert image_set.manifest.image_id.tolist() == ["a/0", "b/0"]
    [refused] = ingested.rejected.itertuples()
    assert refused.source == name
    assert refused.counted
    assert refused.reason in ("not DICOM", "damaged pixel data")


def test_labelled_radiographs(tmp_path):
    radiographs(tmp_path, ["images/1.dcm", "images/2.dcm"], PatientID="P1")
    write_labels(tmp_path, ["1,0", "2.dcm,1"])
    image_set, ingested = read_cohort(tmp_path, settings(), "real")
    assert image_set.manifest.label.tolist() == ["normal", "haemorrhage"]
    assert image_set.manifest.patient_id.nunique() == 1
    assert len(ingested.rejected) == 0


# Parts and patients by folders and names


def test_class_folders_in_parts_are_a_split_of_its_own(tmp_path):
    names = [
        f"{part}/{label}/{index}.png" for part in ("Train", "val", "testing") for label in "ab" for index in range(2)
    ]
    folders_of(tmp_path, names)
    image_set, ingested = read_cohort(tmp_path, in_folders(), "real")
    assert image_set.manifest.label.tolist() == ["sick", "sick", "well", "well"] * 3
    assert ingested.official.split.tolist() == ["train"] * 4 + ["test"] * 4 + ["validation"] * 4
    assert ingested.official.image_id.tolist() == image_set.manifest.image_id.tolist()
    assert image_set.manifest.image_id[0] == "Train/a/0"


def test_class_folders_go_before_parts(tmp_path):
    folders_of(tmp_path, ["a/0.png", "b/0.png", "train/a/1.png", "train/b/1.png"])
    image_set, ingested = read_cohort(tmp_path, in_folders(), "real")
    assert image_set.manifest.image_id.tolist() == ["a/0", "b/0"]
    assert ingested.official.empty
    assert list(zip(ingested.rejected.source, ingested.rejected.found, strict=True)) == [("train", "2 files")]


def test_a_class_in_no_part_is_missing(tmp_path):
    folders_of(tmp_path, ["train/a/0.png", "test/a/0.png"])
    with pytest.raises(
        DataError, match=r"classes\.well: found no such folder, allowed: one of those there: test, train"
    ):
        read_cohort(tmp_path, in_folders(), "real")


@pytest.mark.parametrize(
    ("names", "patient_from", "patients"),
    [
        (["p1/0.png", "p1/ses-2/1.png", "p2/0.png"], "folder", ["p1", "p1", "p2"]),
        (["sub-01/ses-1/0.png", "sub-01/ses-2/0.png", "sub-02/ses-1/0.png"], None, ["sub-01", "sub-01", "sub-02"]),
        (
            ["person1_virus_1.png", "person1_virus_2.png", "person22_1.png"],
            r"person\d+",
            ["person1"] * 2 + ["person22"],
        ),
        (["x-01-a.png", "x-01-b.png", "y-01-b.png"], r"(?:^|/)(\w-\d+)", ["x-01", "x-01", "y-01"]),
        (["0.png", "1.png", "2.png"], None, ["a/0", "a/1", "a/2"]),
    ],
)
def test_patients_from_folders_and_names(tmp_path, names, patient_from, patients):
    folders_of(tmp_path, [*(f"a/{name}" for name in names), "b/sub-77/person9/x-09-c.png"])
    image_set, _ = read_cohort(tmp_path, in_folders(patient_from=patient_from), "real")
    assert image_set.manifest.patient_id.tolist()[:-1] == patients


@pytest.mark.parametrize("patient_from", ["folder", r"person\d+", r"^(\d{3})_"])
def test_without_a_patient_in_its_path_an_image_is_refused(tmp_path, patient_from):
    folders_of(tmp_path, ["a/person1/001_0.png", "b/person1/001_1.png", "a/nobody.png"])
    if patient_from.startswith("^"):
        folders_of(tmp_path, ["a/001_0.png", "b/001_1.png"])
    _, ingested = read_cohort(tmp_path, in_folders(patient_from=patient_from, max_rejected=0.6), "real")
    refused = ingested.rejected[ingested.rejected.source == "a/nobody.png"]
    assert refused.reason.tolist() == ["no patient in its path"]
    assert refused.found.tolist() == ["nobody.png"]


def test_labelled_images_take_patients_from_their_paths_where_no_column_names_them(cohort):
    for index in range(10):
        folder = cohort / f"sub-{index // 5}"
        folder.mkdir(exist_ok=True)
        (cohort / f"head_ct/{index:03d}.png").rename(folder / f"{index:03d}.png")
    image_set, _ = read_cohort(cohort, settings(), "real")
    assert image_set.manifest.patient_id.tolist() == ["sub-0"] * 5 + ["sub-1"] * 5
    write_labels(cohort, [f"{row},p" for row in labels(cohort)], "id,hemorrhage,who")
    image_set, _ = read_cohort(cohort, settings(patient_column="who"), "real")
    assert set(image_set.manifest.patient_id) == {"p"}


# Fatal


def test_what_is_hidden_or_left_by_a_system_is_no_image(cohort):
    before, _ = read_cohort(cohort, settings(), "real")
    for name in ("._0.png", ".ipynb_checkpoints/0.png", "__MACOSX/0.png"):
        path = cohort / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not an image")
    after, ingested = read_cohort(cohort, settings(), "real")
    assert len(ingested.rejected) == 0
    assert after.manifest.equals(before.manifest)


def test_csv_missing(cohort):
    (cohort / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv: file: found No such file or directory, allowed: a CSV with"):
        read_cohort(cohort, settings(), "real")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "nothing in it"),
        (b'id,hemorrhage\n0,"1\n2"x"\n3,4,5\n', "3 fields in line"),
        (b"id,hemorrhage\n\x00,1\n", "no text"),
        (b"id,hemorrhage\n", "no rows below the names"),
    ],
)
def test_csv_unreadable(cohort, content, found):
    (cohort / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"labels\.csv: file: found {found}.*, allowed: "):
        read_cohort(cohort, settings(), "real")


@pytest.mark.parametrize(
    ("encoding", "separator", "end"),
    [("utf-8-sig", ",", "\n"), ("utf-16", "\t", "\r\n"), ("cp1252", ";", "\r\n"), ("utf-8", ";", "\r")],
)
def test_csv_of_any_program(cohort, encoding, separator, end):
    before, _ = read_cohort(cohort, settings(), "real")
    rows = [f"{index}{separator}{int(index < 5)}{separator}r\u00e9sum\u00e9" for index in range(10)]
    text = end.join([f"id{separator}hemorrhage{separator}remark", *rows])
    (cohort / "labels.csv").write_bytes(text.encode(encoding))
    after, ingested = read_cohort(cohort, settings(), "real")
    assert after.manifest.equals(before.manifest)
    assert len(ingested.rejected) == 0


@pytest.mark.parametrize("changes", [{"id_column": "name"}, {"label_column": "x"}, {"patient_column": "y"}])
def test_csv_without_a_column(cohort, changes):
    [name] = changes.values()
    with pytest.raises(DataError, match=rf"labels\.csv: columns: found id, hemorrhage; allowed: .*\b{name}\b"):
        read_cohort(cohort, settings(**changes), "real")


def test_class_folder_missing(tmp_path):
    (tmp_path / "COVID").mkdir()
    chosen = settings(reader="image_folder", classes={"covid": "COVID", "normal": "healthy"})
    with pytest.raises(DataError, match=r"healthy: classes\.normal: found no such folder, allowed: .* there: COVID"):
        read_cohort(tmp_path, chosen, "real")


def test_nothing_usable(cohort):
    for path in (cohort / "head_ct").iterdir():
        path.unlink()
    reasons = r"10 no image file of this id; first labels\.csv id '0': none"
    with pytest.raises(DataError, match=rf"images: found none that is usable \({reasons}\), allowed: \.png"):
        read_cohort(cohort, settings(), "real")


def test_class_left_empty(cohort):
    write_labels(cohort, [f"{index},0" for index in range(10)])
    with pytest.raises(
        DataError, match=r"classes\.haemorrhage: found no usable image of value '1', allowed: at least 1"
    ):
        read_cohort(cohort, settings(), "real")


def test_too_many_rejected(cohort, caplog):
    write_labels(cohort, [*labels(cohort)[:-2], "8,7", "9,7"])
    assert len(rejected_of(cohort, max_rejected=0.2)) == 2
    reasons = r"2 label of no class; first head_ct/008\.png: '7' in hemorrhage, allowed: 0 \| 1"
    message = rf"max_rejected: found 2 of 10 images rejected \({reasons}\), allowed: 1 \(0\.19\)"
    with pytest.raises(DataError, match=message) as error:
        read_cohort(cohort, settings(max_rejected=0.19), "real")
    assert "\n" not in str(error.value)
    # The table of them is not written then: all of them stand in the log.
    assert (
        "rejected: head_ct/009.png: label of no class: found '7' in hemorrhage, allowed: 0 | 1; correct" in caplog.text
    )


# Pixels


def pixels_of(path, *args, **options):
    return read_image(path, *args, **options).pixels


def save(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_8_bit_lossless(tmp_path, suffix, mode):
    path = save(tmp_path / f"a{suffix}", RAMP, mode)
    np.testing.assert_allclose(pixels_of(path, 1), RAMP[None] / 255, atol=1e-6)
    np.testing.assert_allclose(pixels_of(path, 3), np.stack([RAMP] * 3) / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(tmp_path, mode):
    path = save(tmp_path / "a.jpeg", RAMP, mode, quality=95)
    np.testing.assert_allclose(pixels_of(path, 1), RAMP[None] / 255, atol=0.03)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_keeps_its_depth(tmp_path, suffix):
    pixels = np.arange(120, dtype=np.uint16).reshape(12, 10) * 3 + 40000
    path = save(tmp_path / f"a{suffix}", pixels)
    np.testing.assert_allclose(pixels_of(path, 1), pixels[None] / 65535, atol=1e-7)
    assert pixels_of(path, 3).shape == (3, 12, 10)


def white_is_zero(path):
    """Turn the tag of a TIFF over that says what zero is, and nothing else."""
    content = bytearray(path.read_bytes())
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", content, 4)
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from(order + "H", content, start)[0], 12):
        if struct.unpack_from(order + "H", content, entry)[0] == 262:
            struct.pack_into(order + "H", content, entry + 8, 0)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_whose_white_is_zero_is_no_negative(tmp_path, dtype, white, compression):
    pixels = RAMP.astype(dtype) * dtype(white // 255)
    path = white_is_zero(save(tmp_path / "a.tif", pixels, compression=compression))
    np.testing.assert_allclose(pixels_of(path, 1), 1 - RAMP[None] / 255, atol=1e-6)


def test_a_tiff_whose_white_is_zero_of_fewer_bits(tmp_path):
    pixels = RAMP.astype(np.uint16) * 16
    path = white_is_zero(save(tmp_path / "a.tif", pixels))
    np.testing.assert_allclose(pixels_of(path, 1, bits=12), 1 - pixels[None] / 4095, atol=1e-6)


def test_bits_say_what_is_white(tmp_path):
    pixels = np.array([[0, 1000, 4095]], np.uint16)
    for ending in ("png", "tif"):
        path = save(tmp_path / f"a.{ending}", pixels)
        np.testing.assert_allclose(pixels_of(path, 1, bits=12), pixels[None] / 4095, atol=1e-7)
        np.testing.assert_allclose(pixels_of(path, 1), pixels[None] / 65535, atol=1e-7)
        with pytest.raises(
            Unusable, match=r"values beyond `bits`: found 4095, allowed: 1023 \(10 bits\); raise `bits`"
        ):
            read_image(path, 1, bits=10)
    # What 8 bits hold is theirs.
    path = save(tmp_path / "b.png", RAMP)
    np.testing.assert_allclose(pixels_of(path, 1, bits=12), RAMP[None] / 255, atol=1e-7)


def test_a_pgm_of_16_bit_says_itself_what_is_white(tmp_path):
    pixels = np.array([[0, 1000, 4095]], ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 4095\n" + pixels.tobytes())
    np.testing.assert_allclose(pixels_of(tmp_path / "a.pgm", 1), pixels[None] / 4095, atol=1e-4)


@pytest.mark.parametrize(
    ("highest", "bits", "share"), [(1023, 10, "2%"), (2000, 12, "3%"), (4095, 12, "6%"), (16383, 14, "25%")]
)
def test_a_cohort_of_dark_16_bit_images_is_told_of_its_bits(cohort, caplog, highest, bits, share):
    for index in range(5):
        save(cohort / f"head_ct/{index:03d}.png", np.full((12, 10), highest - index, np.uint16))
    _, ingested = read_cohort(cohort, settings(), "real")
    dark = (
        f"the 16-bit images stay below {2**bits} (highest value {highest}), {share} of white; "
        f"if they hold {bits} bits, set `bits: {bits}`"
    )
    assert ingested.notes == (
        "grey scale: 16 bit (white: 65535) in 5 images, 8 bit (white: 255) in 5 images",
        dark,
    )
    assert dark in caplog.text


@pytest.mark.parametrize(("highest", "bits"), [(16384, 16), (65535, 16), (4095, 12)])
def test_nothing_is_said_of_images_that_come_near_white(cohort, highest, bits):
    save(cohort / "head_ct/000.png", np.full((12, 10), highest, np.uint16))
    _, ingested = read_cohort(cohort, settings(bits=bits), "real")
    white = 2**bits - 1
    assert ingested.notes == (f"grey scale: 8 bit (white: 255) in 9 images, {bits} bit (white: {white}) in 1 image",)


def test_bombs_are_refused_by_their_header(tmp_path):
    for name, options in (("a.png", {}), ("b.tif", {"compression": "tiff_lzw"}), ("c.gif", {})):
        Image.new("1", (10_000, 6_000)).save(tmp_path / name, **options)
        with pytest.raises(Unusable, match="too many pixels: found 10000 x 6000, allowed: 50000000 in all"):
            read_image(tmp_path / name, 1)


def test_alpha_is_composited_on_black(tmp_path):
    alpha = np.full_like(RAMP, 51)
    for name, pixels in (("la", [RAMP, alpha]), ("rgba", [RAMP, RAMP, RAMP, alpha])):
        path = save(tmp_path / f"{name}.png", np.dstack(pixels))
        np.testing.assert_allclose(pixels_of(path, 1), RAMP[None] / 255 * 0.2, atol=1e-6)


def test_transparent_palette_entry_is_black(tmp_path):
    image = Image.fromarray(RAMP).convert("RGB").quantize(200)
    corner = image.getpixel((9, 11))
    image.save(tmp_path / "a.png", transparency=corner)
    assert pixels_of(tmp_path / "a.png", 1)[0, -1, -1] == 0
    assert pixels_of(tmp_path / "a.png", 1)[0, 5, 5] > 0


def test_colour_becomes_luminance(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    path = save(tmp_path / "a.png", colours)
    np.testing.assert_allclose(pixels_of(path, 1)[0, 0], [0.299, 0.587, 0.114], atol=1e-6)
    np.testing.assert_array_equal(pixels_of(path, 3)[:, 0], np.eye(3))


def test_bilevel(tmp_path):
    path = save(tmp_path / "a.png", RAMP > 50)
    np.testing.assert_array_equal(pixels_of(path, 1)[0], RAMP > 50)


def test_other_depths_and_pages_are_refused(tmp_path):
    with pytest.raises(Unusable, match=r"another depth: found mode F \(32 bit, or signed\), allowed: 8 or 16 bit"):
        read_image(save(tmp_path / "a.tif", RAMP.astype(np.float32)), 1)
    page = Image.fromarray(RAMP)
    page.save(tmp_path / "b.tif", save_all=True, append_images=[page])
    with pytest.raises(Unusable, match="several pages: found 2, allowed: 1"):
        pixels_of(tmp_path / "b.tif", 1)
    for ending in ("gif", "webp"):
        page.save(tmp_path / f"b.{ending}", save_all=True, append_images=[Image.fromarray(255 - RAMP)])
        with pytest.raises(Unusable, match="several pages: found 2, allowed: 1"):
            pixels_of(tmp_path / f"b.{ending}", 1)


@pytest.mark.parametrize(("edge", "size"), [(64, 16), (64, 32), (96, 32), (512, 32)])
def test_checkerboard_becomes_flat_grey(edge, size):
    board = (np.indices((edge, edge)).sum(0) % 2).astype(np.float32)
    np.testing.assert_allclose(fit_square(board[None], size)[0, 1:-1, 1:-1], 0.5, atol=0.01)


@pytest.mark.parametrize(
    ("height", "width", "inner"),
    [(64, 32, (16, 8)), (30, 60, (8, 16)), (8, 8, (16, 16)), (4, 2, (16, 8)), (400, 3, (16, 2))],
)
def test_proportions_are_kept_by_centred_zeros(height, width, inner):
    square = fit_square(np.ones((3, height, width), np.float32), 16)
    assert square.shape == (3, 16, 16)
    rows, columns = np.nonzero(square[0])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == inner
    assert (rows.min(), columns.min()) == ((16 - inner[0]) // 2, (16 - inner[1]) // 2)
    assert square[square > 0].min() > 0.999


@pytest.mark.parametrize(("height", "width"), [(40, 37), (33, 64), (50, 21), (64, 64)])
def test_a_flipped_or_turned_image_becomes_the_flipped_or_turned_square(height, width):
    image = np.random.default_rng(0).random((1, height, width), dtype=np.float32)
    square = fit_square(image, 32)
    for change in (lambda x: x[:, ::-1], lambda x: x[:, :, ::-1], lambda x: np.rot90(x, axes=(1, 2))):
        np.testing.assert_allclose(fit_square(np.ascontiguousarray(change(image)), 32), change(square), atol=1e-6)


def test_scale_images():
    manifest = pd.DataFrame({"image_id": ["a", "b"]})
    images = ImageSet(np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32), manifest)
    assert scale_images(images, None) is images
    assert scale_images(images, 32) is images
    smaller = scale_images(images, 8)
    assert smaller.images.shape == (2, 3, 8, 8)
    assert list(smaller.manifest.image_id) == ["a", "b"]
    np.testing.assert_array_equal(smaller.images[1], fit_square(images.images[1], 8))


# Stretched


def test_stretch_square_fills_the_square_and_keeps_flat_regions():
    image = np.zeros((2, 6, 30), np.float32)
    image[:, :, 15:] = 1
    square = stretch_square(image, 12)
    assert square.shape == (2, 12, 12)
    assert square.dtype == np.float32
    assert square[:, :, :5].max() == 0
    assert square[:, :, 7:].min() == 1


@pytest.mark.parametrize("edge", [8, 32, 96])
def test_stretch_square_is_fit_square_where_nothing_needs_stretching(edge):
    image = np.random.default_rng(0).random((3, edge, edge), dtype=np.float32)
    np.testing.assert_array_equal(stretch_square(image, 32), fit_square(image, 32))


def test_stretch_square_does_not_alias():
    board = (np.indices((64, 256)).sum(0) % 2).astype(np.float32)
    np.testing.assert_allclose(stretch_square(board[None], 16)[0, 1:-1, 1:-1], 0.5, atol=0.01)


def test_oblong_images_are_padded_or_stretched(cohort):
    padded, _ = read_cohort(cohort, settings(), "real")
    stretched, _ = read_cohort(cohort, settings(fit="stretch"), "real")
    # The slices are 12 rows of 10: one side of the padded ones is black.
    assert padded.images[5, 0, :, -1].max() == 0
    assert stretched.images[5, 0, :, -1].min() > 0


def test_opaque_refuses_any_transparency(tmp_path):
    alpha = np.full_like(RAMP, 255)
    path = save(tmp_path / "a.png", np.dstack([RAMP, RAMP, RAMP, alpha]))
    np.testing.assert_array_equal(pixels_of(path, 1, opaque=True), pixels_of(path, 1))
    alpha[0, :6] = 254
    save(path, np.dstack([RAMP, RAMP, RAMP, alpha]))
    with pytest.raises(Unusable, match=r"transparent pixels: found 5\.0% of the pixels, allowed: none"):
        pixels_of(path, 1, opaque=True)


def test_only_covid_ct_has_a_split_of_its_own(cohort):
    image_set, ingested = read_cohort(cohort, settings(), "real")
    official = ingested.official
    assert len(image_set) == 10
    assert official.columns.tolist() == ["image_id", "split"]
    assert official.empty
