"""Radiomics: what an image looks like in numbers that no network had to learn; and the Frechet radiomics distance.

Features of the grey values, of pairs (GLCM), runs (GLRLM), zones (GLSZM) and neighbourhoods (NGTDM), as the Image
Biomarker Standardisation Initiative defines them (Zwanenburg et al. 2020) and pyradiomics computes them, over the whole
image. They need no download and no photographs, and work on images as on volumes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import product

import numpy as np
from skimage.measure import label

from scangan.data.store import StoredImages
from scangan.metrics.frechet import feature_statistics, frechet_distance

AT_ONCE = 256  # images that are read at once
BIN_WIDTH = 8  # of grey values from 0 to 255
LEVELS = 32
# Some features have no bound: the coarseness of an image of one grey lies 10^9 deviations off, and a few such images
# among flat ones made the mean distance of these to each other as large as that to real ones.
MOST_DEVIATIONS = 10.0
TINY = np.spacing(1)  # added to what a logarithm is taken of, as in pyradiomics
FIRST_ORDER = (
    "energy total_energy entropy minimum percentile_10 percentile_90 maximum mean median interquartile_range range "
    "mean_absolute_deviation robust_mean_absolute_deviation root_mean_squared skewness kurtosis variance uniformity"
).split()
PAIRS = (
    "autocorrelation joint_average cluster_prominence cluster_shade cluster_tendency contrast correlation "
    "difference_average difference_entropy difference_variance joint_energy joint_entropy imc1 imc2 idm idmn id idn "
    "inverse_variance maximum_probability sum_entropy sum_squares"
).split()
SIZES = (
    "short_emphasis long_emphasis level_non_uniformity level_non_uniformity_normalised size_non_uniformity "
    "size_non_uniformity_normalised percentage level_variance size_variance entropy low_level_emphasis "
    "high_level_emphasis short_low_level_emphasis short_high_level_emphasis long_low_level_emphasis "
    "long_high_level_emphasis"
).split()
NEIGHBOURHOODS = "coarseness contrast busyness complexity strength".split()
NAMES = [
    f"{group}_{name}"
    for group, names in {
        "first_order": FIRST_ORDER,
        "pairs": PAIRS,
        "runs": SIZES,
        "zones": SIZES,
        "neighbourhoods": NEIGHBOURHOODS,
    }.items()
    for name in names
]


def radiomics(images: np.ndarray | StoredImages, threads: int = 1) -> np.ndarray:
    """Features [N, len(NAMES)] of images [N, C, H, W] or volumes [N, C, D, H, W] in [0, 1]; channels become grey."""
    with ThreadPoolExecutor(threads) as pool:
        parts = (images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE))
        return np.stack([features for part in parts for features in pool.map(_features_of, part)])


def standardise(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Features [N, D] with the training images' mean 0 and deviation 1, less those that are all one in these."""
    deviation = train.std(axis=0)
    varied = deviation > 1e-9 * np.abs(train).max(axis=0).clip(1)
    mean, deviation = train.mean(axis=0)[varied], deviation[varied]
    return [(features[:, varied] - mean) / deviation for features in (train, *others)]


def standardise_within_bounds(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """As `standardise`, no feature farther from 0 than MOST_DEVIATIONS: for means of distances."""
    return [features.clip(-MOST_DEVIATIONS, MOST_DEVIATIONS) for features in standardise(train, *others)]


def frechet_radiomics_distance(train: np.ndarray, images: np.ndarray) -> float:
    """FRD (Konz et al. 2026): the logarithm of the Frechet distance (squared) of standardised radiomics features.

    Here of the image itself, without the published package's filters (LoG, wavelets), resampling and normalisation.
    NaN where there is no distance, which has no logarithm.
    """
    distance = frechet_distance(*map(feature_statistics, standardise(train, images)))
    return float(np.log(distance)) if distance > 0 else np.nan


def _features_of(image: np.ndarray) -> np.ndarray:
    """Of one image [C, H, W] or volume [C, D, H, W]."""
    values = 255 * image.mean(axis=0, dtype=np.float64)  # grey, from 0 to 255
    # What lies on an edge to rounding errors belongs above it.
    levels = np.floor(values / BIN_WIDTH + 1e-6).astype(int) + 1
    # Of every pair of opposite directions one.
    directions = [step for step in product((-1, 0, 1), repeat=values.ndim) if step > (0,) * values.ndim]
    pairs = np.stack([_pair_features(_pairs(levels, step)) for step in directions]).mean(axis=0)
    runs = np.stack([_size_features(*_runs(levels, step), levels.size) for step in directions]).mean(axis=0)
    zones = _size_features(*_zones(levels), levels.size)
    return np.concatenate([_first_order(values, levels), pairs, runs, zones, _neighbourhoods(levels)])


def _first_order(values: np.ndarray, levels: np.ndarray) -> list[float]:
    share = np.bincount(levels.ravel()) / levels.size
    low, quarter, three_quarters, high = np.percentile(values, [10, 25, 75, 90])
    mean, variance = values.mean(), values.var()
    deviation = np.abs(values - mean)
    robust = values[(values >= low) & (values <= high)]
    square = deviation**2
    skewness = (square * (values - mean)).mean() / variance**1.5 if variance else 0
    kurtosis = (square**2).mean() / variance**2 if variance else 0
    energy = (values**2).sum()
    return [
        *(energy, energy, _entropy(share), values.min(), low, high, values.max(), mean, np.median(values)),
        *(three_quarters - quarter, np.ptp(values), deviation.mean(), np.abs(robust - robust.mean()).mean()),
        *(np.sqrt(energy / values.size), skewness, kurtosis, variance, (share**2).sum()),
    ]


def _shifted(levels: np.ndarray, step: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Each element that has a neighbour in this direction, and that neighbour."""
    here = tuple(slice(max(0, -by), edge - max(0, by)) for by, edge in zip(step, levels.shape, strict=True))
    there = tuple(slice(max(0, by), edge - max(0, -by)) for by, edge in zip(step, levels.shape, strict=True))
    return levels[here], levels[there]


def _pairs(levels: np.ndarray, step: tuple[int, ...]) -> np.ndarray:
    """The share of each pair of neighbouring levels, whichever comes first: [LEVELS, LEVELS]."""
    first, second = _shifted(levels - 1, step)
    counts = np.bincount((first * LEVELS + second).ravel(), minlength=LEVELS**2).reshape(LEVELS, LEVELS)
    return (counts + counts.T) / (2 * first.size)


def _pair_features(p: np.ndarray) -> list[float]:
    level = np.arange(1.0, LEVELS + 1)
    i, j = level[:, None], level
    single = p.sum(axis=1)
    mean = single @ level
    variance = single @ (level - mean) ** 2
    gap = np.abs(i - j).astype(int)
    differences = np.bincount(gap.ravel(), p.ravel())
    sums = np.bincount((i + j).astype(int).ravel(), p.ravel())
    k = np.arange(LEVELS)
    difference = differences @ k
    independent = single[:, None] * single
    joint, own = _entropy(p), _entropy(single)
    crossed = -(p * np.log2(independent + TINY)).sum()
    surplus = _entropy(independent) - joint
    beyond = i + j - 2 * mean
    return [
        *((i * j * p).sum(), mean, (beyond**4 * p).sum(), (beyond**3 * p).sum(), (beyond**2 * p).sum()),
        *(differences @ k**2, ((i * j * p).sum() - mean**2) / variance if variance > 1e-12 else 1.0),
        *(difference, _entropy(differences), differences @ (k - difference) ** 2, (p**2).sum(), joint),
        *((joint - crossed) / own if own > 1e-12 else 0.0, np.sqrt(max(0.0, 1 - np.exp(-2 * surplus)))),
        *(differences @ (1 / (1 + k**2)), differences @ (1 / (1 + k**2 / LEVELS**2))),
        *(differences @ (1 / (1 + k)), differences @ (1 / (1 + k / LEVELS)), differences[1:] @ (1 / k[1:] ** 2)),
        *(p.max(), _entropy(sums), variance),
    ]


@lru_cache(maxsize=16)
def _lines(shape: tuple[int, ...], step: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where each element lies, line by line in this direction, as flat indices; and which of them begin a line."""
    place = np.indices(shape).reshape(len(shape), -1)
    edges = np.array(shape)[:, None]
    to_the_edge = [at if by > 0 else edge - 1 - at for at, by, edge in zip(place, step, edges, strict=True) if by]
    behind = np.min(to_the_edge, axis=0)  # so many elements of the line
    first = np.ravel_multi_index(tuple(place - behind * np.array(step)[:, None]), shape)
    order = np.lexsort((behind, first))
    return order, behind[order] == 0


def _runs(levels: np.ndarray, step: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Level and length of each run of one level in this direction."""
    order, begins = _lines(levels.shape, step)
    along = levels.ravel()[order]
    begins = begins.copy()
    begins[1:] |= along[1:] != along[:-1]
    first = np.flatnonzero(begins)
    return along[first], np.diff(first, append=along.size)


def _zones(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level and size of each connected zone of one level, corners connect."""
    zones = label(levels, background=0, connectivity=levels.ndim).ravel()
    size = np.bincount(zones)[1:]
    level = np.empty(len(size), int)
    level[zones - 1] = levels.ravel()  # the same for all of a zone
    return level, size


def _size_features(level: np.ndarray, size: np.ndarray, elements: int) -> list[float]:
    """Of runs or zones, of which `level` and `size` say all."""
    count = len(level)
    # Most are like others: each kind once, with its share of all.
    kinds, number = np.unique(level * (elements + 1) + size, return_counts=True)
    level, size = np.divmod(kinds, elements + 1)
    share = number / count
    low, high, short, long = 1 / level**2, level**2, 1 / size**2, size**2
    by_level, by_size = np.bincount(level, number), np.bincount(size, number)
    level_variance, size_variance = (share @ (values - share @ values) ** 2 for values in (level, size))
    return [
        *(share @ short, share @ long, (by_level**2).sum() / count, (by_level**2).sum() / count**2),
        *((by_size**2).sum() / count, (by_size**2).sum() / count**2, count / elements, level_variance, size_variance),
        *(_entropy(share), share @ low, share @ high, share @ (short * low), share @ (short * high)),
        *(share @ (long * low), share @ (long * high)),
    ]


def _around(values: np.ndarray) -> np.ndarray:
    """The sum of the neighbours of each element, corners included."""
    total = values
    for axis in range(values.ndim):
        padded = np.pad(total, [(int(each == axis),) * 2 for each in range(values.ndim)])
        parts = [np.take(padded, range(first, first + values.shape[axis]), axis) for first in range(3)]
        total = parts[0] + parts[1] + parts[2]
    return total - values


def _neighbourhoods(levels: np.ndarray) -> list[float]:
    difference = np.abs(levels - _around(levels) / _around(np.ones_like(levels)))
    counts = np.bincount(levels.ravel())
    level = np.flatnonzero(counts)
    p, s = counts[level] / levels.size, np.bincount(levels.ravel(), difference.ravel())[level]
    gap = np.abs(level[:, None] - level)
    spread = np.abs(level[:, None] * p[:, None] - level * p).sum()
    pair = p[:, None] + p
    count = len(level)
    return [
        1 / (p @ s) if p @ s else 1e6,
        (p @ gap**2 @ p) / (count * (count - 1)) * s.sum() / levels.size if count > 1 else 0.0,
        p @ s / spread if spread else 0.0,
        (gap * ((p * s)[:, None] + p * s) / pair).sum() / levels.size,
        (pair * gap**2).sum() / s.sum() if s.sum() else 0.0,
    ]


def _entropy(share: np.ndarray) -> float:
    return float(-(share * np.log2(share + TINY)).sum())
