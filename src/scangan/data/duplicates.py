"""Copies in a cohort, found before its patients are shared among training, validation and test.

Identical images have the same stored pixels, whatever their files were. Near-identical ones are what is left of a
picture that was flipped, turned by 90 degrees, resized, compressed again, or changed in brightness, contrast or gamma.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scangan import config
from scangan.data.scan_store import scan_manifest
from scangan.data.store import OF_VOLUMES, radiographs
from scangan.errors import DataError
from scangan.rejected import KEPT, Rejection, log_rejected, rejected_table

if TYPE_CHECKING:
    import zarr

log = logging.getLogger(__name__)

IDENTICAL, NEAR = "identical", "near-identical"
COPIED_IMAGE = r"identical to (?:another image|images of another class)$"  # how a reason ends
DUPLICATE_TYPES = {
    "kind": "str",  # identical | near-identical
    "what": "str",  # images | scans
    "group": "str",  # the id of its first image
    "image_id": "str",
    "partner": "str",
    "similarity": "float64",
    "patient_id": "str",  # before a group becomes one patient
    "label": "str",
    "action": "str",  # kept | dropped | one patient | allowed
}
KEEP, DROP, ONE_PATIENT, ALLOW = "kept", "dropped", "one patient", "allowed"
COEFFICIENTS = 16  # of the cosine transform, along each edge
FLAT = 1 / 255  # contrast, as standard deviation, below which an image shows nothing that could be compared
PRIOR_IMAGES = 10  # that the spread which is usual at a frequency counts for, beside the cohort's own
PIXELS_AT_ONCE = 2**24  # of images in memory
BLOCK = 1024


class Settled(NamedTuple):
    """What became of the copies of a cohort.

    manifest: the rows that are kept, with their index, and with the patients that groups of copies became.
    duplicates: a row an image of a group, columns and types of `DUPLICATE_TYPES`. rejected: dropped images, and those
    that are kept although they are copies (not counted), with the columns of `REJECTED_TYPES`.
    """

    manifest: pd.DataFrame
    duplicates: pd.DataFrame
    rejected: pd.DataFrame


class Groups(NamedTuple):
    """Images that are copies of others: group [N], -1 for none; partner [N], another one of it; similarity [N]."""

    group: np.ndarray
    partner: np.ndarray
    similarity: np.ndarray


def settle_images(manifest: pd.DataFrame, images: zarr.Array | np.ndarray, settings: config.Duplicates) -> Settled:
    """Find the copies among images, and do with them what the settings say.

    manifest: `image_id, patient_id, label, source, sha256`; images [N, C, H, H], or volumes [N, C, H, H, H], numbers of
    any type, black is 0.
    A group of copies is dropped but for its first image by id, kept as one patient, or left alone; of one with several
    classes nothing is kept, unless it is allowed. Images of one patient resemble each other: near-identical are pairs
    of different patients, identical ones of any.
    Raises DataError if a class is left empty.
    """
    identical = _settle(manifest, IDENTICAL, "images", settings.identical, identical_groups(manifest))
    left = identical.manifest
    alike = near_groups(image_features(images)[manifest.index.get_indexer(left.index)], left, settings.threshold)
    near = _settle(left, NEAR, "images", settings.near, alike)
    if lost := sorted(set(manifest.label) - set(near.manifest.label)):
        raise DataError(
            f"duplicates: {', '.join(lost)}: found no image that is not a copy of one of another class, "
            "allowed: at least 1 (correct the labels)"
        )
    tables = zip(identical[1:], near[1:], strict=True)
    return Settled(near.manifest, *(pd.concat(pair, ignore_index=True) for pair in tables))


def settle_scans(
    scans: pd.DataFrame, nodules: pd.DataFrame, settings: config.Duplicates
) -> tuple[pd.DataFrame, pd.DataFrame, Settled]:
    """The same of scans with the same voxels: the scans and nodules (`SCAN_TYPES`, `NODULE_TYPES`) that are kept."""
    rows = scan_manifest(scans, "")
    settled = _settle(rows, IDENTICAL, "scans", settings.identical, identical_groups(rows))
    scans = scans.loc[settled.manifest.index].assign(patient_id=settled.manifest.patient_id)
    nodules = nodules[nodules.scan_id.isin(scans.scan_id)]
    return scans.reset_index(drop=True), nodules.reset_index(drop=True), settled


def read_duplicates(path: str | Path) -> pd.DataFrame:
    """A table of copies that was written by `DataFrame.to_csv(index=False)`."""
    return pd.read_csv(path, dtype=DUPLICATE_TYPES, keep_default_na=False)[list(DUPLICATE_TYPES)]


def copies_of(ids: Iterable[str], duplicates: pd.DataFrame) -> set[str]:
    """All images of the groups that some images are in, these included."""
    keys = ["kind", "what", "group"]
    groups = duplicates.loc[duplicates.image_id.isin(set(ids)), keys].drop_duplicates()
    return set(duplicates.merge(groups, on=keys).image_id)


def divided_groups(duplicates: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """The groups of copies that a split (`image_id, split`) divides, a row each: two images of different parts.

    Columns `kind, what, group, image_id, part, other_id, other_part`.
    """
    parts = split.set_index("image_id").split
    placed = duplicates.assign(part=duplicates.image_id.map(parts)).dropna(subset="part")
    keys = ["kind", "what", "group"]
    first = placed.drop_duplicates(keys)[[*keys, "image_id", "part"]]
    other = placed.merge(first, on=keys, suffixes=("", "_of_first"))
    other = other[other.part != other.part_of_first].drop_duplicates(keys)
    other = other[[*keys, "image_id", "part"]].rename(columns={"image_id": "other_id", "part": "other_part"})
    return first.merge(other, on=keys)


def describe_divided(duplicates: pd.DataFrame, split: pd.DataFrame) -> list[str]:
    """A line for each kind of copies that a split divides: how many groups, and the first of them."""
    lines = []
    for (kind, what), groups in divided_groups(duplicates, split).groupby(["kind", "what"], sort=False):
        row = groups.iloc[0]
        lines.append(
            f"in several parts: {count_groups(len(groups))} of {kind} {what}, "
            f"first {row.image_id} ({row.part}) and {row.other_id} ({row.other_part})"
        )
    return lines


def count_groups(number: int) -> str:
    """`1 group`, `2 groups`."""
    return f"{number} group{'s' * (number != 1)}"


def log_divided(duplicates: pd.DataFrame, split: pd.DataFrame) -> None:
    """Warn of copies that a split divides."""
    for line in describe_divided(duplicates, split):
        log.warning("split: %s", line)


# Groups


def identical_groups(manifest: pd.DataFrame) -> Groups:
    """Groups of rows with the same `sha256`; the partner is the first other by id, of another class if it can."""
    group, partner = (np.full(len(manifest), -1) for _ in range(2))
    labels, in_order = manifest.label.to_numpy(), manifest.image_id.to_numpy().argsort(kind="stable")
    for number, places in enumerate(manifest.iloc[in_order].groupby("sha256", sort=False).indices.values()):
        members = in_order[places]
        for member in members if len(members) > 1 else ():
            others = members[members != member]
            of_another = others[labels[others] != labels[member]]
            group[member], partner[member] = number, (of_another if len(of_another) else others)[0]
    return Groups(group, partner, np.ones(len(manifest)))


def near_groups(features: np.ndarray, manifest: pd.DataFrame, threshold: float) -> Groups:
    """Groups of different patients' images that are alike, but not identical; the partner is the one most alike.

    features: of `image_features`; manifest: `patient_id, sha256`. A group is what pairs of a similarity of at least
    `threshold` hold together.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    images = len(manifest)
    group, partner, similarity = np.arange(images), np.full(images, -1), np.zeros(images)
    own = [pd.factorize(manifest[name])[0] for name in ("patient_id", "sha256")]
    for rows, columns, alike in similar_pairs(whiten(features), threshold, own):
        for one, other in ((rows, columns), (columns, rows)):
            order = np.lexsort((-other, alike))  # the last that is written stays: the most alike, then the first
            order = order[alike[order] > similarity[one[order]]]
            partner[one[order]], similarity[one[order]] = other[order], alike[order]
        edges = np.concatenate([rows, np.arange(images)]), np.concatenate([columns, group])
        graph = coo_array((np.ones(len(edges[0]), bool), edges), shape=(images, images))
        labels = connected_components(graph, directed=False)[1]
        group = pd.Series(np.arange(images)).groupby(labels).transform("min").to_numpy()
    return Groups(np.where(partner >= 0, group, -1), partner, similarity)


# Similarity


def image_features(images: zarr.Array | np.ndarray) -> np.ndarray:
    """The lowest coefficients of the cosine transform of each image, as grey: float32 [N, K, K], without the mean.

    images: [N, C, H, H], numbers of any type, read piece by piece; white is the greatest of it, or 1. Of volumes
    [N, C, H, H, H] their radiographs. K is `COEFFICIENTS`, or H if that is less. A flip changes the sign of every other
    one, a transposition swaps the axes. Images without contrast have none: all are 0.
    """
    from scipy.fft import dct

    size = images.shape[-1]
    basis = dct(np.eye(size, dtype=np.float32), axis=0, norm="ortho")[:COEFFICIENTS] / np.sqrt(np.float32(size))
    white = np.iinfo(images.dtype).max if np.issubdtype(images.dtype, np.integer) else 1
    features = np.zeros((images.shape[0], len(basis), len(basis)), np.float32)
    step = max(1, PIXELS_AT_ONCE // int(np.prod(images.shape[1:])))
    for first in range(0, len(features), step):
        part = images[first : first + step].astype(np.float32)
        along_rows = (radiographs(part) if part.ndim == OF_VOLUMES else part) @ basis.T
        features[first : first + step] = (basis @ along_rows).mean(1) / np.float32(white)
    features[:, 0, 0] = 0
    features[np.sqrt((features**2).sum((1, 2))) < FLAT] = 0
    return features


def whiten(features: np.ndarray) -> np.ndarray:
    """Features [N, K, K] in which every coefficient is equally spread over the cohort, each image's of length 1.

    The spread is the same for a coefficient and its transposed. It counts beside that which is usual at its frequency,
    without which a few images, or symmetrical ones, would turn noise into features.
    """
    rows, columns = np.indices(features.shape[1:])
    frequency = np.rint(np.hypot(rows, columns)).astype(int)
    scaled = _unit(features)
    power = (scaled**2).mean(0)
    usual = (np.bincount(frequency.ravel(), power.ravel()) / np.bincount(frequency.ravel()))[frequency]
    power = (len(features) * (power + power.T) / 2 + PRIOR_IMAGES * usual) / (len(features) + PRIOR_IMAGES)
    return _unit(scaled / np.sqrt(np.where(power > 0, power, 1), dtype=np.float32))


def similar_pairs(
    features: np.ndarray, threshold: float, apart: Sequence[np.ndarray] = ()
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of images whose similarity is at least `threshold`, block by block: first, second, similarity, each [n].

    features: of `whiten`, [N, K, K]. The similarity is the greatest cosine of one image and the other one's eight
    flips and turns. apart: integers [N] that must differ, each, between the images of a pair.
    """
    # By the parity of their frequencies: a flip changes the sign of two of these parts.
    parts = [features[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    turned = [features.transpose(0, 2, 1)[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    plain, turned = ([np.ascontiguousarray(part).reshape(len(part), -1) for part in each] for each in (parts, turned))
    images = len(features)
    for first in range(0, images, BLOCK):
        one = slice(first, first + BLOCK)
        for second in range(first, images, BLOCK):
            other = slice(second, second + BLOCK)
            alike = np.maximum(
                *(
                    _best_flip(*(a[one] @ b[other].T for a, b in zip(plain, each, strict=True)))
                    for each in (plain, turned)
                )
            )
            found = alike >= threshold
            for codes in apart:
                found &= codes[one, None] != codes[None, other]
            rows, columns = np.nonzero(np.triu(found, 1) if first == second else found)
            if len(rows):
                yield rows + first, columns + second, alike[rows, columns]


def _best_flip(even: np.ndarray, across: np.ndarray, down: np.ndarray, both: np.ndarray) -> np.ndarray:
    """The greatest sum of four products over the signs that the flips of one image give them."""
    return np.maximum(even + both + abs(across + down), even - both + abs(across - down))


def _unit(features: np.ndarray) -> np.ndarray:
    """Each image's features with length 1, or 0 where there are none."""
    length = np.sqrt((features**2).sum((1, 2), keepdims=True))
    return features / np.where(length > 0, length, 1)


# What becomes of them


def _settle(manifest: pd.DataFrame, kind: str, what: str, fate: str, groups: Groups) -> Settled:
    """One kind of copies; see `settle_images`."""
    is_copy = groups.group >= 0
    ids, labels, names = (values.to_numpy() for values in (manifest.image_id, manifest.label, _names(manifest)))
    partner = groups.partner[is_copy]
    table = pd.DataFrame(
        {
            "kind": kind,
            "what": what,
            "group": groups.group[is_copy],
            "image_id": ids[is_copy],
            "partner": ids[partner],
            "similarity": groups.similarity[is_copy],
            "patient_id": manifest.patient_id[is_copy],
            "label": labels[is_copy],
            "name": names[is_copy],
            "partner_name": names[partner],
            "partner_label": labels[partner],
        },
        index=manifest.index[is_copy],
    ).sort_values("image_id")
    each = table.groupby("group")
    table["mixed"] = each.label.transform("nunique") > 1
    table["group"] = each.image_id.transform("first")
    if fate == "drop":
        table["action"] = np.where(table.mixed | (each.cumcount() > 0), DROP, KEEP)
    else:
        table["action"] = np.where(table.mixed & (fate == "group"), DROP, {"group": ONE_PATIENT, "allow": ALLOW}[fate])

    rows = list(table.itertuples())
    rejections = [_rejection(row, kind, what.removesuffix("s")) for row in rows if row.action != KEEP]
    kept = manifest.drop(index=table.index[table.action == DROP])
    kept = _merge_patients(kept, table[table.action == ONE_PATIENT])
    table = table.sort_values(["group", "image_id"], ignore_index=True)
    rejected = rejected_table(rejections)
    log.info("%s of %s %s: %s", count_groups(table.group.nunique()), kind, what, table.action.value_counts().to_dict())
    log_rejected(rejected)
    return Settled(kept, table[list(DUPLICATE_TYPES)].astype(DUPLICATE_TYPES), rejected)


def _names(manifest: pd.DataFrame) -> pd.Series:
    """What an image is called among the rejected: its source or, where that has several images, its id."""
    return manifest.source.where(~manifest.source.duplicated(keep=False), manifest.image_id)


def _rejection(row: Any, kind: str, what: str) -> Rejection:
    like = f"{kind} to another {what}"
    found = row.partner_name if kind == IDENTICAL else f"{row.partner_name} (similarity {row.similarity:.3f})"
    if row.action == DROP and row.mixed:
        found += f", in a group of several classes (this one: {row.label}, the other: {row.partner_label})"
        return Rejection(
            row.name, f"{kind} to {what}s of another class", found, "correct the labels, or remove all but one"
        )
    if row.action == DROP:
        return Rejection(row.name, like, found, "none is needed: the first of them is kept")
    return Rejection(row.name, f"{KEPT}{like}, {row.action}", found, "none is needed: it is kept", counted=False)


def _merge_patients(manifest: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """All patients that a group has images of become one, called as that of their first image by id."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if members.empty:
        return manifest
    in_order = manifest.sort_values("image_id").patient_id
    codes, patients = pd.factorize(in_order)
    code = pd.Series(codes, in_order.index)[members.index]
    first = code.groupby(members.group).transform("first")
    edges = coo_array((np.ones(len(code), bool), (code, first)), shape=(len(patients), len(patients)))
    merged = connected_components(edges, directed=False)[1]
    name = pd.Series(patients).groupby(merged).transform("first")
    return manifest.assign(patient_id=pd.Series(name.to_numpy()[codes], in_order.index, dtype="str"))
