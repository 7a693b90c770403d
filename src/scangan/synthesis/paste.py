"""A place of a scan filled anew: a VOI is cut and filled, and what the filling changed is put on the scan's own grid.

Only the difference is brought to the scan, so that what a VOI cannot hold, such as the scan's own grain, stays, and a
filling that changes nothing changes not one voxel. Beyond the margin none changes at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from scangan.config import VoiCut
from scangan.ct.grids import Numbers, ball, cut_voi, sample_box, voi_positions
from scangan.errors import DataError

# After one an erased nodule of 850 HU, blurred by 0.8 mm, leaves a shell of up to 180 HU, after three of 65; after many
# more, what is made anew rings.
PASSES = 3

# (vois float32 [N, S, S, S] in HU, radii_mm [N], seeds [N]) -> [N, S, S, S] in HU
Fill = Callable[[np.ndarray, Sequence[float], Sequence[int]], np.ndarray]


def fill_place(
    hounsfield: np.ndarray,
    spacing_mm_zyx: Numbers,
    centre_voxel_zyx: Numbers,
    radius_mm: float,
    fill: Fill,
    seed: int,
    voi: VoiCut,
    limits: tuple[int, int],
) -> int:
    """Cut the VOI around a place of a scan, int16 [Z, Y, X], fill it and paste it back in place: the way of every edit.

    The rest as for `cut_voi` and `paste_into`, which says what is raised. Returns how many voxels changed.
    """
    before = cut_voi(hounsfield, spacing_mm_zyx, centre_voxel_zyx, voi.size, voi.spacing_mm)
    [after] = fill(before[None], [radius_mm], [seed])
    box, _ = ball(hounsfield.shape, spacing_mm_zyx, centre_voxel_zyx, radius_mm + voi.margin_mm)
    old = hounsfield[box].copy()
    grid = spacing_mm_zyx, centre_voxel_zyx
    paste_into(hounsfield, *grid, before, after, voi.spacing_mm, radius_mm, voi.margin_mm, limits)
    return int((hounsfield[box] != old).sum())


def paste(
    hounsfield: np.ndarray,
    spacing_mm_zyx: Numbers,
    centre_voxel_zyx: Numbers,
    before: np.ndarray,
    after: np.ndarray,
    voi_spacing_mm: float,
    radius_mm: float,
    margin_mm: float,
) -> np.ndarray:
    """A copy of a scan, int16 [Z, Y, X], with a filled VOI pasted into it; see `paste_into`."""
    pasted = hounsfield.copy()
    paste_into(pasted, spacing_mm_zyx, centre_voxel_zyx, before, after, voi_spacing_mm, radius_mm, margin_mm)
    return pasted


def paste_into(
    hounsfield: np.ndarray,
    spacing_mm_zyx: Numbers,
    centre_voxel_zyx: Numbers,
    before: np.ndarray,
    after: np.ndarray,
    voi_spacing_mm: float,
    radius_mm: float,
    margin_mm: float,
    limits: tuple[int, int] | None = None,
) -> None:
    """Add to a scan, in place, what the filling of a VOI changed.

    hounsfield: int16 [Z, Y, X]. spacing_mm_zyx: its voxels' size along z, y, x. centre_voxel_zyx: where the VOI's
    centre lies, in its voxels, with fractions. before, after: the VOI as `cut_voi` cut it and as it was filled,
    [S, S, S] in HU, isotropic.

    The change is such that the VOI, cut again, would hold what was filled; what no VOI can hold stays as it is. Its
    weight is 1 within the radius and the margin's inner half, which the lobes of a nodule reach, falls as a cosine over
    the outer half, and is 0 from there on, where nothing changes.
    limits: of the values that are written; None: the scan's own least and greatest, looked for in the whole scan.
    Raises DataError if the centre lies beyond the scan, if radius and margin reach beyond the VOI, and if a VOI holds
    NaN or infinity.
    """
    centre, spacing, size = np.asarray(centre_voxel_zyx, float), np.asarray(spacing_mm_zyx, float), len(after)
    if not ((centre >= -0.5) & (centre <= np.array(hounsfield.shape) - 0.5)).all():
        found = ", ".join(f"{position:.1f}" for position in centre)
        shape = " x ".join(map(str, hounsfield.shape))
        raise DataError(f"paste: centre_voxel: found ({found}), allowed: a place in the scan of {shape}")
    reach = radius_mm + margin_mm
    if not (radius_mm > 0 and margin_mm > 0 and reach <= size * voi_spacing_mm / 2):
        raise DataError(
            f"paste: radius_mm, margin_mm: found {radius_mm:g}, {margin_mm:g}, "
            f"allowed: above 0, and {size * voi_spacing_mm / 2:g} together"
        )
    difference = np.asarray(after, np.float32) - np.asarray(before, np.float32)
    if not np.isfinite(difference).all():
        raise DataError("paste: voi: found NaN or infinity, allowed: Hounsfield units")
    around = reach + 2 * voi_spacing_mm
    box, away_mm = ball(hounsfield.shape, spacing, centre, around)
    weight = 0.5 + 0.5 * np.cos(np.pi * (2 * (away_mm - radius_mm) / margin_mm - 1).clip(0, 1))
    first = max(0, math.floor((size - 1) / 2 - around / voi_spacing_mm))
    difference = difference[(slice(first, size - first),) * 3]
    place = centre - [along.start for along in box]
    change = _to_grid(difference, spacing, place, away_mm.shape, voi_spacing_mm)
    low, high = limits or (hounsfield.min(), hounsfield.max())
    old = hounsfield[box]
    new = np.rint(old + weight * change).clip(low, high)
    np.copyto(old, new, casting="unsafe", where=(away_mm < reach) & (change != 0))


def _to_grid(
    difference: np.ndarray, spacing: np.ndarray, centre: np.ndarray, shape: tuple[int, ...], voi_spacing_mm: float
) -> np.ndarray:
    """What to add to a box of a scan, [Z, Y, X], for a VOI around `centre` (in the box's voxels) to differ so.

    Interpolation smooths on the way there and on the way back, so it is asked again for what is missing (van Cittert).
    """
    size, ratio = len(difference), voi_spacing_mm / spacing
    of_voi = voi_positions(spacing, centre, size, voi_spacing_mm)
    of_box = [
        (np.arange(length) - place) / each + (size - 1) / 2
        for length, place, each in zip(shape, centre, ratio, strict=True)
    ]
    change, missing = np.zeros(shape, np.float32), difference
    for _ in range(PASSES):
        change += sample_box(missing, of_box, 1 / ratio)
        missing = difference - sample_box(change, of_voi, ratio)
    return change
