"""Slices in and out of their order, and volumes that are all alike."""

import numpy as np
import pandas as pd
import pytest

from scangan.config import Evaluation
from scangan.ct.anatomy import STRIP, STRIP_EDGE, axial_strip
from scangan.metrics.order import misplacement, ms_ssim, pair_similarities
from scangan.metrics.volumes import not_ordered, order_scores
from scangan.report.volume_tables import order_note

RNG = np.random.default_rng(0)


def ramps(volumes, noise=4.0):
    """Strips whose slices brighten from the feet to the head, with a place of their own each."""
    base = np.linspace(40, 200, STRIP)[:, None, None] + 20 * np.sin(
        np.arange(STRIP)[:, None, None] + np.ogrid[:STRIP_EDGE]
    )
    strips = base + RNG.normal(0, noise, (volumes, STRIP, STRIP_EDGE, STRIP_EDGE))
    return strips.clip(0, 255).astype(np.uint8)


def test_a_strip_is_the_mean_of_what_its_pixels_cover():
    grey = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32)[:, None, None], (64, 64, 64))
    hounsfield = (1000 * grey).round().astype(np.int16)
    strip = axial_strip(hounsfield, (0.0, 1000.0))
    assert (strip.shape, strip.dtype) == ((STRIP, STRIP_EDGE, STRIP_EDGE), np.uint8)
    np.testing.assert_allclose(strip[:, 0, 0], 255 * grey[1::2, 0, 0], atol=0.65)
    assert axial_strip(hounsfield[:20], (0.0, 1000.0)).shape == (20, STRIP_EDGE, STRIP_EDGE)


def test_ordered_shuffled_and_reversed_slices_lie_near_a_third_and_half_a_depth_away():
    real, ordered = ramps(20), ramps(8)
    assert misplacement(ordered, real).max() < 0.02
    shuffled = np.stack([RNG.permutation(strip) for strip in ramps(40)])
    assert misplacement(shuffled, real).mean() == pytest.approx(1 / 3, abs=0.02)
    assert misplacement(ordered[:, ::-1], real) == pytest.approx(0.5, abs=0.02)
    assert misplacement(ordered, real[:1]).max() < 0.1  # a median of five places of one volume


def test_ms_ssim_of_the_same_picture_is_one_and_falls_with_noise():
    picture = RNG.random((64, 64))
    assert ms_ssim(picture, picture) == pytest.approx(1)
    noisy = [ms_ssim(picture, picture + RNG.normal(0, sigma, picture.shape)) for sigma in (0.05, 0.2, 1)]
    assert 1 > noisy[0] > noisy[1] > noisy[2] > 0
    # Of constant pictures only luminance differs: (2 a b + c) / (a^2 + b^2 + c), at the coarsest scale alone.
    flat = ms_ssim(np.full((64, 64), 0.2), np.full((64, 64), 0.6))
    assert flat == pytest.approx(((0.24 + 1e-4) / (0.4 + 1e-4)) ** (0.3001 / 0.6305), rel=1e-6)


def test_pairs_are_of_different_patients():
    pictures = RNG.random((4, 32, 32))
    pictures[1] = pictures[0]
    assert len(pair_similarities(pictures, np.array(list("aabc")), 0)) == 5
    assert pair_similarities(pictures, np.array(list("abcd")), 0).max() == pytest.approx(1)
    assert len(pair_similarities(pictures[:2], np.array(["a", "a"]), 0)) == 0


def describe(strips, pictures):
    return pd.DataFrame(
        {
            "volume_id": [f"v{n}" for n in range(len(strips))],
            "patient_id": [f"p{n}" for n in range(len(strips))],
            "strip": list(strips.reshape(len(strips), -1)),
            "radiograph": list(pictures.reshape(len(pictures), -1)),
        }
    )


def test_a_network_out_of_order_is_named_and_one_without_variety_shows():
    varied, same = RNG.random((10, 32, 32)), np.repeat(RNG.random((1, 32, 32)), 10, axis=0)
    shuffled = np.stack([RNG.permutation(strip) for strip in ramps(10)])
    sources = {"train": describe(ramps(10), varied), "real": describe(ramps(10), varied)}
    sources |= {"ordered": describe(ramps(10), same), "shuffled": describe(shuffled, varied)}
    scores = order_scores(sources, Evaluation(bootstrap=200))
    value = scores.pivot(index="variant", columns="metric", values="value")
    assert value.misplacement["ordered"] < 0.05 < 0.25 < value.misplacement["shuffled"]
    assert value.pair_ms_ssim["ordered"] == pytest.approx(1)
    assert value.pair_ms_ssim["real"] < 0.3
    assert scores[scores.variant == "ordered"].reference.notna().all()
    assert not_ordered(scores) == ["shuffled"]
    assert order_note(["shuffled"]).startswith("Not ordered: the slices of shuffled lie nowhere near")
    assert order_note([]) == ""
