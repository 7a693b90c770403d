"""How near a generator is while it trains: a perfect one, a noisy one, one that draws the same again and again."""

import numpy as np
import pytest

from scangan.metrics.radiomics import radiomics, standardise
from scangan.metrics.validation import Validator


def textures(count, seed, noise=0.2):
    """Smooth images of random contrast, with noise."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.3, 0.7, 16, dtype=np.float32)
    contrast = rng.uniform(0.5, 1, (count, 1, 1, 1)).astype(np.float32)
    images = contrast * ramp + noise * rng.random((count, 1, 16, 16), dtype=np.float32)
    return images.clip(0, 1)


@pytest.fixture(scope="module")
def validator():
    return Validator(textures(40, 0), textures(40, 1))


def test_a_perfect_generator_is_at_distance_nothing(validator):
    distance, diversity = validator(textures(40, 2))
    assert abs(distance) < 0.05
    assert diversity == pytest.approx(1, abs=0.2)


def test_the_worse_the_texture_the_farther(validator):
    distances = [validator(textures(40, 3, noise))[0] for noise in (0.2, 0.18, 0.15, 0.1)]
    assert distances == sorted(distances)
    assert distances[-1] > 0.3


def test_the_same_image_again_and_again_has_no_diversity(validator):
    distance, diversity = validator(np.repeat(textures(1, 4), 10, axis=0))
    assert diversity == pytest.approx(0, abs=1e-6)
    assert distance > 0.1


def test_by_definition(validator):
    train, held_out, drawn = (textures(count, seed) for count, seed in ((40, 0), (40, 1), (5, 5)))
    train, held_out, drawn = standardise(*(radiomics(images) for images in (train, held_out, drawn)))

    def mean_distance(one, other):
        found = [np.linalg.norm(x - y) for x in one for y in other]
        pairs = len(one) * (len(other) - (one is other))
        return sum(found) / pairs

    distance, diversity = validator(textures(5, 5))
    within = mean_distance(held_out, held_out) + mean_distance(drawn, drawn)
    assert distance == pytest.approx(1 - within / (2 * mean_distance(drawn, held_out)))
    assert diversity == pytest.approx(mean_distance(drawn, drawn) / mean_distance(train, train))
