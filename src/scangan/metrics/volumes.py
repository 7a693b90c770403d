"""How good synthetic volumes are: their slices against real ones, their anatomical consistency, and copies.

Slices are compared as in table 1 of CT-SGAN (Pesaranghader et al.), consistency is what the paper only looks at. Every
figure stands beside the same figure of held-out real volumes.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file
from scipy.stats import binomtest, wasserstein_distance

import scangan.compat  # noqa: F401  (before torch_fidelity)

# isort: split
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

from scangan.config import Evaluation, Fidelity
from scangan.ct.anatomy import PLANES, STRIP_EDGE, describe_volume
from scangan.ct.window import VOI_WINDOW as WINDOW
from scangan.ct.window import to_grey
from scangan.data.store import ImageSet
from scangan.data.volume_set import VolumeSet
from scangan.errors import DataError
from scangan.files import atomic, reading
from scangan.metrics.copies import find_copies
from scangan.metrics.feature_sets import map_tensors, open_tensors
from scangan.metrics.features import extract
from scangan.metrics.fidelity import compare_unbiased
from scangan.metrics.frechet import feature_statistics, frechet_distance
from scangan.metrics.order import NOT_ORDERED, misplacement, pair_similarities
from scangan.metrics.radiomics import frechet_radiomics_distance, radiomics, standardise_within_bounds

log = logging.getLogger(__name__)

MISPLACEMENT = "misplacement"
REAL, TRAIN = "real", "train"  # variants: held-out and training volumes

TYPES = {"features": np.float16, "logits": np.float16, "radiomics": np.float32}
ARRAYS = ("positions", "features", "logits", "radiomics")  # of `SliceFeatures`, as they are kept
SLICES_AT_ONCE = 512  # each call of `extract` reads the network's weights


@dataclass(frozen=True)
class SliceFeatures:
    """What a network sees in P slices of each plane of N volumes.

    volume_ids: [N]. positions: [P], indices of the slices, the same in each plane. features: float16 [N, planes, P, D]
    and logits: float16 [N, planes, P, K], planes as `PLANES`: a thousandth of precision for half of the disk. facts:
    what decides them besides the volumes (extractor, window, size); sets of different facts cannot be compared.
    radiomics: float32 [N, planes, P, R], of the same slices, which know no network.
    """

    volume_ids: tuple[str, ...]
    positions: np.ndarray
    features: np.ndarray
    logits: np.ndarray
    radiomics: np.ndarray
    facts: dict[str, Any]

    def __len__(self) -> int:
        return len(self.volume_ids)

    def select(self, mask: np.ndarray) -> SliceFeatures:
        """The volumes of a boolean mask [N]."""
        names = tuple(name for name, chosen in zip(self.volume_ids, mask, strict=True) if chosen)
        arrays = self.features[mask], self.logits[mask], self.radiomics[mask]
        return SliceFeatures(names, self.positions, *arrays, self.facts)


def compared_slices(size: int, positions: int) -> np.ndarray:
    """Indices [P] of evenly spaced slices of `size`, each in the middle of its share; every slice if P is `size`.

    Raises DataError if there are not so many.
    """
    if not 1 <= positions <= size:
        raise DataError(f"slices: positions: found {positions}, allowed: 1 to {size}, the volumes' size")
    return ((np.arange(positions) + 0.5) * size / positions).astype(int)


def extract_slices(
    volumes: VolumeSet,
    positions: int,
    extractor: str,
    weights: str | None = None,
    window: tuple[float, float] = WINDOW,
    path: str | Path | None = None,
    threads: int = 1,
) -> SliceFeatures:
    """Features and radiomics of `positions` evenly spaced slices of each plane of all volumes, few held at a time.

    Slices are shown as the network of `metrics.features.extract` sees images: HU from `window` to [0, 1], grey.
    path: of a file in which they are kept as they come, see `read_slice_features`; None: in memory. threads: for
    radiomics.
    """
    places = compared_slices(volumes.size, positions)
    at_once = max(1, SLICES_AT_ONCE // (len(PLANES) * positions))
    names = tuple(volumes.manifest.volume_id)
    facts = {"extractor": extractor, "window": list(window), "size": volumes.size}
    arrays: dict[str, np.ndarray] = {}
    for start in range(0, len(volumes), at_once):
        chunk = volumes.read(np.arange(start, min(start + at_once, len(volumes))))
        planes = [np.moveaxis(chunk, 1 + axis, 1)[:, places] for axis in range(len(PLANES))]
        grey = to_grey(np.stack(planes, axis=1), window).reshape(-1, 1, volumes.size, volumes.size)
        seen = extract(grey, extractor, weights)
        shape = (len(chunk), len(PLANES), positions, -1)
        found = {"features": seen.features, "logits": seen.logits, "radiomics": radiomics(grey, threads)}
        parts = {name: values.reshape(shape).astype(TYPES[name]) for name, values in found.items()}
        if not arrays:
            new = {name: (part.dtype, (len(volumes), *part.shape[1:])) for name, part in parts.items()}
            new = {"positions": (places.dtype, places.shape), **new}
            arrays = _new_arrays(new) if path is None else map_tensors(path, new, _metadata(names, facts))
            arrays["positions"][:] = places
        for name, part in parts.items():
            arrays[name][start : start + len(chunk)] = part
        log.info("slices of %d of %d volumes (%s)", start + len(chunk), len(volumes), extractor)
    return SliceFeatures(names, **arrays, facts=facts)


def _new_arrays(wanted: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    return {name: np.empty(shape, dtype) for name, (dtype, shape) in wanted.items()}


def _metadata(volume_ids: Sequence[str], facts: dict[str, Any]) -> dict[str, str]:
    return {"volume_ids": json.dumps(volume_ids), "facts": json.dumps(facts)}


def write_slice_features(path: str | Path, slices: SliceFeatures) -> None:
    """Keep features of slices as safetensors; their volumes and facts stand in the file's metadata."""
    arrays = {name: np.ascontiguousarray(getattr(slices, name)) for name in ARRAYS}
    with atomic(path) as temporary:
        save_file(arrays, temporary, _metadata(slices.volume_ids, slices.facts))


def read_slice_features(path: str | Path) -> SliceFeatures:
    """What `write_slice_features` or `extract_slices` wrote; features stay in the file, and are read when looked at.

    Raises DataError, naming the file, if it is missing or damaged.
    """
    with reading(path, "slice features", "a whole file; make it again"):
        found, metadata = open_tensors(path)
        arrays = {name: found[name] for name in ARRAYS}
        volume_ids, facts = (json.loads(metadata[name]) for name in ("volume_ids", "facts"))
    return SliceFeatures(tuple(volume_ids), **arrays, facts=facts)


def compare_slices(
    real_train: SliceFeatures,
    real_held_out: SliceFeatures,
    synthetic: Mapping[str, SliceFeatures],
    settings: Fidelity,
    refused: Collection[str] = (),
) -> pd.DataFrame:
    """FID, Inception Score and FRD slice position by slice position (CT-SGAN, table 1).

    synthetic: name of a network -> its volumes. At each position the FID is that of n slices of the variant's volumes
    against n of the training volumes, the Inception Score that of the n slices, in one split; n is the same for all
    variants, the size of the smallest set. Held-out volumes are the variant `real`: so no patient is on both sides.
    `settings.resamples` times random sets of n volumes are drawn. (The paper has it that "two different scans" are
    drawn; one slice has no covariance, so we read: two different sets of scans.)

    Returns `variant, metric, value, plus_minus, ci_low, ci_high, images, plane, reference`, with the metrics `fid` and
    `inception_score` of axial slices, as in the paper, `fid_coronal`, `fid_sagittal`, and `fid_2.5d`, the mean of
    the three planes; and `frd`, that of the Frechet radiomics distances (the logarithm), by a referee that no network
    was trained against. refused: networks whose generators were trained by these features, which say nothing of them:
    they have `frd` alone.

    - value: mean over positions and draws; images: n; reference: of the variant `real` (NaN for itself).
    - plus_minus: standard deviation over positions of the means over draws. The paper does not say what its deviations
      are over; it "computed the FID slice by slice in order", so we read: over slices.
    - ci_low, ci_high: 2.5 and 97.5 percentiles over draws of the mean over positions; NaN where nothing was drawn. It
      says what the choice of n volumes does, not what another training would.

    Raises DataError for fewer than 2 volumes in a set, and for features that cannot be compared.
    """
    variants = {REAL: real_held_out, **synthetic}
    _check_comparable({TRAIN: real_train, **variants})
    n = min(len(real_train), *map(len, variants.values()))
    is_drawn = {name: len(slices) > n for name, slices in {TRAIN: real_train, **variants}.items()}
    draws = settings.resamples if any(is_drawn.values()) else 1
    scores = [_score_draw(real_train, variants, n, [settings.seed, draw]) for draw in range(draws)]

    rows = []
    for name in variants:
        fid, inception, frd = map(np.stack, zip(*(draw[name] for draw in scores), strict=True))
        by_features = [
            ("fid", "axial", fid[:, 0]),
            ("inception_score", "axial", inception),
            ("fid_coronal", "coronal", fid[:, 1]),
            ("fid_sagittal", "sagittal", fid[:, 2]),
            ("fid_2.5d", "2.5d", fid.reshape(draws, -1)),
        ]
        metrics = ([] if name in refused else by_features) + [("frd", "2.5d", frd.reshape(draws, -1))]
        for metric, plane, values in metrics:  # [draws, positions]
            plus_minus = values.mean(axis=0).std(ddof=1) if values.shape[1] > 1 else np.nan
            varies = is_drawn[name] or (metric != "inception_score" and is_drawn[TRAIN])
            interval = np.percentile(values.mean(axis=1), [2.5, 97.5]) if varies else (np.nan, np.nan)
            rows.append((name, metric, values.mean(), plus_minus, *interval, n, plane))
    columns = ["variant", "metric", "value", "plus_minus", "ci_low", "ci_high", "images", "plane"]
    return _with_reference(pd.DataFrame(rows, columns=columns))


def compare_whole_volumes(
    real_train: SliceFeatures,
    real_held_out: SliceFeatures,
    synthetic: Mapping[str, SliceFeatures],
    settings: Fidelity,
    train_patients: np.ndarray,
    held_out_patients: np.ndarray,
    refused: Collection[str] = (),
) -> pd.DataFrame:
    """The headline: `energy_distance` of each network's volumes to the held-out ones, by the features of all slices.

    A volume is one point, the features of its slices of all planes one after the other: so it also tells how they go
    together. `radiomics_distance` is the same by their radiomics, standardised by the training volumes. The reference
    is of the training volumes, which stand for a perfect generator. patients: [N], of the real volumes. refused: see
    `compare_slices`; these have `radiomics_distance` alone. Returns `variant, metric, value, ci_low, ci_high, images,
    reference, reference_low, reference_high`.
    Raises DataError for fewer than 2 volumes in a set, and for features that cannot be compared.
    """
    _check_comparable({TRAIN: real_train, REAL: real_held_out, **synthetic})
    tables = []
    for name, slices in synthetic.items():
        sets = real_train, real_held_out, slices
        points = {
            "energy_distance": [each.features.reshape(len(each), -1) for each in sets],
            "radiomics_distance": standardise_within_bounds(*(each.radiomics.reshape(len(each), -1) for each in sets)),
        }
        if name in refused:
            del points["energy_distance"]
        for metric, (train, held_out, drawn) in points.items():
            table = compare_unbiased(train, held_out, drawn, settings.seed, train_patients, held_out_patients)
            tables.append(table[table["metric"] == "energy_distance"].assign(variant=name, metric=metric))
    return pd.concat(tables, ignore_index=True)


def _score_draw(
    real_train: SliceFeatures, variants: Mapping[str, SliceFeatures], n: int, seed: list[int]
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of one random set of n volumes each: variant -> FID [planes, P], Inception Score of axial slices [P], FRD as FID.

    No distance has no logarithm: NaN.
    """
    # Each set has a generator of its own: another network in the table does not change the draws of this one.
    chosen, *others = (
        np.random.default_rng(seed).choice(len(slices), n, replace=False) for slices in (real_train, *variants.values())
    )
    shape = real_train.features.shape[1:3]
    fid: dict[str, np.ndarray] = {name: np.empty(shape) for name in variants}
    frd: dict[str, np.ndarray] = {name: np.empty(shape) for name in variants}
    for plane, position in np.ndindex(*shape):
        train = feature_statistics(real_train.features[chosen, plane, position])
        for (name, slices), index in zip(variants.items(), others, strict=True):
            own = feature_statistics(slices.features[index, plane, position])
            fid[name][plane, position] = frechet_distance(train, own)
            known, shown = real_train.radiomics[chosen, plane, position], slices.radiomics[index, plane, position]
            frd[name][plane, position] = frechet_radiomics_distance(known, shown)
    inception = {
        name: np.array([_inception_score(slices.logits[index, 0, position]) for position in range(fid[name].shape[1])])
        for (name, slices), index in zip(variants.items(), others, strict=True)
    }
    return {name: (fid[name], inception[name], frd[name]) for name in variants}


def _with_reference(table: pd.DataFrame) -> pd.DataFrame:
    """`reference`: the value of the variant `real`, NaN for itself."""
    of_real = table[table.variant == REAL].set_index("metric").value
    return table.assign(reference=table.metric.map(of_real).where(table.variant != REAL))


def _check_comparable(sets: Mapping[str, SliceFeatures]) -> None:
    facts, positions = sets[TRAIN].facts, sets[TRAIN].positions
    for name, slices in sets.items():
        if slices.facts != facts or not np.array_equal(slices.positions, positions):
            found = f"{slices.facts}, {len(slices.positions)} positions"
            raise DataError(f"slices of {name}: facts: found {found}, allowed: {facts}, {len(positions)} positions")
        if len(slices) < 2:
            raise DataError(f"slices of {name}: volumes: found {len(slices)}, allowed: at least 2")


def _inception_score(logits: np.ndarray) -> float:
    """Of images with class logits [N, K], in one split: ten would leave a handful of images in each."""
    logits = torch.from_numpy(logits.astype(np.float32))
    return float(isc_features_to_metric(logits, splits=1, shuffle=False)[KEY_METRIC_ISC_MEAN])


def describe_volumes(volumes: VolumeSet, window: tuple[float, float] = WINDOW, threads: int = 1) -> pd.DataFrame:
    """`volume_id, patient_id`, and what `describe_volume` says, a row a volume; so many volumes at once."""
    rows = list(volumes.manifest.itertuples())

    def describe(place: int) -> dict[str, Any]:
        return describe_volume(volumes.read(place)[0], rows[place].spacing_mm, window)

    with ThreadPoolExecutor(threads) as pool:
        described = pool.map(describe, range(len(rows)))
        named = [
            {"volume_id": row.volume_id, "patient_id": row.patient_id} | each
            for row, each in zip(rows, described, strict=True)
        ]
    return pd.DataFrame(named)


def consistency_scores(descriptions: Mapping[str, pd.DataFrame], settings: Evaluation) -> pd.DataFrame:
    """Anatomical consistency of each source of volumes: `variant, metric, value, ci_low, ci_high, images, reference`.

    descriptions: `train`, `real` (held out) and each network's name -> what `describe_volumes` returns.
    Rows of `real` and of the networks; `reference` is the value of `real`, NaN for itself:

    - difference_axial_hu, difference_coronal_hu, difference_sagittal_hu, lung_volume_ml: median over volumes [95%
      bootstrap over volumes];
    - two_lungs: share of the volumes [Wilson];
    - difference_axial_hu_distance, lung_volume_ml_distance: how far the distribution lies from that of `train`, as the
      1-Wasserstein distance, in HU or ml. A small set lies farther from `train` than a large one of the same kind: so
      as many volumes are taken as there are of `real`, mean and percentiles over random sets (NaN if all are taken).

    Volumes whose lung mask failed have no lung volume (they count in `two_lungs`), volumes without a body no
    difference; `images` is the number of volumes, for distances of each set. A metric that no volume has is NaN.
    Raises DataError without `train` or `real`, or for a source without volumes.
    """
    for name in (TRAIN, REAL, *descriptions):
        if name not in descriptions or descriptions[name].empty:
            raise DataError(f"consistency: {name}: found no volume, allowed: at least 1")
    columns = [*(f"difference_{plane}_hu" for plane in PLANES), "lung_volume_ml"]
    measured = {
        name: {column: _usable(rows, column) for column in columns} | {"two_lungs": rows.two_lungs.to_numpy(bool)}
        for name, rows in descriptions.items()
    }
    train, real = measured[TRAIN], measured[REAL]
    rows = []
    for name in (name for name in measured if name != TRAIN):
        for column in columns:
            rows.append((name, column, *_median(measured[name][column], settings)))
        share = binomtest(int(measured[name]["two_lungs"].sum()), len(measured[name]["two_lungs"]))
        interval = share.proportion_ci(confidence_level=0.95, method="wilson")
        rows.append((name, "two_lungs", share.statistic, interval.low, interval.high, share.n))
        for column in ("difference_axial_hu", "lung_volume_ml"):
            values = measured[name][column]
            found = _distance(values, train[column], min(len(values), len(real[column])), settings)
            rows.append((name, f"{column}_distance", *found))
    return _with_reference(pd.DataFrame(rows, columns=["variant", "metric", "value", "ci_low", "ci_high", "images"]))


def order_scores(descriptions: Mapping[str, pd.DataFrame], settings: Evaluation) -> pd.DataFrame:
    """Order and variety of each source of volumes, in the columns and with the arguments of `consistency_scores`:

    - misplacement: how far slices lie from where the training volumes have such, as a share of the depth
      (`order.misplacement`; of random order a third), median over volumes [95% bootstrap over volumes];
    - pair_ms_ssim: how alike volumes are, seen as radiographs, mean over random pairs [95% bootstrap over pairs]: more
      than real ones are, where a network draws but few.
    """
    strips, rows = _strips(descriptions[TRAIN]), []
    for name in (name for name in descriptions if name != TRAIN):
        misplaced = misplacement(_strips(descriptions[name]), strips)
        rows.append((name, MISPLACEMENT, *_median(misplaced, settings)))
        rows.append((name, "pair_ms_ssim", *_alike(descriptions[name], settings)))
    return _with_reference(pd.DataFrame(rows, columns=["variant", "metric", "value", "ci_low", "ci_high", "images"]))


def _strips(rows: pd.DataFrame) -> np.ndarray:
    strips = np.stack(rows["strip"].to_list())
    return strips.reshape(len(strips), -1, STRIP_EDGE, STRIP_EDGE)


def _alike(rows: pd.DataFrame, settings: Evaluation) -> tuple[float, float, float, int]:
    """Mean similarity of pairs of volumes, its interval, and the number of volumes."""
    pictures = _radiographs(rows).images[:, 0]
    found = pair_similarities(pictures, rows["patient_id"].to_numpy(), settings.seed)
    if not len(found):
        return np.nan, np.nan, np.nan, len(rows)
    rng = np.random.default_rng([settings.seed, 11])
    means = rng.choice(found, (settings.bootstrap, len(found))).mean(axis=1)
    return float(found.mean()), *np.percentile(means, [2.5, 97.5]), len(rows)


def not_ordered(scores: pd.DataFrame) -> list[str]:
    """The networks of `order_scores` whose volumes' slices lie too far from where they should, see `order`."""
    misplaced = scores[(scores["metric"] == MISPLACEMENT) & (scores["variant"] != REAL)]
    return misplaced.loc[misplaced["value"] > NOT_ORDERED, "variant"].to_list()


def _usable(rows: pd.DataFrame, column: str) -> np.ndarray:
    values = rows[column].where(rows.lung_check == "") if column == "lung_volume_ml" else rows[column]
    return values.dropna().to_numpy(float)


def _median(values: np.ndarray, settings: Evaluation) -> tuple[float, float, float, int]:
    if not len(values):
        return np.nan, np.nan, np.nan, 0
    rng = np.random.default_rng([settings.seed, 8])
    medians = np.median(rng.choice(values, (settings.bootstrap, len(values))), axis=1)
    return float(np.median(values)), *np.percentile(medians, [2.5, 97.5]), len(values)


def _distance(values: np.ndarray, train: np.ndarray, n: int, settings: Evaluation) -> tuple[float, float, float, int]:
    """Mean distance of n of the values from `train`, its percentiles over random sets, and n."""
    if not n or not len(train):
        return np.nan, np.nan, np.nan, n
    if n == len(values):
        return float(wasserstein_distance(values, train)), np.nan, np.nan, n
    rng = np.random.default_rng([settings.seed, 9])
    sets = [rng.choice(values, n, replace=False) for _ in range(settings.bootstrap)]
    distances = [wasserstein_distance(each, train) for each in sets]
    return float(np.mean(distances)), *np.percentile(distances, [2.5, 97.5]), n


def find_copied_volumes(
    train: pd.DataFrame, held_out: pd.DataFrame, synthetic: pd.DataFrame, variant: str, settings: Fidelity
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Synthetic volumes that, seen as radiographs, are suspiciously like a training volume; `copies.find_copies`.

    train, held_out, synthetic: what `describe_volumes` returns. Copies are planted among the radiographs. Returns the
    scores of the check with `variant`, and a row a synthetic volume: `variant, image_id, nearest_image_id, agreement,
    suspected`, the likeliest copies first.
    """
    seen, unseen, drawn = map(_radiographs, (train, held_out, synthetic))
    copies = find_copies(seen, unseen, drawn, settings.copy_quantile, settings.seed)
    if copies.leaked:
        log.warning("%s: %d held-out volumes are training volumes: %s", variant, len(copies.leaked), copies.leaked)
    for table in (copies.scores, copies.images):
        table.insert(0, "variant", variant)
    return copies.scores, copies.images


def _radiographs(described: pd.DataFrame) -> ImageSet:
    values = np.array(described["radiograph"].tolist(), np.float32)
    edge = math.isqrt(values.shape[1])
    manifest = described[["volume_id", "patient_id"]].rename(columns={"volume_id": "image_id"})
    return ImageSet(values.reshape(-1, 1, edge, edge), manifest.reset_index(drop=True))
