"""Radiomics: what an image looks like in numbers that no network had to learn; and the Frechet radiomics distance.

Features of the grey values, of pairs (GLCM), runs (GLRLM), zones (GLSZM) and neighbourhoods (NGTDM), as the Image
Biomarker Standardisation Initiative defines them (Zwanenburg et al. 2020) and pyradiomics computes them, over the whole
image. They need no download and no photographs, and work on images as on volumes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np
from scipy.ndimage import convolve
from skimage.measure import label

from scangan.metrics.fidelity import feature_statistics, frechet_distance

BIN_WIDTH = 8  # of grey values from 0 to 255
LEVELS = 32
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


def radiomics(images: Iterable[np.ndarray]) -> np.ndarray:
    """Features [N, len(NAMES)] of images [N, C, H, W] or volumes [N, C, D, H, W] in [0, 1]; channels become grey."""
    return np.stack([_features(255 * image.mean(axis=0, dtype=np.float64)) for image in images])


def standardise(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Features [N, D] with the training images' mean 0 and deviation 1, less those that are all one in these."""
    deviation = train.std(axis=0)
    varied = deviation > 1e-9 * np.abs(train).max(axis=0).clip(1)
    mean, deviation = train.mean(axis=0)[varied], deviation[varied]
    return [(features[:, varied] - mean) / deviation for features in (train, *others)]


def frechet_radiomics_distance(train: np.ndarray, images: np.ndarray) -> float:
    """FRD (Konz et al. 2026): the logarithm of the Frechet distance (squared) of standardised radiomics features.

    Here of the image itself, without the published package's filters (LoG, wavelets), resampling and normalisation.
    NaN where there is no distance, which has no logarithm.
    """
    distance = frechet_distance(*map(feature_statistics, standardise(train, images)))
    return float(np.log(distance)) if distance > 0 else np.nan


def _features(values: np.ndarray) -> np.ndarray:
    """Of grey values from 0 to 255, in two or three dimensions."""
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
    skewness = ((values - mean) ** 3).mean() / variance**1.5 if variance else 0
    kurtosis = ((values - mean) ** 4).mean() / variance**2 if variance else 0
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


def _runs(levels: np.ndarray, step: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Level and length of each run of one level in this direction."""
    step_by = np.array(step)[:, None]
    before, here = _shifted(levels, step)
    begins = np.ones(levels.shape, bool)
    inner = tuple(slice(max(0, by), edge - max(0, -by)) for by, edge in zip(step, levels.shape, strict=True))
    begins[inner] = before != here
    place = np.array(np.nonzero(begins))
    level = levels[tuple(place)]
    length = np.ones(len(level), int)
    going, edges = np.arange(len(level)), np.array(levels.shape)[:, None]
    while len(going):
        place = place + step_by
        on = ((place >= 0) & (place < edges)).all(axis=0)
        place, going = place[:, on], going[on]
        on = levels[tuple(place)] == level[going]
        place, going = place[:, on], going[on]
        length[going] += 1
    return level, length


def _zones(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level and size of each connected zone of one level, corners connect."""
    zones = label(levels, background=0, connectivity=levels.ndim)
    _, first, size = np.unique(zones, return_index=True, return_counts=True)
    return levels.ravel()[first], size


def _size_features(level: np.ndarray, size: np.ndarray, elements: int) -> list[float]:
    """Of runs or zones, of which `level` and `size` say all."""
    count = len(level)
    low, high, short, long = 1 / level**2, level**2, 1 / size**2, size**2
    by_level, by_size = np.bincount(level), np.bincount(size)
    both = np.unique(level * (elements + 1) + size, return_counts=True)[1] / count
    return [
        *(short.mean(), long.mean(), (by_level**2).sum() / count, (by_level**2).sum() / count**2),
        *((by_size**2).sum() / count, (by_size**2).sum() / count**2, count / elements, level.var(), size.var()),
        *(_entropy(both), low.mean(), high.mean(), (short * low).mean(), (short * high).mean()),
        *((long * low).mean(), (long * high).mean()),
    ]


def _neighbourhoods(levels: np.ndarray) -> list[float]:
    around = np.ones((3,) * levels.ndim)
    around[(1,) * levels.ndim] = 0
    neighbours = convolve(np.ones(levels.shape), around, mode="constant")
    difference = np.abs(levels - convolve(levels.astype(float), around, mode="constant") / neighbours)
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
