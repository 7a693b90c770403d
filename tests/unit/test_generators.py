"""A table of all that is said of a generator, class by class and together."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from scangan.config import Fidelity
from scangan.data.store import ImageSet
from scangan.errors import DataError
from scangan.metrics.copies import KINDS
from scangan.metrics.encoder import train_encoder
from scangan.metrics.feature_sets import Features, FeatureSet
from scangan.metrics.fidelity import METRICS, compare_unbiased
from scangan.metrics.generators import BY_RADIOMICS, JudgedSet, evaluate_generators
from scangan.metrics.radiomics import frechet_radiomics_distance


def judged(images, prefix):
    names = [f"{prefix}{number}" for number in range(len(images))]
    labels = np.where(np.arange(len(images)) % 2, "sick", "healthy")
    manifest = pd.DataFrame({"image_id": names, "patient_id": names, "label": labels})
    features = images.reshape(len(images), -1)[:, ::40].copy()
    return JudgedSet.of(ImageSet(images, manifest), FeatureSet(Features(features, features), manifest))


@cache
def evaluated():
    rng = np.random.default_rng(0)
    sets = [rng.random((count, 1, 16, 16), dtype=np.float32) for count in (24, 16, 20)]
    train, held_out, synthetic = (judged(images, name) for images, name in zip(sets, "ths", strict=True))
    return train, synthetic, evaluate_generators(train, held_out, synthetic, "gan", Fidelity(resamples=3))


def test_every_variant_has_every_score_and_every_image_its_nearest():
    _, _, (scores, nearest) = evaluated()
    planted = [f"planted_{kind}" for kind in KINDS]
    expected = [
        *METRICS,
        *BY_RADIOMICS.values(),
        "suspected_copies",
        *planted,
        "leaked_held_out",
        "membership_auc",
    ]
    for _, rows in scores.groupby("variant"):
        assert list(rows["metric"]) == expected
    assert list(scores["variant"].unique()) == ["gan/healthy", "gan/sick", "gan/all"]
    assert list(nearest.columns) == ["image_id", "nearest_image_id", "agreement", "suspected", "variant"]
    assert nearest["variant"].value_counts().to_dict() == {"gan/healthy": 10, "gan/sick": 10, "gan/all": 20}


def test_the_radiomics_distance_is_of_noise_to_noise_and_frd_is_the_logarithm():
    train, synthetic, (scores, _) = evaluated()
    rows = scores[scores["variant"] == "gan/all"].set_index("metric")
    assert rows.loc["radiomics_distance", "ci_low"] < 0 < rows.loc["radiomics_distance", "ci_high"]
    whole = frechet_radiomics_distance(train.radiomics, synthetic.radiomics)
    assert rows.loc["frd", "value"] == pytest.approx(whole, abs=0.3)  # of 16 of the 20 images


def test_flat_images_with_a_few_of_one_grey_are_far():
    train, _, _ = evaluated()
    rng = np.random.default_rng(1)
    held_out, flat = rng.random((16, 1, 16, 16), dtype=np.float32), rng.normal(0.5, 0.007, (40, 1, 16, 16))
    flat[::10] = 0.5
    sets = judged(held_out, "h"), judged(flat.astype(np.float32), "s")
    scores, _ = evaluate_generators(train, *sets, "gan", Fidelity(resamples=1))
    assert scores.query("variant == 'gan/all' and metric == 'radiomics_distance'")["ci_low"].item() > 0.6


def test_of_three_images_again_and_again_radiomics_see_precision_and_no_recall():
    rng = np.random.default_rng(0)
    train, held_out = (judged(rng.random((24, 1, 16, 16), dtype=np.float32), name) for name in "th")
    three = judged(train.images[np.arange(24) % 3], "s")
    scores, _ = evaluate_generators(train, held_out, three, "gan", Fidelity(resamples=3), refused=True)
    rows = scores[scores["variant"] == "gan/all"].set_index("metric")
    assert "precision" not in rows.index
    assert rows.loc["radiomics_precision", "value"] == 1
    # With all neighbours in the same place, the balls hold nothing but the three themselves.
    assert rows.loc["radiomics_recall", "value"] == pytest.approx(3 / 24)
    assert rows.loc["radiomics_recall", "reference"] > 0.5


def test_features_of_other_images_are_refused():
    train, _, _ = evaluated()
    strange = FeatureSet(train.features, train.manifest.assign(image_id="x"))
    with pytest.raises(ValueError, match="features of 24 images are not those of the 24 images"):
        JudgedSet.of(train.image_set(), strange)


def test_the_network_of_ones_own_is_one_more_referee_and_judges_no_patient_it_knows():
    train, synthetic, (before, _) = evaluated()
    held_out = judged(np.random.default_rng(1).random((16, 1, 16, 16), dtype=np.float32), "h")
    known = train.select(np.arange(24) < 12)
    encoder = train_encoder(known.image_set(), 2, seed=0)
    scores, _ = evaluate_generators(train, held_out, synthetic, "gan", Fidelity(resamples=3), encoder=encoder)
    rows = scores[scores["metric"] == "encoder_distance"].set_index("variant")
    assert list(rows.index) == ["gan/healthy", "gan/sick", "gan/all"]
    assert list(rows["images"]) == [10, 10, 20]
    assert ((rows["ci_low"] < 0) & (rows["ci_high"] > 0)).all()  # noise and noise
    strangers = train.select(np.arange(24) >= 12)
    features = [encoder.features(each.image_set()) for each in (strangers, held_out, synthetic)]
    assert rows.loc["gan/all", ["value", "reference"]].tolist() == [
        compare_unbiased(*features, 0).set_index("metric").loc["energy_distance", name]
        for name in ("value", "reference")
    ]
    assert "encoder_distance" not in set(before["metric"])
    with pytest.raises(DataError, match="found 't0' and 3 others that it was trained on"):
        evaluate_generators(train, train.select(np.arange(24) < 8), synthetic, "gan", Fidelity(), encoder=encoder)


def test_copies_of_one_generator_of_all_classes_are_looked_for_among_the_training_images_of_all():
    train, synthetic, _ = evaluated()
    held_out = judged(np.random.default_rng(1).random((16, 1, 16, 16), dtype=np.float32), "h")
    copied = synthetic.images.copy()
    copied[0] = train.images[1]  # a healthy one, of a sick one
    drawn = judged(copied, "s")
    nearest = {
        conditional: evaluate_generators(
            train, held_out, drawn, "gan", Fidelity(resamples=3), refused=True, conditional=conditional
        )[1].set_index(["variant", "image_id"])["nearest_image_id"]
        for conditional in (False, True)
    }
    assert nearest[True]["gan/healthy", "s0"] == nearest[True]["gan/all", "s0"] == "t1"
    assert int(nearest[False]["gan/healthy", "s0"][1:]) % 2 == 0
    assert nearest[True]["gan/all"].equals(nearest[False]["gan/all"])


def test_a_network_that_helped_to_train_a_generator_says_nothing_of_it():
    train, synthetic, (before, _) = evaluated()
    held_out = judged(np.random.default_rng(1).random((16, 1, 16, 16), dtype=np.float32), "h")
    scores, _ = evaluate_generators(train, held_out, synthetic, "gan", Fidelity(resamples=3), refused=True)
    assert set(before["metric"]) - set(scores["metric"]) == set(METRICS)
    assert set(scores["variant"]) == set(before["variant"])
