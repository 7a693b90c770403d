"""The grain of a scan: its noise, told from what it shows, and more of the same where something else was."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import fft
from scipy.ndimage import (
    binary_dilation,
    convolve1d,
    gaussian_filter,
    maximum_filter,
    minimum_filter,
    uniform_filter,
)

from scangan.ct.grids import Numbers, ball

COARSEST_MM = 2.5  # deviation of the Gaussian that leaves no grain: reconstruction makes lumps of a millimetre or two
LEAST_COARSEST = 1.0  # voxels, of the same: less leaves the noise of large voxels
PATCH_MM = 5.0  # edge of the cubes of which the quietest show noise alone: small vessels are everywhere in a lung
LEAST_PATCH = 3  # voxels, of the same
QUIETEST, QUIET = 0.05, 1.25  # share of the cubes; and how much louder than these others may be that are quiet as well
EVEN = 2.0  # where half of all cubes are no louder than this, as a multiple of the quietest, all of it is noise
MOST_SIGMAS = 3.0  # of the noise; what differs more is a vessel, or the edge of something
LAGS = 6  # voxels, over which grain hangs together
CORE = 0.7  # of a ball's radius: its surface is an edge
LEAST_VOXELS = 10  # whose deviation says something


@dataclass(frozen=True)
class Grain:
    """The grain of a VOI, float32 [S, S, S] in HU as it is.

    fine: what a Gaussian takes away. is_own: bool, where that is noise, and not next to anything else. quiet: bool,
    where noise is all that there is. deviation: of the noise, HU.
    """

    fine: np.ndarray
    is_own: np.ndarray
    quiet: np.ndarray
    deviation: float

    @staticmethod
    def of(voi: np.ndarray, voi_spacing_mm: float) -> Grain:
        """Noise is what the quietest cubes of a VOI hold; within three of its deviations a voxel shows nothing else."""
        voi = np.asarray(voi, np.float32)
        fine = voi - gaussian_filter(voi, max(COARSEST_MM / voi_spacing_mm, LEAST_COARSEST))
        # A VOI may lie half beyond its scan, where its values are all the same.
        flat = maximum_filter(voi, 3) == minimum_filter(voi, 3)
        quiet, deviation = _quiet(fine, ~binary_dilation(flat, np.ones((3, 3, 3))), voi_spacing_mm)
        is_own = ~binary_dilation(np.abs(fine) > MOST_SIGMAS * deviation)
        return Grain(fine, is_own, quiet, deviation)

    @cached_property
    def own(self) -> np.ndarray:
        """The fine part where it is noise, 0 elsewhere."""
        return np.where(self.is_own, self.fine, np.float32(0))

    @cached_property
    def power(self) -> np.ndarray:
        """Of each frequency of the noise, as of `rfftn`: [S, S, S // 2 + 1]."""
        return _power(self.fine, self.quiet)

    def draw(self, seed: int) -> np.ndarray:
        """More grain of the same deviation and spectrum: float32 [S, S, S]."""
        if not self.deviation:
            return np.zeros_like(self.fine)
        white = np.random.default_rng(seed).standard_normal(self.fine.shape).astype(np.float32)
        spectrum = fft.rfftn(white)  # SciPy's keeps single precision, NumPy's does not
        spectrum *= np.sqrt(self.power)
        spectrum[0, 0, 0] = 0  # grain makes nothing brighter
        drawn = fft.irfftn(spectrum, self.fine.shape)
        return (drawn * (self.deviation / max(drawn.std(), 1e-9))).astype(np.float32)

    def draw_over(self, replaced: np.ndarray, seed: int) -> np.ndarray:
        """More grain, [S, S, S], for a VOI of which a share of each voxel, 0 to 1, was replaced by what has none."""
        return made_up(replaced) * self.draw(seed)


def _quiet(fine: np.ndarray, scanned: np.ndarray, voi_spacing_mm: float) -> tuple[np.ndarray, float]:
    """Where a VOI's fine part is noise alone, bool [S, S, S], and the deviation of that; 0 if there is none."""
    patch = max(LEAST_PATCH, 2 * int(PATCH_MM / voi_spacing_mm / 2) + 1)
    share = uniform_filter(scanned.astype(np.float32), patch)
    variance = uniform_filter(np.where(scanned, fine * fine, np.float32(0)), patch) / share.clip(min=0.5)
    known = (share > 0.5) & np.isfinite(variance)
    if not known.any():
        return known, 0.0
    quietest, middle = np.quantile(variance[known], (QUIETEST, 0.5))
    quiet = known & (variance <= QUIET**2 * (middle if middle <= EVEN**2 * quietest else quietest))
    return quiet, float(np.sqrt(variance[quiet].mean()))


def _power(fine: np.ndarray, quiet: np.ndarray) -> np.ndarray:
    """Of each frequency of the noise: float32, as `rfftn`'s; from how quiet voxels, bool [S, S, S], hang together."""
    assert min(fine.shape) > 2 * LAGS, f"voi: found {fine.shape}, allowed: edges of {2 * LAGS + 1} voxels and more"
    if not quiet.any():
        return np.zeros((*fine.shape[:-1], fine.shape[-1] // 2 + 1), np.float32)
    shape = [fft.next_fast_len(size + LAGS, real=True) for size in fine.shape]  # beyond the end nothing joins the start
    noise, weight = (np.where(quiet, values, np.float32(0)) for values in (fine, np.float32(1)))
    products, pairs = (fft.irfftn(np.abs(fft.rfftn(each, shape)) ** 2, shape) for each in (noise, weight))
    lags = np.r_[: LAGS + 1, -LAGS:0]
    near, place = (np.ix_(*(lags % size for size in sizes)) for sizes in (shape, fine.shape))
    # Whole for half of the lags, for what is tapered there makes the spectrum flatter; further on pairs are few.
    taper = np.cos(np.pi / 2 * (2 * np.abs(lags) / (LAGS + 1) - 1).clip(min=0)) ** 2
    covariance = np.zeros(fine.shape, np.float32)
    covariance[place] = products[near] / pairs[near].clip(min=1) * taper[:, None, None] * taper[:, None] * taper
    return np.asarray(fft.rfftn(covariance).real.clip(min=0))


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
