"""Which patients train, validate and test: a table that a person can open, or supply."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
import pandas as pd

from scangan import config
from scangan.data.store import ImageSet, read_image_set
from scangan.data.user_table import read_user_table, shown
from scangan.errors import DataError

log = logging.getLogger(__name__)


class LabelledSet(Protocol):
    """What can be divided: an ImageSet, the features of one (`metrics.feature_sets`), a VolumeSet; a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def manifest(self) -> pd.DataFrame: ...

    def __len__(self) -> int: ...

    def select(self, mask: Any, /) -> Self: ...

    @staticmethod
    def concatenate(sets: Sequence[Any], /) -> Any: ...


AnySet = TypeVar("AnySet", bound=LabelledSet)
SPLITS = ("train", "validation", "test")
FOLD = "fold{}"  # a part of the cohort that is divided into folds
UNUSED = "unused"  # training images that a smaller share of the patients leaves out
OFFICIAL = "official"  # the method of a split that the data set brings
COLUMNS = ["image_id", "patient_id", "label", "split", "method"]
SHOWN = 3
ENDING = re.compile(r"\.[A-Za-z]\w{1,4}$")
MOST_CLASSES_TOGETHER = 6  # a quarter of a million states
TINY = 1e-9  # a product such as 0.29 * 100 may fall just below the whole number it stands for


def split_cohort(
    manifest: pd.DataFrame, settings: config.Split, rejected: int, official: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Divide a cohort into training, validation and test patients, stratified by label; or as its makers did.

    manifest: at least `image_id, patient_id, label`. rejected: images that ingestion left out.
    official: `image_id, split`, the data set's own split, if it has one.
    Returns `image_id, patient_id, label, split, method`, ordered by image_id; the same for the same images and seed, in
    whatever order they come. By patient: with one image a patient the counts are met exactly; else whole patients go
    where they come nearest to the counts, and the log says how near; if there is a split that gives every part every
    class, such a one is found. Official: the parts as they are; images that are in none are left out, patients in
    several are counted, and the log names both.
    Raises DataError if counts add up neither to the images nor to images + rejected, if there are too few patients of
    a class for every part to have one, and if the official split is asked for where there is none, or lacks a class
    in a part. Folds: whole patients to each, the parts being `fold0`, `fold1` ...; `split_of_branch` makes splits of
    them; DataError if a class has fewer patients than there are folds.
    """
    cohort = manifest[["image_id", "patient_id", "label"]].sort_values("image_id", ignore_index=True)
    if settings.method == OFFICIAL:
        return _official_split(cohort, official)
    if settings.method == "folds":
        return _folds(cohort, settings)
    _check_patients(cohort)
    counts = _target_counts(settings, len(cohort), rejected)
    generator = np.random.default_rng(settings.seed)
    if cohort.patient_id.is_unique:
        split = _assign_images(cohort, _large_enough(counts, cohort.label.nunique(), settings), generator)
    else:
        split = _assign_patients(cohort, counts, generator)
    table = cohort.assign(split=split, method=settings.method)[COLUMNS]
    _check_classes(table, "split")
    assert_patients_apart(table, "split")
    achieved = table.split.value_counts()
    log.info("split: %s", ", ".join(f"{achieved[name]} {name} (of {count})" for name, count in counts.items()))
    return table


def check_listed(listed: pd.DataFrame, settings: config.Split, rejected: int) -> None:
    """Raise DataError, as `split_cohort` would, if no cohort of at most these images can be divided so.

    listed: `image_id, patient_id, label` of what is there before any image is opened, a patient of its own each where
    nothing is known of them. rejected: files that are left out already. A split that is given is not looked at.
    """
    if settings.is_given:
        return
    if settings.method == "folds":
        _check_fold_count(listed, settings)
        return
    _check_patients(listed)
    if not settings.is_counts:
        return
    parts = [getattr(settings, name) for name in SPLITS]
    if sum(parts) > len(listed) + rejected:
        raise DataError(
            f"config: split.train, split.validation, split.test: found {' + '.join(map(str, parts))} = {sum(parts)}, "
            f"allowed: at most {len(listed) + rejected}, the images there"
        )
    if listed.patient_id.is_unique:
        _check_counts(listed.label.nunique(), settings)


def _folds(cohort: pd.DataFrame, settings: config.Split) -> pd.DataFrame:
    """Folds with each class in proportion, patients undivided."""
    from sklearn.model_selection import StratifiedGroupKFold  # slow to load, and nearly every job loads this module

    _check_fold_count(cohort, settings)
    folds = StratifiedGroupKFold(settings.fold_count, shuffle=True, random_state=settings.seed)
    split = pd.Series("", cohort.index, dtype="str")
    for number, (_, members) in enumerate(folds.split(cohort, cohort.label, cohort.patient_id)):
        split.iloc[members] = FOLD.format(number)
    table = cohort.assign(split=split, method=settings.method)[COLUMNS]
    _check_classes(table, "split", [FOLD.format(number) for number in range(settings.fold_count)])
    assert_patients_apart(table, "split")
    log.info("split: %s", ", ".join(f"{images} in {name}" for name, images in table.split.value_counts().items()))
    return table


def _check_fold_count(cohort: pd.DataFrame, settings: config.Split) -> None:
    patients = cohort.groupby("label").patient_id.nunique()
    if patients.min() < settings.fold_count:
        of_class = ", ".join(f"{label} {number}" for label, number in patients.items())
        raise DataError(
            f"config: split.folds: found {settings.fold_count} with patients of {of_class}, "
            "allowed: as many as the smallest class has patients"
        )


def split_of_branch(table: pd.DataFrame, fold: int | None, share: float | None, seed: int) -> pd.DataFrame:
    """The split of one fold of a study, or of a study with a share of its training patients; or both.

    table: as `split_cohort` returns it. fold: the one that tests; the next one validates, the others train; None: as
    they are. share: of the training patients of each class that are left, at random, more hold the fewer, at least
    one of each class; the others' images are in the part `unused`.
    """
    if fold is not None:
        names = list(dict.fromkeys(table.split))
        parts = dict.fromkeys(names, "train") | {FOLD.format((fold + 1) % len(names)): "validation"}
        table = table.assign(split=table.split.map(parts | {FOLD.format(fold): "test"}))
    if share is not None:
        labels = table[table.split == "train"].groupby("patient_id").label.agg(lambda found: tuple(sorted(set(found))))
        generator = np.random.default_rng(seed)
        left_out: set[str] = set()
        for label in sorted(set(labels)):
            of_label = generator.permutation(sorted(labels.index[labels == label]))
            left_out.update(of_label[max(1, round(share * len(of_label))) :])
        is_unused = (table.split == "train") & table.patient_id.isin(left_out)
        table = table.assign(split=table.split.mask(is_unused, UNUSED))
    return table


def _official_split(cohort: pd.DataFrame, official: pd.DataFrame | None) -> pd.DataFrame:
    if official is None or official.empty:
        raise DataError("config: split.method: found official, but the data set has no split, allowed: by_patient")
    table = cohort.merge(official[["image_id", "split"]], on="image_id").assign(method=OFFICIAL)[COLUMNS]
    left_out = cohort.image_id[~cohort.image_id.isin(table.image_id)]
    if len(left_out):
        some = ", ".join(left_out[:SHOWN]) + (", ..." if len(left_out) > SHOWN else "")
        log.warning("official split: %d images are in no part, and left out: %s", len(left_out), some)
    _forbid("official split", "split", "", table.split[~table.split.isin(SPLITS)], " | ".join(SPLITS))
    _check_classes(table, "official split")
    _log_shared_patients(table)
    counts = table.split.value_counts()
    log.info("official split: %s", ", ".join(f"{counts[name]} {name}" for name in SPLITS))
    return table


def _target_counts(settings: config.Split, images: int, rejected: int) -> dict[str, int]:
    """Images for each part; they add up to `images`."""
    parts = np.array([getattr(settings, name) for name in SPLITS])
    if settings.is_counts:
        total = parts.sum()
        if total not in (images, images + rejected):
            raise DataError(
                f"config: split.train, split.validation, split.test: found {' + '.join(map(str, parts))} = {total}, "
                f"allowed: {images} (usable images) or {images + rejected} (with the {rejected} rejected)"
            )
        if total != images:
            log.warning("split: counts of %d images scaled down to %d, as %d were rejected", total, images, rejected)
    counts = _round_row(parts / parts.sum() * images)
    return dict(zip(SPLITS, counts.tolist(), strict=True))


def _round_row(expected: np.ndarray) -> np.ndarray:
    """Round counts to whole numbers of the same sum, by largest remainder."""
    whole = np.floor(expected + TINY).astype(int)
    missing = round(expected.sum()) - whole.sum()
    whole[np.argsort(whole - expected, kind="stable")[:missing]] += 1
    return whole


def _round_table(expected: np.ndarray) -> np.ndarray:
    """Round a table whose rows and columns add up to whole numbers, keeping these sums, by largest remainder."""
    whole = np.floor(expected + TINY).astype(int)
    rows = np.rint(expected.sum(1)).astype(int) - whole.sum(1)
    columns = np.rint(expected.sum(0)).astype(int) - whole.sum(0)
    while rows.any():
        is_open = np.minimum.outer(rows, columns) > 0
        row, column = np.unravel_index(np.where(is_open, expected - whole, -np.inf).argmax(), whole.shape)
        whole[row, column] += 1
        rows[row] -= 1
        columns[column] -= 1
    return whole


def _check_patients(cohort: pd.DataFrame) -> None:
    """Raise DataError if no split of whole patients gives every part every class."""
    has_class = pd.crosstab(cohort.patient_id, cohort.label) > 0
    if not _can_be_completed(has_class.to_numpy())[0](np.zeros((1, len(SPLITS)), dtype=int)).all():
        found = f"{len(has_class)} patient{'s' * (len(has_class) != 1)}"
        of_class = ", ".join(f"{label} {patients}" for label, patients in has_class.sum().items())
        raise DataError(
            f"split: patient_id: found {found} ({of_class}), allowed: at least {len(SPLITS)} of each class, "
            f"so that {', '.join(SPLITS[:-1])} and {SPLITS[-1]} can each hold every class"
        )


def _class_sets(has_class: np.ndarray) -> np.ndarray:
    """The classes of each patient, bool [N, classes], as the bits of a number [N]."""
    return has_class @ (1 << np.arange(has_class.shape[1]))


def _can_be_completed(has_class: np.ndarray) -> list[Callable[[np.ndarray], np.ndarray]]:
    """From which states a split can be completed so that every part holds every class.

    has_class: of the patients in the order in which they are assigned, bool [N, classes]. A state is the classes that
    each part holds, as bits. Returns, before each patient and after the last one, a function of states [K, 3] to bool.
    Exact where no patient is of several classes, or there are few classes; else a class is looked at by itself.
    """
    if has_class.sum(axis=1).max() > 1 and has_class.shape[1] <= MOST_CLASSES_TOGETHER:
        return [partial(_at, states) for states in _complete_states(has_class)]
    left = has_class[::-1].cumsum(axis=0)[::-1]
    bits = 1 << np.arange(has_class.shape[1])

    def reaches(held: np.ndarray, own: np.ndarray) -> np.ndarray:
        lacking = ((held[..., None] & bits) == 0).sum(axis=1)
        return (lacking <= own).all(axis=1)

    return [partial(reaches, own=own) for own in [*left, np.zeros_like(bits)]]


def _at(states: np.ndarray, held: np.ndarray) -> np.ndarray:
    return states[tuple(held.T)]


def _complete_states(has_class: np.ndarray) -> list[np.ndarray]:
    """Before each patient and after the last one, bool [2^classes] * 3: whether the split can be completed."""
    class_sets = _class_sets(has_class)
    sets = np.arange(int(np.bitwise_or.reduce(class_sets)) + 1)
    complete = np.zeros((len(sets),) * len(SPLITS), dtype=bool)
    complete[(-1,) * len(SPLITS)] = True
    states = [complete]
    for own in class_sets[::-1]:
        after = states[-1]
        # Where any state will do, so it does before.
        reached = after if after.all() else np.any([after.take(sets | own, axis) for axis in range(after.ndim)], axis=0)
        states.append(reached)
    return states[::-1]


def _large_enough(counts: dict[str, int], classes: int, settings: config.Split) -> dict[str, int]:
    """Counts of which each part has one for every class; raises DataError for a user's own, which are kept exactly."""
    _check_counts(classes, settings)
    counts = dict(counts)
    while min(counts.values()) < classes:
        counts[max(counts, key=counts.__getitem__)] -= 1
        counts[min(counts, key=counts.__getitem__)] += 1
    return counts


def _check_counts(classes: int, settings: config.Split) -> None:
    for name in SPLITS:
        if settings.is_counts and (asked := getattr(settings, name)) < classes:
            raise DataError(f"config: split.{name}: found {asked}, allowed: at least {classes}, an image of each class")


def _assign_images(cohort: pd.DataFrame, counts: dict[str, int], generator: np.random.Generator) -> pd.Series:
    """A part for each image, where each is a patient of its own: exact counts, each class in proportion."""
    per_class = cohort.label.value_counts().sort_index()
    wanted, classes, parts = np.array(list(counts.values())), len(per_class), len(SPLITS)
    table = _round_table(np.outer(per_class, wanted / len(cohort)))
    if not table.all():  # then one of each class in each part, and the others in proportion
        others = max(1, len(cohort) - classes * parts)
        table = 1 + _round_table(np.outer(per_class - parts, (wanted - classes) / others))
    split = pd.Series("", cohort.index, dtype="str")
    for label, row in zip(per_class.index, table, strict=True):
        members = generator.permutation(cohort.index[cohort.label == label])
        split.loc[members] = np.repeat(SPLITS, row)
    return split


def _assign_patients(cohort: pd.DataFrame, counts: dict[str, int], generator: np.random.Generator) -> pd.Series:
    """A part for each image, patients undivided: large patients first, each where it brings chi-square down most.

    Of the parts, only those after which the other patients can still give every part every class.
    """
    images = pd.crosstab(cohort.patient_id, cohort.label)
    target = np.outer(list(counts.values()), images.sum() / len(cohort)).clip(min=TINY)
    have = np.zeros_like(target)
    order = generator.permutation(len(images))
    order = order[np.argsort(-images.to_numpy().sum(1)[order], kind="stable")]
    has_class = images.to_numpy() > 0
    class_sets = _class_sets(has_class)
    held = np.zeros(len(SPLITS), dtype=int)  # classes of each part, as bits
    part_of = {}
    for patient, can_be_completed in zip(order, _can_be_completed(has_class[order])[1:], strict=True):
        more = images.to_numpy()[patient]
        cost = ((have + more - target) ** 2 / target - (have - target) ** 2 / target).sum(1)
        then = held | np.diag(np.full(len(SPLITS), class_sets[patient]))  # a row for each part that may take it
        best = int(np.where(can_be_completed(then), cost, np.inf).argmin())
        have[best] += more
        held = then[best]
        part_of[images.index[patient]] = SPLITS[best]
    return cohort.patient_id.map(part_of)


def read_split(path: str | Path, manifest: pd.DataFrame, rejected: Iterable[str] = ()) -> pd.DataFrame:
    """A user's own split: a CSV with the columns `image_id, split`; others are ignored.

    rejected: the files (`source`) that ingestion left out; rows that name one of them are passed over, and logged. An
    id that is written with the ending or the folder of its file is read as the id, where it can be only one; the log
    says so, once.
    Returns the same table as `split_cohort`. Raises DataError, naming file and field, as `read_user_table` does, on an
    image that is unknown, missing or named twice, on a part other than train, validation and test, on a patient in two
    parts, and if a part lacks a class.
    """
    table = read_user_table(path, ["image_id", "split"])
    known = set(manifest.image_id)
    table = _read_ids(path, table, manifest, rejected)
    _forbid(path, "image_id", "twice", table.image_id[table.image_id.duplicated()], "each image once")
    _forbid(path, "image_id", "no row for", sorted(known - set(table.image_id)), "every image of the cohort")
    _forbid(path, "split", "", table.split[~table.split.isin(SPLITS)], " | ".join(SPLITS))
    table = manifest[["image_id", "patient_id", "label"]].merge(table, on="image_id").assign(method="by_patient")
    assert_patients_apart(table, str(path))
    _check_classes(table, str(path))
    return table.sort_values("image_id", ignore_index=True)[COLUMNS]


def _read_ids(path: str | Path, table: pd.DataFrame, manifest: pd.DataFrame, rejected: Iterable[str]) -> pd.DataFrame:
    """A user's table with the cohort's ids, without the rows of rejected images; raises DataError for unknown ones."""
    known, rejected = set(manifest.image_id), list(rejected)
    sources = map(PurePosixPath, [*manifest.get("source", ()), *rejected])
    endings = {source.suffix.lower() for source in sources} - {""}
    # An image's id is its file's name or, in folders of classes, its path; without the ending.
    meant = _meant_ids(table.image_id, known, {_without(endings, source) for source in rejected}, endings)
    is_left_out = meant.map(lambda ids: bool(ids) and not ids & known)
    if is_left_out.any():
        log.warning("%s: %d images of the split were rejected before", path, is_left_out.sum())
    table, meant = table[~is_left_out], meant[~is_left_out]

    unclear = table.image_id[meant.map(len) != 1]
    ending = " or ".join(sorted({match[0] for written in unclear if (match := ENDING.search(written))}))
    allowed = f"the id without {ending}, such as '{min(known)}'" if ending else "ids of the cohort"
    _forbid(path, "image_id", "unknown", unclear, allowed)

    ids = meant.map(lambda ids: next(iter(ids)))
    other = table.image_id[table.image_id != ids]
    if len(other):
        endings = {PurePosixPath(written).suffix for written in other if _without(endings, written) != written}
        how = f"their ending: read as the id without {' or '.join(sorted(endings))}" if endings else "another folder"
        example = f"'{other.iloc[0]}' as '{ids[other.index[0]]}'"
        log.warning("%d ids of %s are written with %s (%s)", len(other), path, how, example)
    return table.assign(image_id=ids)


def _meant_ids(written: pd.Series, known: set[str], rejected: set[str], endings: set[str]) -> pd.Series:
    """For each id as a person wrote it the set of ids that may be meant: its own, or those that differ by folders."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for name in known | rejected:
        by_name[name.rpartition("/")[2]].add(name)

    def meant(name: str) -> set[str]:
        if name in known:
            return {name}
        name = _without(endings, name.replace("\\", "/"))
        alike = by_name[name.rpartition("/")[2]]
        return {other for other in alike if f"/{other}".endswith(f"/{name}") or f"/{name}".endswith(f"/{other}")}

    return written.map(meant)


def _without(endings: set[str], name: str) -> str:
    """A file's name without its ending, if it is one of these."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in endings else name


def _forbid(path: str | Path, field: str, what: str, values: pd.Series | list[str], allowed: str) -> None:
    values = list(dict.fromkeys(values))
    if values:
        some = ", ".join(f"'{shown(value)}'" for value in values[:SHOWN]) + (", ..." if len(values) > SHOWN else "")
        found = f"{what} {some}".strip()
        raise DataError(f"{path}: {field}: found {found} ({len(values)} in all), allowed: {allowed}")


def _check_classes(table: pd.DataFrame, where: str, parts: Sequence[str] = SPLITS) -> None:
    """Every part must hold every class."""
    for name in parts:
        if missing := sorted(set(table.label) - set(table.label[table.split == name])):
            raise DataError(
                f"{where}: {name}: found no image of class {', '.join(missing)}, allowed: at least 1 of each"
            )


def parts_of(ids: Iterable[str], path: str | Path) -> np.ndarray:
    """The part (train, validation, test) of each image or scan, by a split that `split_cohort` wrote: [N].

    Raises DataError, naming the file, for one that it does not have.
    """
    split = pd.read_csv(path, dtype="str", keep_default_na=False).set_index("image_id").split
    ids = list(ids)
    _forbid(path, "image_id", "no row for", [name for name in ids if name not in split.index], "every image of the set")
    return split[ids].to_numpy()


def assert_patients_apart(split_df: pd.DataFrame, where: str) -> None:
    """Raise DataError, naming `where`, if a patient of `split_df` (columns patient_id, split) is in two parts."""
    parts = split_df.groupby("patient_id").split.unique()
    crossing = parts[parts.map(len) > 1]
    if len(crossing):
        raise DataError(
            f"{where}: patient_id: found patient '{crossing.index[0]}' in {' and '.join(sorted(crossing.iloc[0]))} "
            f"({len(crossing)} in all), allowed: one part for each patient"
        )


def patients_on_both_sides(split_df: pd.DataFrame) -> int:
    """How many patients of a split (columns patient_id, split) have images in more than one of its parts."""
    return int((split_df.groupby("patient_id").split.nunique() > 1).sum())


def _log_shared_patients(split_df: pd.DataFrame) -> None:
    shared = patients_on_both_sides(split_df)
    log.log(logging.WARNING if shared else logging.INFO, "official split: %d patients are in several parts", shared)


def is_official(split_df: pd.DataFrame) -> bool:
    """Whether a split is the data set's own, whose patients may be in several parts."""
    return "method" in split_df and (split_df.method == OFFICIAL).all()


def select_split(image_set: AnySet, split_df: pd.DataFrame, *names: str) -> AnySet:
    """The images whose part is one of `names`, in the order of `image_set`.

    Raises DataError if a patient is in two parts, by the split or by the images' manifest, or an image in none. An
    official split may do both; then the selected manifest says `official` in a column `split_method`.
    """
    if unknown := set(names) - set(SPLITS):
        raise ValueError(f"unknown parts {sorted(unknown)}, allowed: {SPLITS}")
    parts = image_set.manifest.image_id.map(split_df.set_index("image_id").split)
    if is_official(split_df):
        selected = image_set.select(parts.isin(names))
        return replace(selected, manifest=selected.manifest.assign(split_method=OFFICIAL))
    assert_patients_apart(split_df, "split")
    _forbid("split", "image_id", "no row for", image_set.manifest.image_id[parts.isna()], "every image of the cohort")
    assert_patients_apart(image_set.manifest.assign(split=parts), "manifest")
    return image_set.select(parts.isin(names))


def thin_out(images: ImageSet, most: int) -> ImageSet:
    """Every second, third, ... image, so that there are at most so many."""
    return images.select(np.arange(0, len(images), -(-len(images) // most)))


def draw_images(image_set: AnySet, images: int | None, seed: int) -> AnySet:
    """`images` random ones of a set, in its order (None, or more than there are: all); more hold the fewer."""
    if images is None:
        return image_set
    if images > len(image_set):
        log.warning("found %d training images, all used where %d were asked for", len(image_set), images)
    drawn = np.random.default_rng(seed).permutation(len(image_set))[:images]
    return image_set.select(np.sort(drawn))


def share_counts(real_images: pd.Series, share: float) -> dict[str, int]:
    """Class -> synthetic images that make `share` times the real ones (class -> images); at least one of each."""
    return {label: max(1, round(share * images)) for label, images in real_images.sort_index().items()}


def draw_share(synthetic: AnySet, real: AnySet, share: float, seed: int) -> AnySet:
    """`share` times as many synthetic images of each class as there are real ones, at random; more hold the fewer.

    Raises DataError if a class has too few.
    """
    drawn = []
    for label, wanted in share_counts(real.manifest.label.value_counts(), share).items():
        of_class = synthetic.select(synthetic.manifest.label == label)
        if wanted > len(of_class):
            raise DataError(
                f"classifier.shares: found {share:g}, which takes {wanted} synthetic images of class {label}; "
                f"allowed: what {len(of_class)} suffice for (raise synthesis.images_per_class)"
            )
        drawn.append(draw_images(of_class, wanted, seed))
    return synthetic.concatenate(drawn)


def repeat_images(real: AnySet, wanted: Mapping[str, int], seed: int) -> AnySet:
    """Copies of real images, so many of each class: all images as often as one another, or once more, at random."""
    generator = np.random.default_rng(seed)
    copied = []
    for label in sorted(wanted):
        of_class = np.flatnonzero(real.manifest.label == label)
        copied.append(np.resize(generator.permutation(of_class), wanted[label]))
    return real.select(np.concatenate(copied))


def read_parts(
    images_path: str | Path, manifest_path: str | Path, split_path: str | Path, hold: bool = True
) -> dict[str, ImageSet]:
    """The cohort's images by part (train, validation, test); asserts that patients are apart, see `select_split`.

    hold: see `read_image_set`.
    """
    return split_parts(read_image_set(images_path, manifest_path, hold=hold), split_path)


def split_parts(cohort: AnySet, split_path: str | Path) -> dict[str, AnySet]:
    """A cohort that was read, by part; see `read_parts`."""
    split = pd.read_csv(split_path, dtype="str", keep_default_na=False)
    if is_official(split):
        _log_shared_patients(split)
    return {name: select_split(cohort, split, name) for name in SPLITS}
