"""The grain of a scan: its noise, told from what it shows, and more of the same where something else was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.stats import median_abs_deviation

from scangan.ct.grids import Numbers, ball

COARSEST_MM = (
    2.5  # deviation of the Gaussian that leaves no grain; reconstruction makes lumps of one or two millimetres
)
MOST_SIGMAS = 3.0  # of the noise; what differs more is a vessel, or the edge of something
LEAST_VOXELS = 10  # whose deviation says something
QUARTER = 0.3186  # of normal noise, a quarter lies within so many deviations: edges may fill more than half of a VOI


@dataclass(frozen=True)
class Grain:
    """The grain of a VOI, float32 [S, S, S] in HU as it is.

    own: what a Gaussian takes away; 0 wherever that is more than noise, or next to it. is_own: bool, where it is not.
    most: the greatest that noise is taken to be.
    """

    own: np.ndarray
    is_own: np.ndarray
    most: float

    @staticmethod
    def of(voi: np.ndarray, voi_spacing_mm: float) -> Grain:
        """Noise is told by its size: within three standard deviations, by the smallest quarter of the values."""
        voi = np.asarray(voi, np.float32)
        fine = voi - gaussian_filter(voi, COARSEST_MM / voi_spacing_mm)
        scanned = np.abs(fine[np.abs(fine) > 1])  # a VOI may lie half beyond its scan, where there is none
        most = float(MOST_SIGMAS / QUARTER * np.quantile(scanned, 0.25)) if scanned.size else 0.0
        is_own = ~binary_dilation(np.abs(fine) > most)
        return Grain(np.where(is_own, fine, np.float32(0)), is_own, most)

    def draw(self, seed: int) -> np.ndarray:
        """More grain of the same deviation and spectrum: float32 [S, S, S]."""
        if not self.is_own.any():
            return np.zeros_like(self.own)
        white = np.random.default_rng(seed).standard_normal(self.own.shape)
        spectrum = np.fft.rfftn(white)
        spectrum *= np.abs(np.fft.rfftn(self.own)) / np.abs(spectrum)
        drawn = np.fft.irfftn(spectrum, self.own.shape, axes=(0, 1, 2))
        return (drawn * (self.own[self.is_own].std() / max(drawn.std(), 1e-9))).astype(np.float32)

    def added_to(self, made: np.ndarray, shown: np.ndarray, seed: int) -> np.ndarray:
        """What was made of the VOI without its own grain, `shown`, with grain: both float [S, S, S] in HU.

        The place's own grain is back where it was taken; elsewhere some is drawn, as far as more changed than noise.
        """
        changed = np.abs(made - shown) / max(self.most, 1e-9)
        return made + np.where(self.is_own, self.own, changed.clip(max=1) * self.draw(seed))


def without_grain(vois: np.ndarray, voi_spacing_mm: float) -> np.ndarray:
    """VOIs, [N, S, S, S] in HU, less their own grain: float32, alike."""
    smooth = np.array(vois, np.float32)
    for voi in smooth:
        voi -= Grain.of(voi, voi_spacing_mm).own
    return smooth


def grain_ratio(
    hounsfield: np.ndarray, spacing_mm_zyx: Numbers, centre_voxel_zyx: Numbers, radius_mm: float, margin_mm: float
) -> float:
    """The grain within a ball of a scan, int16 [Z, Y, X], as a multiple of that in a shell around.

    The shell lies between `margin_mm` and twice as far from the ball. Grain is the median absolute deviation of what a
    Gaussian of one voxel takes away. NaN where either has too few voxels, or the shell has no grain.
    """
    box, away_mm = ball(hounsfield.shape, spacing_mm_zyx, centre_voxel_zyx, radius_mm + 2 * margin_mm)
    values = hounsfield[box].astype(np.float32)
    fine = values - gaussian_filter(values, 1)
    inside, shell = fine[away_mm <= radius_mm], fine[away_mm > radius_mm + margin_mm]
    if min(inside.size, shell.size) < LEAST_VOXELS or not (around := median_abs_deviation(shell)):
        return float("nan")
    return float(median_abs_deviation(inside) / around)
