"""Are the slices of synthetic volumes where they should be, and the volumes different from each other?"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter
from skimage.measure import block_reduce

NEAREST = 5  # real slices whose positions are asked for
RANDOM_ORDER = 1 / 3  # of the depth: the mean distance of two random positions
NOT_ORDERED = RANDOM_ORDER / 2
PAIRS = 400  # of volumes that are compared, at most
# Wang, Simoncelli and Bovik 2003; small pictures have the three finest of their five scales.
SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001]) / 0.6305
WINDOW, C1, C2 = 7, 0.01**2, 0.03**2  # of pictures in [0, 1]


def misplacement(strips: np.ndarray, real: np.ndarray) -> np.ndarray:
    """How far slices lie from where real ones look like them, as a share of the depth, mean over a volume's: [N].

    strips: of N volumes, uint8 [N, T, E, E]; real: of the volumes that they are compared with, [M, T, E, E]. Where a
    slice belongs is the median position of the `NEAREST` real slices that differ least from it. In order: near 0; in
    any order: a third.
    """
    slices = strips.shape[1]
    known = real.reshape(len(real) * slices, -1).astype(np.float32) / 255
    lengths, position = (known**2).sum(1), np.tile(np.arange(slices), len(real))
    nearest = min(NEAREST, len(known)) - 1
    found = []
    for strip in strips:
        own = strip.reshape(slices, -1).astype(np.float32) / 255
        differences = lengths - 2 * own @ known.T
        alike = np.argpartition(differences, nearest, axis=1)[:, : nearest + 1]
        found.append(np.abs(np.median(position[alike], axis=1) - np.arange(slices)).mean() / slices)
    return np.array(found)


def ms_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Multi-scale structural similarity of two pictures in [0, 1], [E, E], at three scales; 1 for the same."""
    value = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        luminance, contrast = _ssim(one, other)
        last = scale == len(SCALE_WEIGHTS) - 1
        value *= max(contrast * luminance if last else contrast, 0.0) ** weight
        one, other = block_reduce(one, 2, np.mean), block_reduce(other, 2, np.mean)
    return float(value)


def _ssim(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Luminance, and contrast with structure, means over all windows."""
    window = min(WINDOW, *one.shape)

    def mean(values: np.ndarray) -> np.ndarray:
        return uniform_filter(values.astype(np.float64), window)

    first, second = mean(one), mean(other)
    variances = mean(one**2) - first**2 + mean(other**2) - second**2
    covariance = mean(one * other) - first * second
    luminance = (2 * first * second + C1) / (first**2 + second**2 + C1)
    return float(luminance.mean()), float(((2 * covariance + C2) / (variances + C2)).mean())


def pair_similarities(pictures: np.ndarray, patients: np.ndarray, seed: int) -> np.ndarray:
    """`ms_ssim` of random pairs of pictures, [N, E, E], of different patients, [N]; at most `PAIRS`, each pair once."""
    first, second = np.triu_indices(len(pictures), 1)
    apart = patients[first] != patients[second]
    pairs = np.column_stack([first, second])[apart]
    if len(pairs) > PAIRS:
        pairs = np.random.default_rng([seed, 10]).choice(pairs, PAIRS, replace=False)
    return np.array([ms_ssim(pictures[a], pictures[b]) for a, b in pairs])
