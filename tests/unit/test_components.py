"""Pieces of masks beside SciPy's, whose numbers may differ while the pieces are the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from scangan.ct.components import label_pieces, label_slice_pieces, largest_piece

IN_SLICE = ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]


def same_pieces(found: np.ndarray, expected: np.ndarray) -> bool:
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    return all(len(set(numbers)) == len(numbers) for numbers in pairs) and [0, 0] in pairs.T.tolist()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pieces_are_those_of_scipy(share: float, order: str):
    mask = np.asarray(np.random.default_rng(0).random((17, 23, 31)) < share, order=order)
    assert same_pieces(label_pieces(mask), ndimage.label(mask)[0])
    assert same_pieces(label_slice_pieces(mask), ndimage.label(mask, IN_SLICE)[0])


def test_pieces_of_a_view_are_its_own():
    mask = np.random.default_rng(1).random((20, 30, 30)) < 0.4
    view = mask[3:-2, ::2, 5:]
    assert same_pieces(label_pieces(view), ndimage.label(view)[0])
    assert same_pieces(label_slice_pieces(view), ndimage.label(view, IN_SLICE)[0])


def test_more_pieces_than_a_small_number_counts():
    mask = np.indices((3, 300, 300)).sum(0) % 2 == 0  # a chess board
    assert same_pieces(label_slice_pieces(mask), ndimage.label(mask, IN_SLICE)[0])
    assert label_slice_pieces(mask).max() == label_pieces(mask).max() == mask.sum() > 2**16


def test_the_largest_piece():
    mask = np.zeros((4, 5, 6), bool)
    mask[0, 0, :2] = mask[2, 1:4, 1:4] = True
    expected = np.zeros_like(mask)
    expected[2, 1:4, 1:4] = True
    assert np.array_equal(largest_piece(mask), expected)
    assert not largest_piece(np.zeros_like(mask)).any()
    assert largest_piece(np.ones_like(mask)).all()
