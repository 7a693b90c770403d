"""Connected pieces of masks, whose voxels share faces: of a whole mask, or of each axial slice alone."""

from __future__ import annotations

import cc3d
import numpy as np


def label_pieces(mask: np.ndarray) -> np.ndarray:
    """A mask, bool [Z, Y, X], whose pieces are numbered from 1; the rest is 0."""
    return np.asarray(cc3d.connected_components(mask, connectivity=6))


def label_slice_pieces(mask: np.ndarray) -> np.ndarray:
    """A mask, bool [Z, Y, X], whose pieces in each axial slice are numbered from 1, through all slices."""
    labels = np.zeros(mask.shape, np.uint32)
    last = 0
    for found, plane in zip(labels, mask, strict=True):
        pieces, count = cc3d.connected_components(plane, connectivity=4, return_N=True)
        np.add(pieces, last, out=found, where=plane, dtype=found.dtype)
        last += count
    return labels


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The piece of most voxels of a mask, bool [Z, Y, X]; of an empty one nothing."""
    labels = label_pieces(mask)
    sizes = np.bincount(labels.ravel())[1:]
    return labels == 1 + sizes.argmax() if sizes.size else np.zeros_like(mask)
