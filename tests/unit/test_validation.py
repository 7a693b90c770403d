"""How near a generator is while it trains: a perfect one, a noisy one, one that draws the same again and again."""

from itertools import combinations

import numpy as np
import pytest

from scangan.metrics.radiomics import radiomics, standardise_within_bounds
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
    distance, diversity, _ = validator(textures(40, 2))
    assert abs(distance) < 0.05
    assert diversity == pytest.approx(1, abs=0.2)


def test_the_worse_the_texture_the_farther(validator):
    distances = [validator(textures(40, 3, noise))[0] for noise in (0.2, 0.18, 0.15, 0.1)]
    assert distances == sorted(distances)
    assert distances[-1] > 0.3


def test_the_same_image_again_and_again_has_no_diversity(validator):
    distance, diversity, _ = validator(np.repeat(textures(1, 4), 10, axis=0))
    assert diversity == pytest.approx(0, abs=1e-6)
    assert distance > 0.1


def test_flat_images_with_a_few_of_one_grey_are_far(validator):
    """These have a coarseness of 10^6, of which a mean of distances would see nothing else."""
    flat = np.random.default_rng(0).normal(0.5, 0.007, (50, 1, 16, 16)).clip(0, 1)
    flat[::10] = 0.5
    distance, diversity, _ = validator(flat)
    assert distance > 0.6
    assert diversity < 3


def test_by_definition(validator):
    train, held_out, drawn = (textures(count, seed) for count, seed in ((40, 0), (40, 1), (5, 5)))
    train, held_out, drawn = standardise_within_bounds(*(radiomics(images) for images in (train, held_out, drawn)))

    def distances(features):
        return [np.linalg.norm(one - other) for one, other in combinations(features, 2)]

    distance, diversity, _ = validator(textures(5, 5))
    across = np.mean([np.linalg.norm(one - other) for one in drawn for other in held_out])
    within = np.mean(distances(held_out)) + np.mean(distances(drawn))
    assert distance == pytest.approx(1 - within / (2 * across))
    assert diversity == pytest.approx(np.median(distances(drawn)) / np.median(distances(train)))


def test_an_odd_image_does_not_hide_that_the_others_are_the_same(validator):
    odd = np.zeros((1, 1, 16, 16), np.float32)
    odd[0, 0, ::2] = 1
    _, diversity, _ = validator(np.concatenate([np.repeat(textures(1, 4), 20, axis=0), odd]))
    assert diversity == pytest.approx(0, abs=1e-6)


def test_the_error_is_what_distances_of_other_images_differ_by():
    """Other drawn and other held-out images of the same kinds, again and again; the features' scale stays."""
    found = [Validator(textures(40, 0), textures(30, 100 + each))(textures(50, 200 + each, 0.15)) for each in range(30)]
    distances, _, errors = np.array(found).T
    assert np.mean(errors) == pytest.approx(distances.std(ddof=1), rel=0.5)


def test_two_images_have_an_error_or_none(validator):
    assert not validator(textures(2, 6))[2] < 0
