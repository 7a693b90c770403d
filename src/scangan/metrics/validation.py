"""How near a generator's images are to held-out ones while it trains, and how much they vary: by their radiomics.

Radiomics have learnt nothing, so no generator was trained against them; features of its own discriminator would prefer
the weights that fool these best. And they see texture, to which the principal components of pixels are blind
(docs/few_images.md has the numbers).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist, pdist, squareform

from scangan.metrics.radiomics import radiomics, standardise_within_bounds

DRAWS = 100  # of the bootstrap that says how sure a distance is


class Validator:
    """Call with images [N, C, H, W] in [0, 1], N >= 2: their distance to the held-out ones, their diversity, and the
    standard error of the distance.

    train, held_out: real images likewise, of the class that the generator is trained on; features are standardised by
    the training images, within bounds. distance: energy distance, 0 if both are of one distribution, at most 1
    (`fidelity` has it too; here without leaving out pairs of one patient, which adds the same to all generators).
    diversity: the median distance of two images, as a share of that of two training images; the mean would be that of
    a few odd ones. standard error: by a bootstrap of both sets.
    """

    def __init__(self, train: np.ndarray, held_out: np.ndarray) -> None:
        self.train, self.held_out = radiomics(train), radiomics(held_out)

    def __call__(self, images: np.ndarray) -> tuple[float, float, float]:
        train, held_out, drawn = standardise_within_bounds(self.train, self.held_out, radiomics(images))
        within_train, within_held_out, within_drawn = map(pdist, (train, held_out, drawn))
        across = cdist(drawn, held_out)
        distance = 1 - (within_held_out.mean() + within_drawn.mean()) / (2 * across.mean())
        diversity = np.median(within_drawn) / np.median(within_train)
        error = _standard_error(squareform(within_drawn), squareform(within_held_out), across)
        return float(distance), float(diversity), error


def _standard_error(within_drawn: np.ndarray, within_held_out: np.ndarray, across: np.ndarray) -> float:
    """Of the energy distance, from the distances of images [N, N], [M, M] and [N, M]; NaN where none can be told."""
    rng = np.random.default_rng(0)
    drawn, held_out = (rng.multinomial(n, np.full(n, 1 / n), DRAWS).astype(float) for n in across.shape)

    def mean(weights: np.ndarray, distances: np.ndarray) -> np.ndarray:
        return ((weights @ distances) * weights).sum(axis=1) / (len(distances) ** 2 - (weights**2).sum(axis=1))

    between = ((drawn @ across) * held_out).mean(axis=1) / len(across)
    with np.errstate(invalid="ignore"):
        return float(np.std(1 - (mean(drawn, within_drawn) + mean(held_out, within_held_out)) / (2 * between)))
