"""Hounsfield units, and the windows in which networks see them."""

from __future__ import annotations

from typing import Any

import numpy as np

VOI_WINDOW = (-1000.0, 400.0)  # Hounsfield units that networks see as -1 to 1
AIR = VOI_WINDOW[0]  # beyond the scan, and where a VOI is blanked


def to_network(hounsfield: Any, window: tuple[float, float] = VOI_WINDOW) -> Any:
    """HU -> [-1, 1], clipped to the window (low, high); a float array or tensor of any shape."""
    low, high = window
    return ((hounsfield - low) * (2 / (high - low)) - 1).clip(-1, 1)


def to_hounsfield(x: Any) -> Any:
    """[-1, 1] -> HU; a float array or tensor of any shape. The inverse of `to_network` within `VOI_WINDOW`."""
    low, high = VOI_WINDOW
    return (x + 1) * ((high - low) / 2) + low


def to_grey(hounsfield: np.ndarray, window: tuple[float, float] = VOI_WINDOW) -> np.ndarray:
    """HU -> float32 in [0, 1], linear within the window (low, high), clipped; of any shape."""
    low, high = window
    grey = hounsfield.astype(np.float32)
    grey -= low
    grey /= high - low
    return grey.clip(0, 1, out=grey)
