"""Places and boxes in a volume's voxels: values between them, balls, cubes around a place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scangan.ct.window import AIR
from scangan.errors import DataError

Numbers = Sequence[float] | np.ndarray  # such as a place, or a spacing, along z, y, x

MOST_OUTSIDE = 0.5  # share of a VOI that may lie beyond the scan
DENSE = -500.0  # Hounsfield: brighter voxels of the lungs are vessels, or wall that the mask took in
MOST_DENSE = 0.5  # share of a ball; a denser place is a large vessel or the hilum, where nobody would see a nodule


def sphere(size: int, voi_spacing_mm: float, radius_mm: float) -> np.ndarray:
    """The voxels of a VOI whose centres lie within the radius of its centre: bool [size, size, size]."""
    squares = ((np.arange(size) - (size - 1) / 2) * voi_spacing_mm) ** 2
    return squares[:, None, None] + squares[:, None] + squares <= radius_mm**2


def blank(voi: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """VOIs [..., S, S, S] in HU, with air (-1 to a network) in the mask, bool [S, S, S] or [..., S, S, S]."""
    return np.where(mask, np.float32(AIR), voi)


def sample_box(voxels: np.ndarray, positions: Sequence[np.ndarray], widths: Numbers = (1, 1, 1)) -> np.ndarray:
    """Trilinear values of a volume on a rectangular grid; the edge is repeated beyond the volume.

    voxels: [Z, Y, X]. positions: along z, y, x, in its voxels. widths: of a new voxel along z, y, x, in its voxels:
    above 1, a value is the triangle-weighted mean of what the new voxel covers, as in `volume.resample`.
    Returns float32 [len(z), len(y), len(x)].
    """
    box, weights = [], []
    for length, position, width in zip(voxels.shape, positions, np.maximum(1, widths), strict=True):
        position = np.clip(position, 0, length - 1)
        first = max(0, math.ceil(position.min() - width))
        last = min(length - 1, math.floor(position.max() + width))
        away = np.abs(position[:, None] - np.arange(first, last + 1)) / width
        triangle = np.maximum(0, 1 - away)
        box.append(slice(first, last + 1))
        weights.append((triangle / triangle.sum(1, keepdims=True)).astype(np.float32))
    along_z, along_y, along_x = weights
    # The grid is aligned with the volume, so the axes go one by one: three small matrix products.
    sampled = along_y @ (voxels[tuple(box)].astype(np.float32) @ along_x.T)
    return np.tensordot(along_z, sampled, 1)


def cut_voi(
    hounsfield: np.ndarray,
    spacing_mm_zyx: Numbers,
    centre_voxel_zyx: Numbers,
    size: int,
    voi_spacing_mm: float,
) -> np.ndarray:
    """The VOI around a place in a scan: float32 [size, size, size] in HU, on an isotropic grid.

    hounsfield: [Z, Y, X]. spacing_mm_zyx: its voxels' size along z, y, x. centre_voxel_zyx: the place in its voxels,
    with fractions. Interpolation is trilinear; where the scan is finer than the VOI, with the anti-aliasing that the
    scan store has as well. Beyond the scan is air (-1000).
    Raises DataError if more than half of the VOI lies beyond the scan.
    """
    beyond = outside_share(hounsfield.shape, spacing_mm_zyx, centre_voxel_zyx, size, voi_spacing_mm)
    if beyond > MOST_OUTSIDE:
        place = ", ".join(f"{position:.1f}" for position in centre_voxel_zyx)
        raise DataError(
            f"voi: centre_voxel: found ({place}), {beyond:.0%} of the VOI beyond the scan of "
            f"{' x '.join(map(str, hounsfield.shape))}, allowed: at most {MOST_OUTSIDE:.0%}"
        )
    positions = voi_positions(spacing_mm_zyx, centre_voxel_zyx, size, voi_spacing_mm)
    voi = sample_box(hounsfield, positions, voi_spacing_mm / np.asarray(spacing_mm_zyx))
    inside = _inside(hounsfield.shape, positions)
    voi[~(inside[0][:, None, None] & inside[1][:, None] & inside[2])] = AIR
    return voi


def on_voxels(centre_voxel_zyx: Numbers, spacing_mm_zyx: Numbers, size: int, voi_spacing_mm: float) -> np.ndarray:
    """The place nearest to `centre_voxel_zyx` about which a VOI's voxels are the scan's own, where both are as large.

    Between the voxels a VOI is smoother than the scan, by how far it lies between them: in grain and edges alike.
    Along an axis whose steps differ, the place stays. Arguments as for `cut_voi`; returns [3].
    """
    centre, odd = np.asarray(centre_voxel_zyx, float), (size - 1) / 2 % 1
    return np.where(np.isclose(spacing_mm_zyx, voi_spacing_mm), np.rint(centre - odd) + odd, centre)


def outside_share(
    shape: Numbers,
    spacing_mm_zyx: Numbers,
    centre_voxel_zyx: Numbers,
    size: int,
    voi_spacing_mm: float,
) -> float:
    """The share of a VOI's voxels, 0 to 1, that lie beyond a scan of this shape; the rest as for `cut_voi`."""
    inside = _inside(shape, voi_positions(spacing_mm_zyx, centre_voxel_zyx, size, voi_spacing_mm))
    return float(1 - np.prod([along.mean() for along in inside]))


def voi_positions(
    spacing_mm_zyx: Numbers, centre_voxel_zyx: Numbers, size: int, voi_spacing_mm: float
) -> list[np.ndarray]:
    """Where a VOI's voxels lie along z, y, x, in the scan's voxels: [size] each; arguments as for `cut_voi`."""
    away_mm = (np.arange(size) - (size - 1) / 2) * voi_spacing_mm
    return [place + away_mm / step for place, step in zip(centre_voxel_zyx, spacing_mm_zyx, strict=True)]


def _inside(shape: Numbers, positions: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [(along >= -0.5) & (along <= length - 0.5) for length, along in zip(shape, positions, strict=True)]


def ball(
    shape: Numbers, spacing_mm_zyx: Numbers, centre_voxel_zyx: Numbers, radius_mm: float
) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """A box of a volume, and the distances in mm of its voxels from a place: float64, the box's shape.

    The box holds all voxels of the volume within the radius, and at least the one that holds the place, if any does.
    """
    slices, squares = [], []
    for length, step, place in zip(shape, spacing_mm_zyx, centre_voxel_zyx, strict=True):
        nearest = round(place)
        first = max(0, min(nearest, math.ceil(place - radius_mm / step)))
        last = min(length - 1, max(nearest, math.floor(place + radius_mm / step)))
        slices.append(slice(first, max(first, last + 1)))
        squares.append(((np.arange(first, last + 1) - place) * step) ** 2)
    z, y, x = slices
    return (z, y, x), np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])


def fits(mask: np.ndarray, spacing_mm_zyx: Numbers, centre_voxel_zyx: Numbers, radius_mm: float) -> bool:
    """Whether a ball, and the voxel that holds its centre, lie in a mask: bool [Z, Y, X]. Nothing lies beyond it."""
    centre, reach = np.asarray(centre_voxel_zyx), radius_mm / np.asarray(spacing_mm_zyx)
    if (centre - reach < -0.5).any() or (centre + reach > np.array(mask.shape) - 0.5).any():
        return False
    if not mask[tuple(np.rint(centre).astype(int).clip(0, np.array(mask.shape) - 1))]:
        return False
    box, away = ball(mask.shape, spacing_mm_zyx, centre, radius_mm)
    return bool((mask[box] | (away > radius_mm)).all())


def dense_share(
    lungs: np.ndarray,
    hounsfield: np.ndarray,
    spacing_mm_zyx: Numbers,
    centre_voxel_zyx: Numbers,
    radius_mm: float,
    above: float = DENSE,
) -> float:
    """The share of a ball's voxels in the lungs, 0 to 1, that are brighter than `above` HU; arrays are [Z, Y, X]."""
    box, away_mm = ball(lungs.shape, spacing_mm_zyx, centre_voxel_zyx, radius_mm)
    lung = lungs[box] & (away_mm <= radius_mm)
    # A ball that is smaller than a voxel may hold no voxel's centre.
    return float((hounsfield[box][lung] > above).mean()) if lung.any() else 0.0
