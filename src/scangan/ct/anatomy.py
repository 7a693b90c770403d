"""What can be said of one whole chest: its body, its two lungs, how its slices go together, its radiograph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from scangan.ct.components import largest_piece
from scangan.ct.lungs import AIR_BELOW, LEAST_SHARE, LungMask, box_of, fill_slices, lung_mask
from scangan.ct.volume import Volume
from scangan.ct.window import VOI_WINDOW as WINDOW
from scangan.ct.window import to_grey

PLANES = ("axial", "coronal", "sagittal")  # a volume's axes z, y, x: of the slices through it
VALLEY = 0.5  # between two lungs a sagittal section holds less than this share of the smaller lung's largest section
IN_ONE_PIECE = 0.9  # of a lung's volume
RADIOGRAPH = 64  # pixels along an edge
STRIP, STRIP_EDGE = 32, 16  # slices of a volume's strip, at most, and their edge, pixels


def describe_volume(
    hounsfield: np.ndarray,
    spacing_mm: float,
    window: tuple[float, float] = WINDOW,
    lungs: LungMask | None = None,
) -> dict[str, Any]:
    """What tells whether a volume hangs together. hounsfield: int16 [S, S, S], isotropic; lungs: if they are known.

    - difference_axial_hu, difference_coronal_hu, difference_sagittal_hu: mean absolute difference of neighbouring
      slices where both show the body, HU within the window (NaN without a body);
    - axial_differences_hu: list of S - 1, the same of each pair of axial slices, from the lowest up;
    - lung_volume_ml, lung_check (why the lung mask failed; empty: it did not), two_lungs (bool, see `has_two_lungs`);
    - body_share: of the volume;
    - radiograph: float32, row by row, see `radiograph`;
    - strip: uint8, slice by slice, see `axial_strip`.
    """
    lungs = lungs or lung_mask(Volume(hounsfield, (float(spacing_mm),) * 3, (0.0, 0.0, 0.0)))
    body = find_body(hounsfield)
    profiles = _slice_differences(hounsfield, body, window)
    means = {
        f"difference_{plane}_hu": float(total.sum() / voxels.sum()) if voxels.any() else np.nan
        for plane, (total, voxels) in zip(PLANES, profiles, strict=True)
    }
    total, voxels = profiles[0]
    return means | {
        "axial_differences_hu": np.where(voxels > 0, total / np.maximum(voxels, 1), np.nan).tolist(),
        "lung_volume_ml": lungs.volume_ml,
        "lung_check": lungs.failure,
        "two_lungs": not lungs.failure and has_two_lungs(lungs.mask),
        "body_share": float(body.mean()),
        "radiograph": radiograph(hounsfield, window).ravel(),
        "strip": axial_strip(hounsfield, window).ravel(),
    }


def find_body(hounsfield: np.ndarray) -> np.ndarray:
    """The largest piece of tissue with the holes in its axial slices (lungs, windpipe), bool [Z, Y, X]."""
    tissue, body = hounsfield >= AIR_BELOW, np.zeros(hounsfield.shape, bool)
    if tissue.any():
        box = box_of(tissue)
        body[box] = largest_piece(tissue[box])
    return fill_slices(body)


def _slice_differences(
    hounsfield: np.ndarray, body: np.ndarray, window: tuple[float, float]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each plane: sum of absolute differences of each pair of neighbouring slices, and number of voxels, [S - 1]."""
    low, high = map(np.float32, window)
    totals, voxels = (np.zeros((len(PLANES), len(hounsfield) - 1), kind) for kind in (np.float64, int))
    before, body_before = None, None
    for z, axial in enumerate(hounsfield):  # slice by slice, which stays in the processor's cache
        grey, inside = axial.astype(np.float32).clip(low, high), body[z]
        pairs = [
            (grey[1:], grey[:-1], inside[1:] & inside[:-1]),
            (grey.T[1:], grey.T[:-1], inside.T[1:] & inside.T[:-1]),
        ]
        for plane, (one, other, both) in enumerate(pairs, start=1):
            totals[plane] += (np.abs(one - other) * both).sum(1, dtype=np.float64)
            voxels[plane] += both.sum(1)
        if before is not None:
            both = inside & body_before
            totals[0, z - 1] = (np.abs(grey - before) * both).sum(dtype=np.float64)
            voxels[0, z - 1] = both.sum()
        before, body_before = grey, inside
    return list(zip(totals, voxels, strict=True))


def has_two_lungs(mask: np.ndarray) -> bool:
    """Whether a lung mask, bool [Z, Y, X], is two lungs, each in one piece.

    Lungs may touch where little tissue parts them, so their components are not counted. Instead the mask is cut by the
    sagittal plane that holds the least of it, between the largest sections to the right and to the left: there must be
    little lung in it (`VALLEY`), and each side must be one piece (`IN_ONE_PIECE`) of a share of the lungs
    (`lungs.LEAST_SHARE`).
    """
    if not mask.any():
        return False
    mask = mask[box_of(mask)]
    sections = mask.sum((0, 1))
    columns = np.flatnonzero(sections)
    if len(columns) < 3:
        return False
    middle = (columns[0] + columns[-1] + 1) // 2
    right = int(sections[:middle].argmax())
    left = middle + int(sections[middle:].argmax())
    valley = right + int(sections[right : left + 1].argmin())
    if sections[valley] >= VALLEY * min(sections[right], sections[left]):
        return False
    sides = mask[:, :, :valley], mask[:, :, valley + 1 :]
    return all(
        largest_piece(side).sum() >= IN_ONE_PIECE * side.sum() and side.sum() >= LEAST_SHARE * mask.sum()
        for side in sides
    )


def radiograph(hounsfield: np.ndarray, window: tuple[float, float] = WINDOW) -> np.ndarray:
    """A volume, int16 [S, S, S], from the front: its mean over y, float32 [E, E] in [0, 1]; E: S, at most RADIOGRAPH.

    The body's outline, the lungs' shape, the heart's place tell patients apart; noise and a shift from front to back
    hide nothing.
    """
    # Slice by slice, which stays in the processor's cache.
    grey = torch.stack([torch.from_numpy(to_grey(axial, window)).mean(dim=0) for axial in hounsfield])
    return adaptive_avg_pool2d(grey[None], min(len(grey), RADIOGRAPH))[0].numpy()


def axial_strip(hounsfield: np.ndarray, window: tuple[float, float] = WINDOW) -> np.ndarray:
    """Evenly spaced axial slices of a volume, int16 [S, S, S], seen small: uint8 [STRIP, STRIP_EDGE, STRIP_EDGE]."""
    slices = min(STRIP, len(hounsfield))
    places = ((np.arange(slices) + 0.5) * len(hounsfield) / slices).astype(int)
    grey = torch.from_numpy(np.ascontiguousarray(to_grey(hounsfield[places], window), np.float32))
    return (adaptive_avg_pool2d(grey[None], STRIP_EDGE)[0].numpy() * 255).round().astype(np.uint8)
