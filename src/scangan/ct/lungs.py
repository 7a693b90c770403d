"""Lung masks of chest CT without a network: threshold, components, closing; and a check that says when it failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scangan.ct.components import label_pieces, label_slice_pieces, largest_piece
from scangan.ct.volume import Volume

AIR_BELOW = -400  # Hounsfield, half-way between lung and soft tissue
WORKING_MM = 3.0  # finer volumes are averaged to about this
TABLE_MM = 6.0  # tissue thinner than this is the table's shell or clothing, not body
WINDPIPE_MM2 = 600.0  # the windpipe's cross-section is smaller,
WINDPIPE_MM = 25.0  # and its distance from the middle of the body as well
CLOSING_MM = 10.0  # vessels and nodules at the wall that are narrower than twice this belong to the lung
LEAST_SHARE = 0.15  # of the lungs' volume, in the smaller lung
LITRES = (0.8, 10.0)  # both lungs, at any breath, of an adult or a child of school age
HOUNSFIELD = (-960, -500)  # median of the lungs
TINY = 1e-9


@dataclass(frozen=True)
class LungMask:
    """Both lungs with their vessels and nodules, without the windpipe.

    mask: bool [Z, Y, X]. failure: why it is not plausible; empty if it is. volume_ml: of the mask.
    """

    mask: np.ndarray
    failure: str
    volume_ml: float


def lung_mask(volume: Volume) -> LungMask:
    """The lungs of a chest CT in Hounsfield units, at any spacing; they may go on beyond the first and last slice.

    What fails is said in `failure`, with the mask as far as it came: no lungs found, one lung only, a volume outside
    0.8 to 10 litres (where the scan cuts the lungs off, less is plausible), or a density that is not that of lungs.
    """
    spacing = np.array(volume.spacing_mm[::-1])
    factors = np.maximum(1, np.rint(WORKING_MM / spacing)).astype(int)
    hounsfield = _block_means(volume.hounsfield, factors.tolist())
    body = _body(hounsfield >= AIR_BELOW, spacing * factors)
    coarse = _find_lungs(hounsfield < AIR_BELOW, body, spacing * factors)
    mask = _enlarge(coarse, factors.tolist(), volume.hounsfield.shape)
    volume_ml = float(np.count_nonzero(mask) * spacing.prod() / 1000)
    return LungMask(mask, _implausible(coarse, body, hounsfield, volume_ml), volume_ml)


def _along(axis: int, start: int, stop: int | None = None, step: int | None = None) -> tuple[slice, ...]:
    """An index of a part along one axis."""
    return (slice(None),) * axis + (slice(start, stop, step),)


def _block_means(voxels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Means over blocks of `factors` voxels, float32; the last ones are filled up by repeating the edge."""
    means = np.pad(voxels, [(0, -size % factor) for size, factor in zip(voxels.shape, factors, strict=True)], "edge")
    for axis, factor in enumerate(factors):
        total = means[_along(axis, 0, None, factor)].astype(np.float32)
        for offset in range(1, factor):
            total += means[_along(axis, offset, None, factor)]
        means = total / np.float32(factor)
    return means


def _enlarge(coarse: np.ndarray, factors: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """A mask on a grid finer by whole `factors`, cut to `shape`: where its trilinear interpolation is above a half.

    Computed around the mask alone, in whole numbers: along each axis 2 * factor stand for 1.
    """
    mask = np.zeros(shape, bool)
    if not coarse.any():
        return mask
    box = tuple(slice(max(0, along.start - 1), along.stop + 1) for along in box_of(coarse))
    one = math.prod(2 * factor for factor in factors)
    fine = coarse[box].astype(np.min_scalar_type(one))
    for axis, factor in reversed(list(enumerate(factors))):
        before = np.concatenate([fine[_along(axis, 0, 1)], fine[_along(axis, 0, -1)]], axis)
        after = np.concatenate([fine[_along(axis, 1)], fine[_along(axis, -1)]], axis)
        larger = np.empty([size * factor if axis == k else size for k, size in enumerate(fine.shape)], fine.dtype)
        for place in range(factor):
            away = 2 * place + 1 - factor  # from the old voxel's middle; the next one's is 2 * factor away
            weight = fine.dtype.type(abs(away))
            own = fine * fine.dtype.type(2 * factor - abs(away))
            larger[_along(axis, place, None, factor)] = own + weight * (before if away < 0 else after)
        fine = larger
    target = mask[
        tuple(slice(along.start * factor, along.stop * factor) for along, factor in zip(box, factors, strict=True))
    ]
    target[:] = fine[tuple(map(slice, target.shape))] > one // 2
    return mask


def grow(mask: np.ndarray, radius_mm: float, spacing: np.ndarray) -> np.ndarray:
    """The dilation of a mask, bool [Z, Y, X], by a ball; spacing: of its voxels, (z, y, x) in mm.

    For balls of a few voxels, many times as fast as a distance transform.
    """
    reach = np.floor(radius_mm / spacing + TINY).astype(int)
    z2, y2, x2 = ((np.arange(-end, end + 1) * step) ** 2 for end, step in zip(reach, spacing, strict=True))
    in_ball = np.sqrt(z2[:, None, None] + y2[:, None] + x2) <= radius_mm
    halves = (in_ball.sum(2) - 1) // 2  # half the length of each of the ball's rows along x; -1: none
    rows, grown = mask, np.zeros_like(mask)
    for half in range(halves.max() + 1):
        if half:
            rows = rows.copy()
            rows[:, :, half:] |= mask[:, :, :-half]
            rows[:, :, :-half] |= mask[:, :, half:]
        for z, y in np.argwhere(halves == half) - reach[:2]:
            (to_z, from_z), (to_y, from_y) = _shifted(z, len(mask)), _shifted(y, mask.shape[1])
            grown[to_z, to_y] |= rows[from_z, from_y]
    return grown


def _shifted(offset: int, length: int) -> tuple[slice, slice]:
    """Where what is moved by an offset comes to lie, and where it was, of what stays inside."""
    after, before = max(0, offset), max(0, -offset)
    return slice(after, max(0, length - before)), slice(before, max(0, length - after))


def fill_slices(mask: np.ndarray) -> np.ndarray:
    """A mask, bool [Z, Y, X], and the holes in each of its axial slices."""
    filled = mask.copy()
    if mask.any():
        box = box_of(mask)
        filled[box] = ~_touching_sides(label_slice_pieces(~mask[box]))
    return filled


def box_of(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The box around a mask, bool [Z, Y, X], that is not empty."""
    in_plane = np.asarray(mask.any(0))
    sides = [np.flatnonzero(each) for each in (mask.any((1, 2)), in_plane.any(1), in_plane.any(0))]
    z, y, x = (slice(int(found[0]), int(found[-1]) + 1) for found in sides)
    return z, y, x


def _find_lungs(air: np.ndarray, body: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The lungs, bool [Z, Y, X], from the air and the filled body."""
    enclosed = air & ~_touching_sides(label_pieces(air))
    labels = label_pieces(enclosed & ~_windpipe(enclosed, _middle(body), spacing))
    # Gas within the table's shell is enclosed as well, but not by the body; the lungs are, in most slices.
    sizes = np.bincount(labels.ravel())
    candidates = sizes * (2 * np.bincount(labels.ravel(), body.ravel()) > sizes)
    candidates[0] = 0
    # The second largest is the other lung, or a gas bubble beside two lungs that are joined.
    lungs = np.zeros_like(air)
    for number in candidates.argsort()[-2:]:
        if candidates[number] > LEAST_SHARE * candidates.max():
            lungs |= _close(labels == number, spacing)
    return lungs


def _middle(body: np.ndarray) -> float:
    """The column half-way between the body's left and right."""
    return float(np.mean(np.flatnonzero(body.any((0, 1)))[[0, -1]])) if body.any() else 0.0


def _body(tissue: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The largest piece of tissue that is no thin shell, its holes filled slice by slice."""
    depth = max(TABLE_MM / 2, spacing.max())  # one voxel at least
    core = ~grow(~tissue, depth, spacing)
    return fill_slices(grow(largest_piece(core), depth, spacing))


def _touching_sides(labels: np.ndarray) -> np.ndarray:
    """Of the numbered pieces of air those that reach the front, back, left or right: what surrounds the body."""
    outside = np.zeros(labels.max() + 1, bool)
    for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outside[side] = True
    outside[0] = False
    return outside[labels]


def _windpipe(air: np.ndarray, middle: float, spacing: np.ndarray) -> np.ndarray:
    """Small pieces of air in an axial slice, near the middle of the body."""
    labels = label_slice_pieces(air)
    sizes = np.bincount(labels.ravel())
    columns = np.bincount(labels.ravel(), np.broadcast_to(np.arange(air.shape[2]), air.shape).ravel())
    distance = np.abs(columns / np.maximum(sizes, 1) - middle) * spacing[2]
    small = (sizes * spacing[1] * spacing[2] < WINDPIPE_MM2) & (distance < WINDPIPE_MM)
    small[0] = False
    return small[labels]


def _close(lung: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Closing by a ball, then the holes that are left in each slice: vessels, and nodules inside or at the wall."""
    box = (slice(None), *box_of(lung)[1:])
    margin = np.ceil(CLOSING_MM / spacing).astype(int) + 1
    # A lung that the scan cuts off goes on beyond the first or last slice.
    padded = np.pad(lung[box], [(margin[0],) * 2, (0, 0), (0, 0)], "edge")
    padded = np.pad(padded, [(0, 0), (margin[1],) * 2, (margin[2],) * 2])
    shrunk = ~grow(~grow(padded, CLOSING_MM, spacing), CLOSING_MM, spacing)
    inner = tuple(slice(edge, -edge) for edge in margin)
    closed = np.zeros_like(lung)
    closed[box] = fill_slices(shrunk[inner] | lung[box])
    return closed


def _implausible(lungs: np.ndarray, body: np.ndarray, hounsfield: np.ndarray, volume_ml: float) -> str:
    """Why these are not two lungs; nothing if they are."""
    if not lungs.any():
        return "no air within a body" if body.any() else "no body"
    right = lungs[:, :, : round(_middle(body))].sum() / lungs.sum()
    if min(right, 1 - right) < LEAST_SHARE:
        return f"one lung: {100 * max(right, 1 - right):.0f} % of the volume on one side of the body"
    litres, (low, high) = volume_ml / 1000, LITRES
    cut_off = lungs[[0, -1]].any()
    if litres > high or (litres < low and not cut_off):
        return f"lungs of {litres:.2g} litres, plausible: {low:g} to {high:g}"
    density = np.median(hounsfield[lungs])
    if not HOUNSFIELD[0] <= density <= HOUNSFIELD[1]:
        return f"lungs of {density:.0f} HU, plausible: {HOUNSFIELD[0]} to {HOUNSFIELD[1]}"
    return ""
