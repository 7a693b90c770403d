"""The difference of two arms: closed forms and reference implementations of what it is made of."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scangan.arms import ARMS, find_arm
from scangan.config import Evaluation
from scangan.errors import DataError
from scangan.metrics.comparison import (
    COLUMNS,
    Replicates,
    compare,
    compare_arms,
    counterpart,
    detectable_difference,
    holm,
    influence_of_patients,
    replicates_of,
)

SETTINGS = Evaluation()


def delong(probabilities, label):
    """Covariances [trainings, trainings] of the AUCs, by DeLong, DeLong and Clarke-Pearson's placement values."""
    on, off = probabilities[:, label], probabilities[:, ~label]
    order = (on[:, :, None] > off[:, None, :]) + 0.5 * (on[:, :, None] == off[:, None, :])
    return np.cov(order.mean(axis=2)) / on.shape[1] + np.cov(order.mean(axis=1)) / off.shape[1]


def predictions(arms, trainings=3, patients=60, images=1, seed=0, parts=("validation", "test")):
    """Every arm's mean logits lie this far apart."""
    rng = np.random.default_rng(seed)
    patient = np.arange(patients).repeat(images)
    label = patient % 3 == 0
    found = {}
    difficulty = rng.normal(size=(len(parts), patients))[:, patient]
    for arm, separation in arms.items():
        found[arm] = []
        for _ in range(trainings):
            logits = separation * (label - 0.5) + difficulty + 0.7 * rng.normal(size=difficulty.shape)
            tables = [
                pd.DataFrame(
                    {
                        "image_id": [f"{part}{number:05}" for number in range(len(patient))],
                        "patient_id": [f"p{number:04}" for number in patient],
                        "label": np.where(label, "sick", "healthy"),
                        "split": part,
                        "probability": 1 / (1 + np.exp(-each)),
                    }
                )
                for part, each in zip(parts, logits, strict=True)
            ]
            found[arm].append(pd.concat(tables, ignore_index=True))
    return found


def test_the_covariances_of_the_auc_are_those_of_delong():
    rng = np.random.default_rng(0)
    label = rng.random(50) < 0.4
    probabilities = (label + rng.normal(size=50) + rng.normal(size=(4, 50))).round(1)  # with ties
    probabilities = (probabilities - probabilities.min()) / np.ptp(probabilities)
    influence = influence_of_patients(probabilities, label, np.arange(50), ["auc"])["auc"]
    assert influence @ influence.T == pytest.approx(delong(probabilities, label), rel=1e-9)


def test_the_variance_of_a_specificity_is_that_of_a_share():
    label, probability = np.arange(30) >= 20, np.where(np.arange(30) < 5, 0.9, 0.1)
    influence = influence_of_patients(probability[None], label, np.arange(30), ["specificity"])["specificity"]
    assert influence @ influence.T == pytest.approx(np.array([[0.75 * 0.25 / 19]]))


def test_images_of_a_patient_count_as_one_case():
    rng = np.random.default_rng(1)
    label, probability = np.arange(40) % 2 == 1, rng.random((2, 40))
    single = influence_of_patients(probability, label, np.arange(40), ["auc", "accuracy"])
    patient = np.arange(40).repeat(5)
    fivefold = influence_of_patients(probability.repeat(5, axis=1), label.repeat(5), patient, ["auc", "accuracy"])
    for metric, influence in single.items():
        assert fivefold[metric] == pytest.approx(influence)


def test_a_class_of_a_single_patient_says_nothing_of_others():
    found = influence_of_patients(np.full((2, 6), 0.5), np.arange(6) == 2, np.arange(6), ["auc"])["auc"]
    assert np.isnan(found).all()
    arm = Replicates(np.array([0.5, 0.6]), found)
    difference = compare(arm, arm)
    assert difference.difference == 0
    assert np.isnan([difference.difference_low, difference.p_value, difference.detectable]).all()


def test_where_nothing_varies_nothing_is_said():
    """All right against all wrong: what rounding leaves is no spread."""
    label, patient = np.arange(60) % 3 == 0, np.arange(60)
    arms = [
        replicates_of(
            np.where(label, right, 1 - right) * np.ones((3, 1)), label, patient, np.zeros(3, int), ["auc", "f1"]
        )
        for right in (0.9, 0.1)
    ]
    for metric in ("auc", "f1"):
        found = compare(arms[0][metric], arms[1][metric])
        assert found.difference == pytest.approx(1)
        assert np.isnan([found.difference_low, found.difference_high, found.p_value, found.detectable]).all()


def test_without_noise_of_cases_it_is_welchs_t_test():
    """Thousands of cases that all trainings see alike leave the trainings alone."""
    one, other = np.array([0.80, 0.85, 0.90, 0.70]), np.array([0.60, 0.66, 0.62])
    found = compare(Replicates(one, np.zeros((4, 9))), Replicates(other, np.zeros((3, 9))))
    expected = stats.ttest_ind(one, other, equal_var=False)
    interval = expected.confidence_interval()
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.difference_low, found.difference_high) == pytest.approx((interval.low, interval.high))


def test_equal_arms_give_hillis_f_test():
    """Where both arms are as spread, it is his F with t (r - 1) degrees of freedom for the spread."""
    rng = np.random.default_rng(2)
    r, deviation = 5, np.array([-0.1, -0.05, 0.0, 0.05, 0.1])
    influence = (
        0.05 * rng.normal(size=(2 * r, 30)) / 30**0.5 + 0.2 * np.repeat(rng.normal(size=(2, 30)), r, axis=0) / 30
    )
    arms = [Replicates(mean + deviation, influence[at : at + r]) for mean, at in ((0.8, 0), (0.7, r))]
    covariance = influence @ influence.T
    blocks = [covariance[:r, :r], covariance[r:, r:]]
    cov2 = np.mean([block[~np.eye(r, dtype=bool)].mean() for block in blocks])
    cov3 = covariance[:r, r:].mean()
    between, within = r * np.var([0.8, 0.7], ddof=1), deviation.var(ddof=1)
    error = within + r * max(cov2 - cov3, 0)
    freedom = error**2 / (within**2 / (2 * (r - 1)))
    assert cov2 > cov3
    assert compare(*arms).p_value == pytest.approx(stats.f.sf(between / error, 1, freedom))


def test_a_single_training_covers_the_cases_alone():
    rng = np.random.default_rng(3)
    label = np.arange(80) % 2 == 1
    probability = 1 / (1 + np.exp(-(label + rng.normal(size=80) + 0.5 * rng.normal(size=(2, 80)))))
    arms = [replicates_of(each[None], label, np.arange(80), np.zeros(1, int), ["auc"])["auc"] for each in probability]
    found = compare(*arms)
    (one, both), (_, other) = delong(probability, label)
    error = np.sqrt(one + other - 2 * both)
    assert found.difference_high - found.difference == pytest.approx(stats.norm.ppf(0.975) * error, rel=1e-3)
    assert np.isnan(found.p_value)
    assert np.isnan(found.training_variance)


def test_what_can_be_detected_with_many_trainings_is_the_normal_formula():
    assert detectable_difference(0.1, 1e4) == pytest.approx(0.1 * (1.95996 + 0.84162), rel=1e-3)


def test_what_can_be_detected_has_a_power_of_80_percent():
    """By drawing: the mean of so many small samples, whose spread is estimated and not known."""
    rng, freedom, error = np.random.default_rng(4), 4, 1.0
    estimated = error * np.sqrt(rng.chisquare(freedom, 20_000) / freedom)
    # The errors that were estimated say on average what the true one would, without the correction for its estimate.
    distance = detectable_difference(1.0, freedom) * estimated.mean()
    power = (np.abs(distance + rng.normal(size=20_000)) / estimated > stats.t.ppf(0.975, freedom)).mean()
    assert power == pytest.approx(0.8, abs=0.01)


def test_holm():
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.5, 0.6])) == pytest.approx([1, 1])
    assert holm(np.array([np.nan, 0.01])) == pytest.approx([np.nan, 0.02], nan_ok=True)


def test_the_counterpart_has_the_same_real_images():
    found = {name: counterpart(arm) for name, arm in ARMS.items() if arm.reads_synthetic}
    assert found == {
        "synthetic": "real",
        "real+synthetic": "real",
        "synthetic-then-real": "real",
        "real+classical+synthetic": "real+classical",
    }
    assert counterpart(find_arm("real+synthetic-x2")) == "real"
    assert counterpart(find_arm("real+classical+synthetic:projected_gan")) == "real+classical"


def test_arms_are_compared_with_their_counterpart_and_with_the_best():
    arms = {"real": 1.0, "real+classical": 2.0, "real+synthetic": 1.5, "real+classical+synthetic": 3.0}
    found = compare_arms(predictions(arms), "sick", SETTINGS)
    assert list(found.columns) == COLUMNS
    pairs = found[found["metric"] == "auc"].set_index(["arm", "against"])
    assert pairs[["counterpart", "best"]].to_dict("index") == {
        ("real+synthetic", "real"): {"counterpart": True, "best": False},
        ("real+synthetic", "real+classical"): {"counterpart": False, "best": True},
        ("real+classical+synthetic", "real+classical"): {"counterpart": True, "best": True},
    }
    assert pairs["p_holm"].notna().all()
    assert found.loc[found["metric"] != "auc", "p_holm"].isna().all()
    assert found["difference_low"].notna().all()
    assert set(found["smaller_class"]) == {20}
    primary = compare_arms(predictions(arms), "sick", Evaluation(primary="f1"))
    assert set(primary.loc[primary["p_holm"].notna(), "metric"]) == {"f1"}


def test_an_arm_is_compared_with_its_control_where_that_was_asked_for():
    arms = {"real": 1.0, "real+copies": 0.8, "synthetic": 1.0, "real+synthetic": 1.5}
    found = compare_arms(predictions(arms), "sick", SETTINGS)
    reasons = found[found["metric"] == "auc"].set_index(["arm", "against"])[["counterpart", "control", "best"]]
    assert reasons.apply(lambda row: [name for name in reasons if row[name]], axis=1).to_dict() == {
        ("synthetic", "real"): ["counterpart", "best"],
        ("real+synthetic", "real"): ["counterpart", "best"],
        ("real+synthetic", "real+copies"): ["control"],
    }
    further = compare_arms(predictions(arms | {"real+synthetic:other": 1.2}), "sick", SETTINGS)
    mine = further[(further["metric"] == "auc") & (further["arm"] == "real+synthetic:other")]
    assert list(mine["against"]) == ["real", "real+copies"]
    assert list(mine["control"]) == [False, True]
    better = compare_arms(predictions(arms | {"real+copies": 3.0}), "sick", SETTINGS)
    pair = better[(better["metric"] == "auc") & (better["against"] == "real+copies")].set_index("arm")
    assert pair[["control", "best"]].to_dict("index") == {
        "synthetic": {"control": False, "best": True},
        "real+synthetic": {"control": True, "best": True},
    }


def test_the_best_arm_is_chosen_on_the_validation_images():
    arms = predictions({"real": 1.0, "real+classical": 1.0, "real+synthetic": 1.0})
    best = {}
    for lucky in ("real", "real+classical"):
        changed = {arm: [table.copy() for table in tables] for arm, tables in arms.items()}
        for arm, part in ((lucky, "validation"), (({"real", "real+classical"} - {lucky}).pop(), "test")):
            for table in changed[arm]:
                rows = table["split"] == part
                table.loc[rows, "probability"] = np.where(table.loc[rows, "label"] == "sick", 0.9, 0.1)
        found = compare_arms(changed, "sick", SETTINGS)
        best[lucky] = found.loc[found["best"], "against"].iloc[0]
    assert best == {"real": "real", "real+classical": "real+classical"}
    with pytest.raises(DataError, match="found no images in the validation set, allowed: both classes"):
        compare_arms(predictions({"real": 1, "real+classical": 1, "synthetic": 1}, parts=["test"]), "sick", SETTINGS)


def test_without_arms_to_compare_the_table_is_empty():
    for arms in ({"real": 1.0, "real+classical": 1.0}, {"synthetic": 1.0}):
        found = compare_arms(predictions(arms), "sick", SETTINGS)
        assert found.empty
        assert list(found.columns) == COLUMNS


def test_generators_are_the_trainings_of_an_arm_that_has_several():
    arms = predictions({"real": 1.0, "real+synthetic": 1.5}, trainings=6)
    seeds = {"real": [None] * 6, "real+synthetic": [7, 7, 8, 8, 9, 9]}
    found = compare_arms(arms, "sick", SETTINGS, seeds).set_index("metric").loc["auc"]
    assert (found["trainings"], found["against_trainings"], found["generators"]) == (3, 6, 3)
    one = compare_arms(arms, "sick", SETTINGS, seeds | {"real+synthetic": [7] * 6}).set_index("metric").loc["auc"]
    assert (one["trainings"], one["generators"]) == (6, 1)
    label, patient = np.arange(60) % 3 == 0, np.arange(60)
    probability = np.random.default_rng(5).random((4, 60))
    pooled = replicates_of(probability, label, patient, np.array([0, 1, 0, 1]), ["auc"])["auc"]
    single = replicates_of(probability, label, patient, np.zeros(4, int), ["auc"])["auc"]
    assert pooled.value == pytest.approx([single.value[[0, 2]].mean(), single.value[[1, 3]].mean()])
    assert pooled.influence[0] == pytest.approx(single.influence[[0, 2]].mean(axis=0))


def test_many_patients_are_left_out_a_chunk_at_a_time(monkeypatch):
    found = predictions({"real": 1.0, "synthetic": 1.5}, images=2)
    whole = compare_arms(found, "sick", SETTINGS)
    monkeypatch.setattr("scangan.metrics.comparison.CHUNK", 500)
    pd.testing.assert_frame_equal(compare_arms(found, "sick", SETTINGS), whole)


def test_five_arms_nine_trainings_and_a_thousand_cases_take_seconds():
    arms = ("real", "real+classical", "synthetic", "real+synthetic", "synthetic-then-real")
    found = predictions(dict.fromkeys(arms, 2.0), trainings=9, patients=1000)
    start = time.process_time()
    compared = compare_arms(found, "sick", SETTINGS)
    assert time.process_time() - start < 10
    assert (compared[["patients", "trainings"]] == [1000, 9]).all(axis=None)
