"""Volumes of interest put back into a scan: on the scan's own grid, blended, and not one voxel changed beyond."""

from __future__ import annotations

import numpy as np

from scangan.ct.grids import Numbers, ball, sample_box
from scangan.errors import DataError


def paste(
    hounsfield: np.ndarray,
    spacing_mm_zyx: Numbers,
    centre_voxel_zyx: Numbers,
    voi: np.ndarray,
    voi_spacing_mm: float,
    radius_mm: float,
    margin_mm: float,
) -> np.ndarray:
    """A copy of a scan, int16 [Z, Y, X], with a VOI pasted into it; see `paste_into`."""
    pasted = hounsfield.copy()
    paste_into(pasted, spacing_mm_zyx, centre_voxel_zyx, voi, voi_spacing_mm, radius_mm, margin_mm)
    return pasted


def paste_into(
    hounsfield: np.ndarray,
    spacing_mm_zyx: Numbers,
    centre_voxel_zyx: Numbers,
    voi: np.ndarray,
    voi_spacing_mm: float,
    radius_mm: float,
    margin_mm: float,
    limits: tuple[int, int] | None = None,
) -> None:
    """Paste a VOI into a scan, in place.

    hounsfield: int16 [Z, Y, X]. spacing_mm_zyx: its voxels' size along z, y, x. centre_voxel_zyx: where the VOI's
    centre goes, in its voxels, with fractions. voi: [S, S, S] in HU, isotropic.

    The VOI is brought to the scan's grid linearly; where the scan is the coarser one, with anti-aliasing. Its weight is
    1 within the radius, falls as a cosine over the margin, and is 0 from there on, where nothing changes. limits: of
    the values that are written; None: the scan's own least and greatest, looked for in the whole scan.
    Raises DataError if the centre lies beyond the scan, if radius and margin reach beyond the VOI, and if the VOI holds
    NaN or infinity.
    """
    centre, spacing, size = np.asarray(centre_voxel_zyx, float), np.asarray(spacing_mm_zyx, float), len(voi)
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
    if not np.isfinite(voi).all():
        raise DataError("paste: voi: found NaN or infinity, allowed: Hounsfield units")
    box, away_mm = ball(hounsfield.shape, spacing, centre, reach)
    weight = 0.5 + 0.5 * np.cos(np.pi * ((away_mm - radius_mm) / margin_mm).clip(0, 1))
    positions = [
        (np.arange(along.start, along.stop) - place) * step / voi_spacing_mm + (size - 1) / 2
        for along, place, step in zip(box, centre, spacing, strict=True)
    ]
    new = sample_box(voi, positions, spacing / voi_spacing_mm)
    low, high = limits or (hounsfield.min(), hounsfield.max())
    old = hounsfield[box]
    blended = np.rint(old + weight * (new - old)).clip(low, high)
    np.copyto(old, blended, casting="unsafe", where=away_mm < reach)
