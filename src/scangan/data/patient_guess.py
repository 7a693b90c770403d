"""Whether folders or file names look like patients, where nothing says whose each image is.

Images of one patient resemble each other; if they train and test, the test is too good. Many public sets keep the
patient in names alone (`person12_bacteria_47.jpeg`, `IM-0115-0001.jpeg`), or in a folder for each.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import pandas as pd

FEWEST_VALUES = 3  # of a number that tells patients apart
LEAST_MATCHED, MOST_PATIENTS, LARGEST = 0.9, 0.9, 0.5  # shares of the images: named, patients, one patient's
MOST_SHAPES = 5  # kinds of names that one expression still describes


class Guess(NamedTuple):
    """What images look like.

    patient_from: the setting that would make these patients. by: `folders` or `file names`. patients: of each image.
    """

    patient_from: str
    by: str
    patients: list[str | None]


def describe_guess(split: pd.DataFrame, manifest: pd.DataFrame) -> str:
    """What to warn of where images that are patients of their own look like several of one; empty where none do.

    split: `image_id, split, method`; manifest: `image_id, patient_id, label, source`.
    """
    table = manifest[["image_id", "patient_id", "label", "source"]].merge(split[["image_id", "split", "method"]])
    if not (table.patient_id == table.image_id).all():
        return ""
    guess = guess_patients(table.source.tolist(), table.label.tolist())
    if guess is None:
        return ""
    parts = table.assign(patient=guess.patients).groupby(["label", "patient"]).split.nunique()
    divided = (parts > 1).groupby("label").sum()
    by_class = ", ".join(f"{label} {count}" for label, count in divided.items())
    remedy = f"set `data.patient_from: '{guess.patient_from}'`"
    if (table.method == "official").any():
        remedy = f"for a split by patient, {remedy} and `split.method: by_patient`"
    return (
        f"every image counts as a patient of its own, but by their {guess.by} {len(table)} images look like "
        f"{len(set(guess.patients))} patients, {divided.sum()} of whom are in several parts ({by_class}); {remedy}"
    )


def guess_patients(sources: Sequence[str], labels: Sequence[str]) -> Guess | None:
    """The patients that the paths of images look like, or None.

    sources: path of each below the data's root, with its ending. A folder below that of the class is a patient, if most
    images have one; else the name up to its first number that takes several values.
    """
    below = _below_classes([PurePosixPath(source) for source in sources], labels)
    folders = [path.parts[0] if len(path.parts) > 1 else None for path in below]
    if _look_like_patients(folders):
        return Guess("folder", "folders", folders)
    heads = _split_names([path.name.rsplit(".", 1)[0] for path in below])
    names = [None if head is None else "".join(head) for head in heads]
    words = {head[0] for head in heads if head is not None}
    if len(words) > MOST_SHAPES or not _look_like_patients(names):
        return None
    # The longest first, of which another may be the beginning.
    alternatives = "|".join(re.escape(word) + r"\d+" for word in sorted(words, key=lambda word: (-len(word), word)))
    start = "(?:^|/)" if any(len(path.parts) > 1 for path in below) else "^"
    return Guess(f"{start}({alternatives})".replace(r"\-", "-"), "file names", names)


def _below_classes(paths: Sequence[PurePosixPath], labels: Sequence[str]) -> list[PurePosixPath]:
    """The paths without the folders that all images of one class share, in a part of the set or in all of it."""
    groups = defaultdict(list)
    for path, label in zip(paths, labels, strict=True):
        groups[label, path.parts[0] if len(path.parts) > 2 else ""].append(path)
    shared = {}
    for key, group in groups.items():
        common = 0
        while len({path.parts[: common + 1] for path in group}) == 1 and all(len(p.parts) > common + 1 for p in group):
            common += 1
        shared[key] = common
    return [
        PurePosixPath(*path.parts[shared[label, path.parts[0] if len(path.parts) > 2 else ""] :])
        for path, label in zip(paths, labels, strict=True)
    ]


def _split_names(stems: Sequence[str]) -> list[tuple[str, str] | None]:
    """Of each name the number that says the patient, and what stands before it: the first of several values there."""
    numbers = [[(stem[: match.start()], match[0]) for match in re.finditer(r"\d+", stem)] for stem in stems]
    values = defaultdict(set)
    for found in numbers:
        for words, number in found:
            values[words].add(number)
    return [next((each for each in found if len(values[each[0]]) >= FEWEST_VALUES), None) for found in numbers]


def _look_like_patients(names: Sequence[str | None]) -> bool:
    counts = Counter(name for name in names if name is not None)
    return (
        len(counts) >= FEWEST_VALUES
        and counts.total() >= LEAST_MATCHED * len(names)
        and len(counts) <= MOST_PATIENTS * len(names)
        and max(counts.values()) <= LARGEST * len(names)
    )
