"""Planted copies of every kind are found, fresh images are not, and the data's own copies set no threshold."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter

from scangan.data.store import ImageSet, fit_square
from scangan.metrics import copies
from scangan.metrics.copies import EDGE, KINDS, find_copies, shifted, windowed
from scangan.phantoms.head_ct import render_slice

GENERATOR = torch.Generator().manual_seed(0)


def image_set(images, prefix):
    names = [f"{prefix}{number}" for number in range(len(images))]
    return ImageSet(np.asarray(images, np.float32), pd.DataFrame({"image_id": names, "patient_id": names}))


@cache
def phantom(first, count):
    films = [render_slice(np.random.default_rng([0, number]), 64, number % 2) for number in range(first, first + count)]
    return np.stack([fit_square(np.asarray(film.convert("L"), np.float32)[None] / 255, EDGE) for film in films])


def check(synthetic, quantile=0.05, held_out=None):
    held_out = phantom(40, 40) if held_out is None else held_out
    return find_copies(image_set(phantom(0, 40), "t"), image_set(held_out, "h"), image_set(synthetic, "s"), quantile)


def by_metric(found, column="value"):
    return found.scores.set_index("metric")[column]


def test_planted_copies_of_every_kind_are_found():
    shares = by_metric(check(phantom(80, 20)))
    assert set(shares.index) == {
        "suspected_copies",
        "leaked_held_out",
        "membership_auc",
        *(f"planted_{kind}" for kind in KINDS),
    }
    assert shares["planted_exact"] == shares["planted_mirrored"] == 1
    for kind in ("shifted", "zoomed", "blurred", "noisy", "windowed"):
        assert shares[f"planted_{kind}"] >= 0.9, kind


def test_copies_are_named_with_their_originals_and_fresh_images_are_not():
    fresh, train = phantom(80, 20), torch.from_numpy(phantom(0, 40))
    hidden = [change(train[[number]], GENERATOR).numpy() for number, change in enumerate(KINDS.values())]
    found = check(np.concatenate([fresh, *hidden]))
    assert list(found.images.columns) == ["image_id", "nearest_image_id", "agreement", "suspected"]
    assert found.images["agreement"].is_monotonic_decreasing
    images = found.images.set_index("image_id")
    for number in range(len(KINDS)):
        assert images.loc[f"s{20 + number}", "nearest_image_id"] == f"t{number}"
        assert images.loc[f"s{20 + number}", "suspected"]
    assert images.loc[[f"s{number}" for number in range(20)], "suspected"].mean() <= 0.2  # 5% are expected
    assert by_metric(found)["suspected_copies"] == found.images["suspected"].mean()
    assert by_metric(found, "reference")["suspected_copies"] == 0.05
    assert by_metric(found, "images")["suspected_copies"] == 27


def test_copies_of_what_else_a_generator_was_trained_on_are_found_too():
    drawn = np.concatenate([phantom(80, 20), phantom(103, 1)])
    sets = (phantom(0, 40), "t"), (phantom(40, 40), "h"), (drawn, "s"), (phantom(100, 10), "o")
    train, held_out, synthetic, others = (image_set(*each) for each in sets)
    found = find_copies(train, held_out, synthetic, 0.05, others=others)
    assert found.images.loc[0, ["image_id", "nearest_image_id", "suspected"]].tolist() == ["s20", "o3", True]
    alone = find_copies(train, held_out, synthetic, 0.05)
    assert alone.images.set_index("image_id").loc["s20", "agreement"] < 0.999
    # Of the others it is asked for copies alone.
    assert by_metric(found)["membership_auc"] == by_metric(alone)["membership_auc"]
    assert by_metric(found, "images").equals(by_metric(alone, "images"))


def test_a_held_out_image_that_is_a_training_image_sets_no_threshold():
    held_out = phantom(40, 40).copy()
    clean = check(phantom(80, 4), held_out=held_out[1:])
    held_out[0] = phantom(0, 40)[3, :, :, ::-1]
    found = check(phantom(80, 4), held_out=held_out)
    assert found.leaked == ["h0"]
    assert by_metric(found)["leaked_held_out"] == 1 / 40
    assert found.threshold == clean.threshold
    assert by_metric(found, "reference")["suspected_copies"] == max(0.05, 1 / 40)


def test_membership_is_half_for_strangers_and_one_for_copies():
    assert by_metric(check(phantom(0, 40)))["membership_auc"] == 1
    apart = check(phantom(80, 40)).scores.set_index("metric").loc["membership_auc"]
    assert apart["ci_low"] < 0.5 < apart["ci_high"]
    assert apart["reference"] == 0.5


def test_the_same_seed_gives_the_same_and_images_without_contrast_no_error():
    blank = np.zeros((3, 1, EDGE, EDGE), np.float32)
    first, again = check(blank), check(blank)
    assert first.scores.equals(again.scores)
    assert by_metric(first)["suspected_copies"] == 0
    assert first.images["agreement"].abs().max() < 1e-3


def test_larger_colour_images_are_compared_as_well():
    large = phantom(0, 6).repeat(2, axis=2).repeat(2, axis=3).repeat(3, axis=1)
    held_out = phantom(40, 20).repeat(2, axis=2).repeat(2, axis=3).repeat(3, axis=1)
    found = find_copies(*(image_set(each, name) for each, name in ((large, "t"), (held_out, "h"), (large, "s"))), 0.05)
    assert by_metric(found)["suspected_copies"] == 1
    assert (found.images["image_id"].str[1:] == found.images["nearest_image_id"].str[1:]).all()


def test_the_changes_are_what_they_are_called():
    image = torch.arange(16.0).reshape(1, 1, 4, 4) / 16
    assert shifted(image, GENERATOR)[0, 0, 2:, 2:] == pytest.approx(image[0, 0, :2, :2])
    assert windowed(torch.tensor([[0.0, 0.1, 0.45, 0.8, 1.0]]), GENERATOR)[0].numpy() == pytest.approx(
        [0, 0, 0.5, 1, 1]
    )


def test_images_are_looked_at_in_parts_with_the_same_result(monkeypatch):
    drawn = np.concatenate([phantom(80, 12), phantom(3, 2)])
    whole = check(drawn)
    monkeypatch.setattr(copies, "BLOCK", 16)
    monkeypatch.setattr(copies, "CHUNK", 10)
    parts = check(drawn)
    pd.testing.assert_frame_equal(parts.scores, whole.scores)
    pd.testing.assert_frame_equal(parts.images, whole.images)


def test_volumes_are_compared_by_their_radiographs():
    rng = np.random.default_rng(0)
    volumes = gaussian_filter(rng.normal(size=(30, 1, 32, 32, 32)), (0, 0, 1, 1, 1)).astype(np.float32)
    volumes = (volumes - volumes.min()) / np.ptp(volumes)
    sets = [
        ImageSet(part, pd.DataFrame({"image_id": names, "patient_id": names}))
        for part, names in (
            (volumes[:10], [f"train{number}" for number in range(10)]),
            (volumes[10:20], [f"held{number}" for number in range(10)]),
            # Two copies, one mirrored, and fresh ones.
            (np.concatenate([volumes[3:4], volumes[5:6, ..., ::-1], volumes[20:]]), [f"new{n}" for n in range(12)]),
        )
    ]
    found = find_copies(*sets, 0.01)
    suspected = found.images[found.images.suspected]
    assert dict(zip(suspected.image_id, suspected.nearest_image_id, strict=True)) == {
        "new0": "train3",
        "new1": "train5",
    }
    shares = found.scores.set_index("metric").value
    assert shares[["planted_exact", "planted_mirrored"]].tolist() == [1, 1]
