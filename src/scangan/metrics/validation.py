"""How near a generator's images are to held-out ones while it trains, and how much they vary: by their radiomics.

Radiomics have learnt nothing, so no generator was trained against them; features of its own discriminator would prefer
the weights that fool these best. And they see texture, to which the principal components of pixels are blind
(docs/few_images.md has the numbers).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist, pdist

from scangan.metrics.radiomics import radiomics, standardise_within_bounds


class Validator:
    """Call with images [N, C, H, W] in [0, 1], N >= 2: their distance to the held-out ones, and their diversity.

    train, held_out: real images likewise, of the class that the generator is trained on; features are standardised by
    the training images, within bounds. distance: energy distance, 0 if both are of one distribution, at most 1
    (`fidelity` has it too; here without leaving out pairs of one patient, which adds the same to all generators).
    diversity: the median distance of two images, as a share of that of two training images; the mean would be that of
    a few odd ones.
    """

    def __init__(self, train: np.ndarray, held_out: np.ndarray) -> None:
        self.train, self.held_out = radiomics(train), radiomics(held_out)

    def __call__(self, images: np.ndarray) -> tuple[float, float]:
        train, held_out, drawn = standardise_within_bounds(self.train, self.held_out, radiomics(images))
        within_train, within_held_out, within_drawn = map(pdist, (train, held_out, drawn))
        distance = 1 - (within_held_out.mean() + within_drawn.mean()) / (2 * cdist(drawn, held_out).mean())
        return float(distance), float(np.median(within_drawn) / np.median(within_train))
