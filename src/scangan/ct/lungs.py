"""Lung masks of chest CT without a network: threshold, components, closing; and a check that says when it failed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

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
    hounsfield = _block_means(volume.hounsfield, factors)
    body = _body(hounsfield >= AIR_BELOW, spacing * factors)
    coarse = _find_lungs(hounsfield < AIR_BELOW, body, spacing * factors)

    smooth = interpolate(
        torch.from_numpy(coarse)[None, None].float(),
        size=tuple((np.array(coarse.shape) * factors).tolist()),
        mode="trilinear",
        align_corners=False,
    )
    depth, height, width = volume.hounsfield.shape
    mask = (smooth[0, 0, :depth, :height, :width] > 0.5).numpy()
    volume_ml = float(mask.sum() * spacing.prod() / 1000)
    return LungMask(mask, _implausible(coarse, body, hounsfield, volume_ml), volume_ml)


def _block_means(voxels: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Means over blocks of `factors` voxels, float32; the last ones are filled up by repeating the edge."""
    padded = np.pad(voxels, [(0, -size % factor) for size, factor in zip(voxels.shape, factors, strict=True)], "edge")
    for axis, factor in enumerate(factors):
        blocks = np.moveaxis(padded, axis, 0).reshape(-1, factor, *np.delete(padded.shape, axis))
        padded = np.moveaxis(blocks.mean(1, dtype=np.float32), 0, axis)
    return padded


def _find_lungs(air: np.ndarray, body: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The lungs, bool [Z, Y, X], from the air and the filled body."""
    enclosed = air & ~_touches_sides(air)
    labels, _ = ndimage.label(enclosed & ~_windpipe(enclosed, _middle(body), spacing))
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
    core = ndimage.distance_transform_edt(tissue, spacing) > depth
    labels, _ = ndimage.label(core)
    sizes = np.bincount(labels.ravel())[1:]
    if not sizes.size:
        return core
    body = ndimage.distance_transform_edt(labels != sizes.argmax() + 1, spacing) <= depth
    return np.stack([ndimage.binary_fill_holes(plane) for plane in body])


def _touches_sides(air: np.ndarray) -> np.ndarray:
    """The air that reaches the front, back, left or right of the volume: what surrounds the body."""
    labels, _ = ndimage.label(air)
    outside = np.zeros(labels.max() + 1, bool)
    for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outside[side] = True
    outside[0] = False
    return outside[labels]


def _windpipe(air: np.ndarray, middle: float, spacing: np.ndarray) -> np.ndarray:
    """Small pieces of air in an axial slice, near the middle of the body."""
    in_slice = ndimage.generate_binary_structure(3, 1)
    in_slice[[0, 2]] = False
    labels, _ = ndimage.label(air, in_slice)
    sizes = np.bincount(labels.ravel())
    columns = np.bincount(labels.ravel(), np.broadcast_to(np.arange(air.shape[2]), air.shape).ravel())
    distance = np.abs(columns / np.maximum(sizes, 1) - middle) * spacing[2]
    small = (sizes * spacing[1] * spacing[2] < WINDPIPE_MM2) & (distance < WINDPIPE_MM)
    small[0] = False
    return small[labels]


def _close(lung: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Closing by a ball, then the holes that are left in each slice: vessels, and nodules inside or at the wall."""
    box = (slice(None), *ndimage.find_objects(lung.view(np.uint8))[0][1:])
    margin = np.ceil(CLOSING_MM / spacing).astype(int) + 1
    # A lung that the scan cuts off goes on beyond the first or last slice.
    padded = np.pad(lung[box], [(margin[0],) * 2, (0, 0), (0, 0)], "edge")
    padded = np.pad(padded, [(0, 0), (margin[1],) * 2, (margin[2],) * 2])
    grown = ndimage.distance_transform_edt(~padded, spacing) <= CLOSING_MM
    shrunk = ndimage.distance_transform_edt(grown, spacing) > CLOSING_MM
    inner = tuple(slice(edge, -edge) for edge in margin)
    closed = np.zeros_like(lung)
    closed[box] = [ndimage.binary_fill_holes(plane) for plane in shrunk[inner] | lung[box]]
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
