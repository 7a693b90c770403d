"""CT volumes in the patient's frame: isotropic resampling with anti-aliasing.

The frame is LPS (x to the patient's left, y to the back, z to the head) in mm, as in DICOM and SimpleITK.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import grid_sample, interpolate

from scangan.rejected import Unusable

UNSCANNED = -1024  # Hounsfield units, outside of what was scanned
CHUNK_VOXELS = 2**20  # small enough for a core's cache, large enough to hide the cost of a call
ALIGNED_VOXELS = 0.1  # a tilted volume counts as aligned if that moves no voxel by more than this many new voxels


@dataclass(frozen=True)
class Volume:
    """A CT volume whose axes are the patient's (LPS).

    hounsfield: int16 [Z, Y, X]. spacing_mm: (x, y, z). origin_mm: (x, y, z) of the centre of voxel [0, 0, 0].
    """

    hounsfield: np.ndarray
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]

    def to_voxels(self, points_mm: np.ndarray) -> np.ndarray:
        """Points [N, 3] as (x, y, z) in LPS mm -> [N, 3] as (z, y, x) in voxels, with fractions."""
        return ((np.asarray(points_mm) - self.origin_mm) / self.spacing_mm)[:, ::-1]

    def to_mm(self, voxels: np.ndarray) -> np.ndarray:
        """Voxels [N, 3] as (z, y, x), with fractions -> points [N, 3] as (x, y, z) in LPS mm."""
        return np.asarray(voxels)[:, ::-1] * self.spacing_mm + self.origin_mm


def resample(
    voxels: np.ndarray, affine: np.ndarray, spacing_mm: float, antialias: bool = True, outside: int = UNSCANNED
) -> Volume:
    """Bring a scan to the patient's axes and to one spacing.

    voxels: int16 [slices, rows, columns]. affine: float [4, 4], (column, row, slice, 1) -> LPS mm; any permutation,
    flip, rotation or tilt. spacing_mm: of the new voxels, exactly, along all axes.

    Interpolation is linear. With `antialias`, a new voxel that is larger than the old ones is the triangle-weighted
    mean of all that it covers. Along each axis the first new voxel begins where the old volume begins. Volumes oblique
    to the patient's axes, or sheared by a gantry tilt, are set into the box around them, filled up with `outside`.
    Raises Unusable if the scan is thinner than one new voxel.
    """
    native_mm = np.linalg.norm(affine[:3, :3], axis=0)
    factors = native_mm / spacing_mm
    size = np.array(voxels.shape[::-1])
    if (size * factors < 1).any():
        raise Unusable(
            "scan too thin",
            f"{' x '.join(f'{edge:.3g}' for edge in size * native_mm)} mm, allowed: at least {spacing_mm:g} mm",
            "choose a smaller spacing_mm, or remove the scan",
        )
    aligned = _nearest_aligned(affine, size)
    # No corner moves by more than the sum over the axes.
    moved_mm = np.abs((affine - aligned)[:3, :3]) @ size / 2
    if moved_mm.max() <= ALIGNED_VOXELS * spacing_mm:
        return _turn(*_scale(voxels, aligned, factors, antialias), spacing_mm)
    if antialias and (factors < 1).any():
        voxels, affine = _scale(voxels, affine, np.minimum(factors, 1), antialias)
    return _sample(voxels, affine, spacing_mm, outside)


def _nearest_aligned(affine: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The affine of the same spacing and centre whose columns lie along the patient's axes."""
    aligned = np.eye(4)
    aligned[:3, :3] = 0
    native_mm = np.linalg.norm(affine[:3, :3], axis=0)
    remaining = np.abs(affine[:3, :3]) / native_mm
    for _ in range(3):
        axis, native = np.unravel_index(remaining.argmax(), (3, 3))
        aligned[axis, native] = np.copysign(native_mm[native], affine[axis, native])
        remaining[axis], remaining[:, native] = -1, -1
    centre = (size - 1) / 2
    aligned[:3, 3] = affine[:3, 3] + (affine - aligned)[:3, :3] @ centre
    return aligned


def _scale(
    voxels: np.ndarray, affine: np.ndarray, factors: np.ndarray, antialias: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Resample along the scan's own axes, to `factors` (columns, rows, slices) times as many voxels."""
    # A product such as 100 * (0.3 / 0.1) must not fall just short of a whole number.
    across, down, through = (float(factor) * (1 + 1e-12) for factor in factors)
    slices, rows, columns = voxels.shape
    # Filled chunk by chunk: a list of results, joined, would take the memory twice.
    planes = _empty((slices, int(rows * down), int(columns * across)), np.float32)
    step = max(1, CHUNK_VOXELS // (rows * columns))
    for chunk, target in zip(torch.from_numpy(voxels).split(step), planes.split(step), strict=True):
        target[:] = _interpolate(chunk[:, None].float(), (down, across), antialias)[:, 0]
    flat = planes.view(slices, -1)
    scaled = _empty((int(slices * through), flat.shape[1]), np.int16)
    step = max(1, CHUNK_VOXELS // slices)
    for chunk, target in zip(flat.split(step, dim=1), scaled.split(step, dim=1), strict=True):
        target[:] = _interpolate(chunk[None, None], (through, 1.0), antialias)[0, 0].round_()
    # A new voxel's centre, counted in old voxels from the old volume's edge, is (index + 0.5) / factor.
    to_old = np.diag([*(1 / factors), 1])
    to_old[:3, 3] = 0.5 / factors - 0.5
    return scaled.view(-1, *planes.shape[1:]).numpy(), affine @ to_old


def _empty(shape: Sequence[int], dtype: type) -> torch.Tensor:
    """Unset memory by way of NumPy, which asks for huge pages, where torch's own would be faulted in by 4 KiB."""
    return torch.from_numpy(np.empty(shape, dtype))


def _interpolate(images: torch.Tensor, factors: tuple[float, float], antialias: bool) -> torch.Tensor:
    """[N, C, H, W] to `factors` times the height and width: exactly this scale, though the size is a whole number."""
    return interpolate(images, scale_factor=factors, mode="bilinear", antialias=antialias, recompute_scale_factor=False)


def _turn(voxels: np.ndarray, affine: np.ndarray, spacing_mm: float) -> Volume:
    """Permute and flip the axes of an aligned, isotropic scan to the patient's."""
    native = np.abs(affine[:3, :3]).argmax(axis=1)  # the scan's axis (column, row, slice) along x, y, z
    steps_mm = affine[[0, 1, 2], native]
    size = np.array(voxels.shape[::-1])[native]
    # Array axes are in the reverse order.
    turned = np.flip(voxels.transpose(2 - native[::-1]), tuple(2 - np.flatnonzero(steps_mm < 0)))
    origin = affine[:3, 3] + np.where(steps_mm < 0, (size - 1) * steps_mm, 0)
    return _isotropic(np.ascontiguousarray(turned), spacing_mm, origin)


def _sample(voxels: np.ndarray, affine: np.ndarray, spacing_mm: float, outside: int) -> Volume:
    """Trilinear values of a scan in any orientation, on the grid of the box around it."""
    edge = np.array(voxels.shape[::-1])
    corners = np.array(np.meshgrid(*([-0.5, length - 0.5] for length in edge))).reshape(3, -1)
    corners_mm = affine[:3, :3] @ corners + affine[:3, 3:]
    low, high = corners_mm.min(axis=1), corners_mm.max(axis=1)
    size = np.floor((high - low) / spacing_mm * (1 + 1e-12)).astype(int)
    origin = low + spacing_mm / 2

    # grid_sample counts from -1 at the old volume's one edge to 1 at the other. The position is a sum of one term for
    # each axis of the new volume, so no grid of float64 is needed.
    to_old = np.linalg.inv(affine)
    start = (to_old[:3, :3] @ origin + to_old[:3, 3] + 0.5) * 2 / edge - 1
    steps = to_old[:3, :3] * spacing_mm * 2 / edge[:, None]
    along_x, along_y, along_z = (
        torch.from_numpy(np.outer(np.arange(length), steps[:, axis])).float() for axis, length in enumerate(size)
    )
    plane = along_y[:, None] + along_x + torch.from_numpy(start).float()
    source = torch.from_numpy(voxels).float()[None, None]
    sampled = _empty(size[::-1].tolist(), np.int16)
    step = max(1, CHUNK_VOXELS // int(size[0] * size[1]))
    for offsets, target in zip(along_z.split(step), sampled.split(step), strict=True):
        positions = plane + offsets[:, None, None]
        values = grid_sample(source, positions[None], padding_mode="border", align_corners=False)[0, 0]
        values[(positions.abs() > 1).any(-1)] = outside
        target[:] = values.round_()
    return _isotropic(sampled.numpy(), spacing_mm, origin)


def _isotropic(hounsfield: np.ndarray, spacing_mm: float, origin: np.ndarray) -> Volume:
    return Volume(hounsfield, (float(spacing_mm),) * 3, tuple(origin.tolist()))
