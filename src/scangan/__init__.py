"""Scangan: would synthetic scans help my classifier?

Images from a generator that a run has trained:

    import scangan
    network = scangan.load("results/my_study/gan/dcgan32")
    images = network.draw({"sick": 250}, seed=0)["sick"]  # float32 [250, 1, 32, 32] in [0, 1]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scangan.synthesis.network import Network

__version__ = "0.2.0"


def load(folder: str | Path, image_size: int | None = None) -> Network:
    """A trained network of images, ready to draw: see `scangan.synthesis.network.load`."""
    from scangan.synthesis import network  # here, because torch takes long to load

    return network.load(folder, image_size)
