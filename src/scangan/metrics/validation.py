"""How near a generator's images are to held-out ones while it trains, and how much they vary: by their radiomics.

Radiomics have learnt nothing, so no generator was trained against them; features of its own discriminator would prefer
the weights that fool these best.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from scangan.metrics.radiomics import radiomics, standardise


class Validator:
    """Call with images [N, C, H, W] in [0, 1], N >= 2: their distance to the held-out ones, and their diversity.

    train, held_out: real images likewise, of the class that the generator is trained on; features are standardised by
    the training images. distance: energy distance, 0 if both are of one distribution, at most 1 (`fidelity` has it too;
    here without leaving out pairs of one patient, which adds the same to all generators). diversity: the mean distance
    of two images, as a share of that of two training images.
    """

    def __init__(self, train: np.ndarray, held_out: np.ndarray) -> None:
        self.train, self.held_out = radiomics(train), radiomics(held_out)

    def __call__(self, images: np.ndarray) -> tuple[float, float]:
        train, held_out, drawn = standardise(self.train, self.held_out, radiomics(images))
        within_train, within_held_out, within_drawn = (_mean_of_pairs(each) for each in (train, held_out, drawn))
        across = euclidean_distances(drawn, held_out).mean()
        return float(1 - (within_held_out + within_drawn) / (2 * across)), within_drawn / within_train


def _mean_of_pairs(features: np.ndarray) -> float:
    """Mean distance of two different rows."""
    count = len(features)
    return float(euclidean_distances(features).sum() / (count * (count - 1)))
