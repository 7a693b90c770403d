"""Folders and names that look like patients: found where they are, and nowhere else."""

import re
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest

from scangan.data.patient_guess import describe_guess, guess_patients
from scangan.ingest.patients import patient_in_path


def of_one_class(names):
    return [f"a/{name}" for name in names], ["a"] * len(names)


def by_setting(sources, patient_from):
    """The patients that the setting makes of these paths, whose first folder is the class's."""
    return [patient_in_path(PurePosixPath(re.sub("^a/", "", source)), patient_from) for source in sources]


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person{p}_virus_{i}.jpeg", "person{p}"),
        ("IM-{p:04d}-{i:04d}.jpeg", "IM-{p:04d}"),
        ("NORMAL2-IM-{p:04d}-{i:04d}.png", "NORMAL2-IM-{p:04d}"),
        ("case{p}_slice{i}.tif", "case{p}"),
        ("{p:03d}_{i:02d}.bmp", "{p:03d}"),
        ("pat {p} (view {i}).png", "pat {p}"),
        ("1.2.840.{p}.{i}", "1.2.840.{p}"),
    ],
)
def test_names_that_look_like_patients(name, patient):
    numbers = [(p, i) for p in range(1, 8) for i in range(1, 4)]
    sources, labels = of_one_class([name.format(p=p, i=i) for p, i in numbers])
    guess = guess_patients(sources, labels)
    assert guess.patients == [patient.format(p=p) for p, _ in numbers]
    assert guess.by == "file names"
    assert by_setting(sources, guess.patient_from) == guess.patients


@pytest.mark.parametrize(
    "layout", ["{c}/{p}/{i}.png", "set/{c}/{p}/left/{i}.png", "{part}/{c}/{p}/{i}.png", "{c}/{p}/0{i}.dcm"]
)
def test_folders_that_look_like_patients(layout):
    numbers = [(c, p, i) for c in "ab" for p in range(1, 8) for i in range(1, 4)]
    sources = [layout.format(c=c, p=f"{c}{p}", i=i, part=("train", "val")[p % 2]) for c, p, i in numbers]
    guess = guess_patients(sources, [c for c, _, _ in numbers])
    assert guess.patient_from == "folder"
    assert guess.patients == [f"{c}{p}" for c, p, _ in numbers]


@pytest.mark.parametrize(
    "names",
    [
        [f"{i:03d}.png" for i in range(40)],
        [f"slice_{i}.png" for i in range(40)],
        [f"2020-01-{i:02d} scan.png" for i in range(1, 29)],
        [f"set1_image{i}.png" for i in range(40)],
        [f"{word}.png" for word in ("left", "right", "front", "back")],
        [f"{'ab'[i % 2]}/{i}.png" for i in range(40)],  # two folders: views, and no patients
        [f"p{i // 20}_{i}.png" for i in range(40)],
        ["only one.png"],
        [],
    ],
    ids=str,
)
def test_names_that_do_not(names):
    assert guess_patients(*of_one_class(names)) is None


def test_several_kinds_of_names_become_one_expression():
    names = [f"IM-{p:04d}-{i}.png" for p in range(9) for i in range(2)]
    names += [f"NORMAL2-IM-{p:04d}-{i}.png" for p in range(9) for i in range(2)]
    sources, labels = of_one_class(names)
    guess = guess_patients(sources, labels)
    assert guess.patient_from == r"^(NORMAL2-IM-\d+|IM-\d+)"
    assert len(set(guess.patients)) == 18
    assert by_setting(sources, guess.patient_from) == guess.patients


def cohort(method):
    """Four patients of each class by their names, two images each; the last one of each is divided."""
    names = [(label, f"{label}{p}_{i}") for label in ("sick", "well") for p in range(4) for i in range(2)]
    ids = [f"{label}/{name}" for label, name in names]
    manifest = pd.DataFrame(
        {
            "image_id": ids,
            "patient_id": ids,
            "label": [label for label, _ in names],
            "source": [f"{i}.png" for i in ids],
        }
    )
    parts = np.array(["train", "train", "train", "train", "validation", "validation", "train", "test"] * 2)
    return manifest[["image_id"]].assign(split=parts, method=method), manifest


def test_the_warning_says_how_many_of_each_class_are_divided_and_what_to_set():
    assert describe_guess(*cohort("by_patient")) == (
        "every image counts as a patient of its own, but by their file names 16 images look like 8 patients, "
        r"2 of whom are in several parts (sick 1, well 1); set `data.patient_from: '^(sick\d+|well\d+)'`"
    )
    assert describe_guess(*cohort("official")).endswith(
        r"for a split by patient, set `data.patient_from: '^(sick\d+|well\d+)'` and `split.method: by_patient`"
    )


def test_no_warning_where_patients_are_known():
    split, manifest = cohort("by_patient")
    assert describe_guess(split, manifest.assign(patient_id="p")) == ""
