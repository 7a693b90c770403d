"""The grain of a scan: its noise, told from what it shows, and more of the same where something else was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import binary_dilation, convolve1d, gaussian_filter

from scangan.ct.grids import Numbers, ball

COARSEST_MM = 2.5  # deviation of the Gaussian that leaves no grain: reconstruction makes lumps of a millimetre or two
LEAST_COARSEST = 1.0  # voxels, of the same: less leaves the noise of large voxels
MOST_SIGMAS = 3.0  # of the noise; what differs more is a vessel, or the edge of something
CORE = 0.7  # of a ball's radius: its surface is an edge
LEAST_VOXELS = 10  # whose deviation says something
QUARTER = 0.3186  # of normal noise, a quarter lies within so many deviations: edges may fill more than half of a VOI


@dataclass(frozen=True)
class Grain:
    """The grain of a VOI, float32 [S, S, S] in HU as it is.

    own: what a Gaussian takes away; 0 wherever that is more than noise, or next to it. is_own: bool, where it is not.
    """

    own: np.ndarray
    is_own: np.ndarray

    @staticmethod
    def of(voi: np.ndarray, voi_spacing_mm: float) -> Grain:
        """Noise is told by its size: within three standard deviations, by the smallest quarter of the values."""
        voi = np.asarray(voi, np.float32)
        fine = voi - gaussian_filter(voi, max(COARSEST_MM / voi_spacing_mm, LEAST_COARSEST))
        scanned = np.abs(fine[np.abs(fine) > 1])  # a VOI may lie half beyond its scan, where there is none
        most = float(MOST_SIGMAS / QUARTER * np.quantile(scanned, 0.25)) if scanned.size else 0.0
        is_own = ~binary_dilation(np.abs(fine) > most)
        return Grain(np.where(is_own, fine, np.float32(0)), is_own)

    def draw(self, seed: int) -> np.ndarray:
        """More grain of the same deviation and spectrum: float32 [S, S, S]."""
        if not self.is_own.any():
            return np.zeros_like(self.own)
        white = np.random.default_rng(seed).standard_normal(self.own.shape).astype(np.float32)
        spectrum = fft.rfftn(white)  # SciPy's keeps single precision, NumPy's does not
        spectrum *= np.abs(fft.rfftn(self.own)) / np.abs(spectrum)
        spectrum[0, 0, 0] = 0  # grain makes nothing brighter
        drawn = fft.irfftn(spectrum, self.own.shape)
        return (drawn * (self.own[self.is_own].std() / max(drawn.std(), 1e-9))).astype(np.float32)

    def draw_over(self, replaced: np.ndarray, seed: int) -> np.ndarray:
        """More grain, [S, S, S], for a VOI of which a share of each voxel, 0 to 1, was replaced by what has none."""
        return made_up(replaced) * self.draw(seed)


def made_up(replaced: np.ndarray) -> np.ndarray:
    """How much of drawn grain, beside what is left of a voxel's own, 1 - replaced, makes as much as there was."""
    return np.sqrt(replaced * (2 - replaced))


def without_grain(vois: np.ndarray, voi_spacing_mm: float) -> np.ndarray:
    """VOIs, [N, S, S, S] in HU, less their own grain: float32, alike."""
    smooth = np.array(vois, np.float32)
    for voi in smooth:
        voi -= Grain.of(voi, voi_spacing_mm).own
    return smooth


def grain_ratio(
    hounsfield: np.ndarray, spacing_mm_zyx: Numbers, centre_voxel_zyx: Numbers, radius_mm: float, margin_mm: float
) -> float:
    """The grain in the core of a ball of a scan, int16 [Z, Y, X], as a multiple of that in a shell around.

    The core is the ball of `CORE` of the radius, the shell lies between `margin_mm` and twice as far from the ball.
    Grain is the mean of the least of the three axes' second differences: an edge is steep along one axis and flat
    along another, so that it hardly counts, where a high-pass takes edges for grain. NaN where either has too few
    voxels, or the shell has no grain.
    """
    box, away_mm = ball(hounsfield.shape, spacing_mm_zyx, centre_voxel_zyx, radius_mm + 2 * margin_mm)
    values = hounsfield[box].astype(np.float32)
    fine = np.min([np.abs(convolve1d(values, (1, -2, 1), axis, mode="nearest")) for axis in range(3)], axis=0)
    core, shell = fine[away_mm <= CORE * radius_mm], fine[away_mm > radius_mm + margin_mm]
    if min(core.size, shell.size) < LEAST_VOXELS or not (around := shell.mean()):
        return float("nan")
    return float(core.mean() / around)
