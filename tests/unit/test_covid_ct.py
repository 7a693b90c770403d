"""COVID-CT's layout: its official counts on a tiny copy, and every fault by its message."""

import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scangan.config import CovidCt, Split
from scangan.data.split import patients_on_both_sides, split_cohort
from scangan.errors import DataError
from tests.unit.cohorts import read_cohort

OFFICIAL = {"COVID": {"train": 191, "val": 60, "test": 98}, "NonCOVID": {"train": 234, "val": 58, "test": 105}}
TINY = {"COVID": {"train": 4, "val": 2, "test": 2}, "NonCOVID": {"train": 4, "val": 2, "test": 2}}


def settings(**changes) -> CovidCt:
    defaults = {
        "reader": "covid_ct",
        "root": "covid_ct",
        "classes": {"covid": "CT_COVID", "normal": "CT_NonCOVID"},
        "image_size": 8,
        "channels": 3,
        "fit": "stretch",
        "max_rejected": 0.5,
    }
    return CovidCt(**defaults | changes)


def write_layout(root, counts):
    """Images of 6 x 5 pixels in the set's layout, two a patient, and tables in the real ones' form."""
    for name, parts in counts.items():
        (root / f"CT_{name}").mkdir(parents=True)
        (root / "Data-split" / name).mkdir(parents=True)
        (root / "Info").mkdir(exist_ok=True)
        files = [f"2020.03-p{index // 2}-{index % 2}%{index}.png" for index in range(sum(parts.values()))]
        for index, file in enumerate(files):
            pixels = np.full((5, 6), index % 256, np.uint8)
            Image.fromarray(pixels).convert(("RGB", "RGBA", "L")[index % 3]).save(root / f"CT_{name}" / file)
        start = 0
        for part, count in parts.items():
            write_list(root, name, part, files[start : start + count])
            start += count
        owners = [f"Patient {index // 2}" for index in range(len(files))]
        if name == "COVID":
            rows = [
                "File name,Patient ID,Captions,,",
                *(f'{f},{p},"one, two",,' for f, p in zip(files, owners, strict=True)),
            ]
        else:
            rows = [
                ",image name,patient id",
                *(f"{n},{f},{p}" for n, (f, p) in enumerate(zip(files, owners, strict=True))),
            ]
        write_info(root, name, rows)
    return root


def write_info(root, name, rows):
    ending = "\n" if name == "COVID" else "\r\n"
    info(root, name).write_bytes("".join(f"{row}{ending}" for row in rows).encode())


def write_list(root, name, part, files):
    list_of(root, name, part).write_text("".join(f"{file}\n" for file in files))


def info(root, name="COVID"):
    return root / "Info" / f"{name}-CT-MetaInfo.csv"


def list_of(root, name, part):
    return root / "Data-split" / name / f"{part}CT_{name}.txt"


def names_of(root, name, part):
    return list_of(root, name, part).read_text().split()


@pytest.fixture
def layout(tmp_path):
    return write_layout(tmp_path, TINY)


def rejected_of(root) -> list[tuple[str, str, str]]:
    _, ingested = read_cohort(root, settings(), "real")
    rejected = ingested.rejected
    assert (rejected.remedy != "").all()
    return list(zip(rejected.source, rejected.reason, rejected.found, strict=True))


def test_official_counts(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="scangan")
    root = write_layout(tmp_path, OFFICIAL)
    image_set, ingested = read_cohort(root, settings(), "real")
    rejected, official = ingested.rejected, ingested.official
    assert image_set.images.shape == (746, 3, 8, 8)
    assert len(rejected) == 0
    assert official.columns.tolist() == ["image_id", "split"]
    split = split_cohort(image_set.manifest, Split(method="official"), 0, official)
    assert pd.crosstab(split.label, split.split).T.to_dict() == {
        "covid": {"train": 191, "validation": 60, "test": 98},
        "normal": {"train": 234, "validation": 58, "test": 105},
    }
    # A patient has two images: of those in the odd places 191 and 191 + 60, one lies in either part.
    assert patients_on_both_sides(split) == 2
    assert "official split: 2 patients are in several parts" in caplog.text
    by_patient = split_cohort(image_set.manifest, Split(train=425, validation=118, test=203), 0, official)
    assert patients_on_both_sides(by_patient) == 0


def test_ids_and_patients(layout):
    image_set, ingested = read_cohort(layout, settings(), "phantom")
    official = ingested.official
    manifest = image_set.manifest
    assert manifest.image_id[0] == "CT_COVID/2020.03-p0-0%0"
    assert manifest.source[0] == "CT_COVID/2020.03-p0-0%0.png"
    # `Patient 0` of one class is not `Patient 0` of the other.
    assert manifest.patient_id.value_counts().tolist() == [2] * 8
    assert manifest.patient_id[0] == "CT_COVID/Patient 0"
    assert manifest.groupby("patient_id").label.nunique().max() == 1
    assert dict(official.to_numpy())["CT_NonCOVID/2020.03-p3-1%7"] == "test"


def test_tables_in_other_forms(layout):
    rows = info(layout).read_text().splitlines()[1:]
    table = "".join(f" {row.split(',')[0]} , {row.split(',')[1]}\r\n" for row in rows[::-1])
    info(layout).write_bytes(
        b"\xef\xbb\xbf" + f"Image Name, PATIENT id ,Caption\r\n{table}".encode() + b"x.png,p,\xff\r\n"
    )
    lines = [f"  {name} " for name in names_of(layout, "COVID", "train")]
    list_of(layout, "COVID", "train").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(["", *lines, ""]).encode())
    image_set, ingested = read_cohort(layout, settings(), "real")
    rejected, official = ingested.rejected, ingested.official
    assert len(rejected) == 0
    assert image_set.manifest.patient_id.value_counts().tolist() == [2] * 8
    assert official.split.value_counts().to_dict() == {"train": 8, "validation": 4, "test": 4}


# Left out, and the run goes on


def test_a_name_without_an_image(layout):
    write_list(layout, "COVID", "val", [*names_of(layout, "COVID", "val"), "gone%1.png"])
    assert rejected_of(layout) == [
        ("Data-split/COVID/valCT_COVID.txt 'gone%1.png'", "no image of this name", "none in CT_COVID")
    ]


def test_an_image_in_two_parts(layout):
    twice = names_of(layout, "NonCOVID", "train")[0]
    write_list(layout, "NonCOVID", "test", [*names_of(layout, "NonCOVID", "test"), twice])
    image_set, ingested = read_cohort(layout, settings(), "real")
    rejected, official = ingested.rejected, ingested.official
    assert rejected.source.tolist() == [f"CT_NonCOVID/{twice}"]
    assert rejected.reason.tolist() == ["in several parts of the official split"]
    assert rejected.found.tolist() == ["train, test"]
    assert len(image_set) == len(official) == 15
    assert f"CT_NonCOVID/{twice}" not in set(image_set.manifest.source)


@pytest.mark.parametrize("content", [b"", b"not an image", None], ids=["zero-size", "text", "truncated"])
def test_corrupt_image(layout, content):
    path = layout / "CT_COVID" / names_of(layout, "COVID", "train")[1]
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    image_set, ingested = read_cohort(layout, settings(), "real")
    rejected, official = ingested.rejected, ingested.official
    assert rejected.source.tolist() == [f"CT_COVID/{path.name}"]
    assert rejected.reason.tolist() == ["unreadable image"]
    assert set(official.image_id) == set(image_set.manifest.image_id)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency(layout, mode):
    path = layout / "CT_COVID" / names_of(layout, "COVID", "test")[0]
    pixels = Image.new(mode, (5, 4), "white")
    pixels.save(path)
    assert rejected_of(layout) == []
    pixels.putpixel((1, 1), (*[255] * (len(mode) - 1), 254))
    pixels.save(path)
    found = "5.0% of the pixels, allowed: none"
    assert rejected_of(layout) == [(f"CT_COVID/{path.name}", "transparent pixels", found)]


def test_an_image_of_two_patients(layout):
    rows = info(layout).read_text().splitlines()
    write_info(layout, "COVID", [*rows, rows[1], rows[2].replace("Patient 0", "Patient 9")])
    [source] = [row.split(",")[0] for row in rows[2:3]]
    assert rejected_of(layout) == [
        (f"CT_COVID/{source}", "rows contradict each other", "Patient 0 | Patient 9 in COVID-CT-MetaInfo.csv")
    ]


# Kept, and logged


def test_an_image_in_no_part(layout, caplog):
    first, *others = names_of(layout, "COVID", "train")
    write_list(layout, "COVID", "train", others)
    image_set, ingested = read_cohort(layout, settings(), "real")
    rejected, official = ingested.rejected, ingested.official
    assert (len(image_set), len(official), len(rejected)) == (16, 15, 0)
    assert f"1 images of CT_COVID in no part of the official split: {first}" in caplog.text
    split = split_cohort(image_set.manifest, Split(method="official"), 0, official)
    assert len(split) == 15
    assert f"1 images are in no part, and left out: CT_COVID/{first.removesuffix('.png')}" in caplog.text


def test_a_name_twice_in_one_list(layout, caplog):
    names = names_of(layout, "COVID", "val")
    write_list(layout, "COVID", "val", [*names, names[0]])
    _, ingested = read_cohort(layout, settings(), "real")
    rejected, official = ingested.rejected, ingested.official
    assert (len(official), len(rejected)) == (16, 0)
    assert f"valCT_COVID.txt: 1 names stand there again, taken once: {names[0]}" in caplog.text


def test_an_image_without_a_patient_is_one_of_its_own(layout, caplog):
    header, first, second, *rows = info(layout).read_text().splitlines()
    write_info(layout, "COVID", [header, second.replace("Patient 0", " "), *rows, "gone.png,Patient 3,,,"])
    image_set, ingested = read_cohort(layout, settings(), "real")
    rejected = ingested.rejected
    assert len(rejected) == 0
    alone = [f"CT_COVID/{row.split(',')[0]}" for row in (first, second)]
    assert image_set.manifest.patient_id[:2].tolist() == alone
    assert image_set.manifest.patient_id.nunique() == 9
    assert "2 images without a patient, each taken for a patient of its own: 2020.03-p0-0%0.png, " in caplog.text
    assert "1 rows of no image in CT_COVID: gone.png" in caplog.text


def test_without_an_official_split(layout, caplog):
    (layout / "Data-split").rename(layout / "other")
    image_set, ingested = read_cohort(layout, settings(), "real")
    official = ingested.official
    assert (len(image_set), len(official)) == (16, 0)
    assert "no folder Data-split: there is no official split" in caplog.text
    with pytest.raises(DataError, match=r"split\.method: found official, but .*, allowed: by_patient"):
        split_cohort(image_set.manifest, Split(method="official"), 0, official)


# Stops the run


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda root: info(root).unlink(),
            r"COVID-CT-MetaInfo\.csv: file: found No such file or directory, allowed: a CSV",
        ),
        (lambda root: info(root).write_text(""), r"MetaInfo\.csv: file: found No columns"),
        (
            lambda root: info(root).write_text("name,Patient ID\na,b\n"),
            r"MetaInfo\.csv: columns: found name, Patient ID; allowed: one named 'file name or image name'",
        ),
        (
            lambda root: info(root).write_text("file name,patient id,Patient ID\na,b,c\n"),
            r"columns: found file name, patient id, Patient ID; allowed: one named 'patient id'",
        ),
        (
            lambda root: list_of(root, "NonCOVID", "val").unlink(),
            r"valCT_NonCOVID\.txt: file: found No such file or directory, allowed: a list of image names",
        ),
        (lambda root: list_of(root, "COVID", "val").write_bytes(b"\xff\xfe\xff"), r"valCT_COVID\.txt: file: found"),
    ],
)
def test_faults_name_file_and_field(layout, break_it, message):
    break_it(layout)
    with pytest.raises(DataError, match=message) as error:
        read_cohort(layout, settings(), "real")
    assert "\n" not in str(error.value)


def test_a_folder_of_another_name(layout):
    (layout / "CT_COVID").rename(layout / "COVID")
    with pytest.raises(DataError, match=r"classes\.covid: found 'COVID', allowed: a folder whose name begins with CT_"):
        read_cohort(layout, settings(classes={"covid": "COVID", "normal": "CT_NonCOVID"}), "real")
