"""The judges' shares by hand, their intervals against closed forms."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from scangan.config import Evaluation, Judge
from scangan.errors import DataError
from scangan.metrics.judge import judge_sets

SETTINGS = Evaluation(bootstrap=2000)


def judgement(**probabilities):
    """One judge's table: network -> its probabilities, in the order of synthesis."""
    parts = []
    for gan, probability in probabilities.items():
        seeds = np.arange(len(probability)) + 1000
        names = [f"{gan}-covid-{seed}" for seed in seeds]
        parts.append(pd.DataFrame({"gan": gan, "image_id": names, "synthesis_seed": seeds, "probability": probability}))
    return pd.concat(parts, ignore_index=True)


def prediction(positive, negative, patients=None):
    """One judge's predictions of real test images, and of a training image that must not count."""
    label = ["covid"] * len(positive) + ["other"] * len(negative)
    names = [f"image{number}" for number in range(len(label))]
    test = pd.DataFrame({"image_id": names, "patient_id": patients or names, "label": label, "split": "test"})
    test["probability"] = np.concatenate([positive, negative]).astype(float)
    train = pd.DataFrame([("t", "t", "covid", "train", 0.0)], columns=test.columns)
    return pd.concat([train, test], ignore_index=True)


REAL = prediction([0.9, 0.8, 0.5, 0.1], [0.4, 0.6])


def judge(judgements, predictions=None, sets=2, images=2, settings=SETTINGS):
    predictions = predictions or [REAL] * len(judgements)
    return judge_sets(judgements, predictions, "covid", Judge(sets=sets, images=images), settings)


def values(scores, column="value"):
    return scores.set_index(["variant", "set"])[column].to_dict()


def test_shares_by_hand():
    first = judgement(dcgan=[0.5, 0.4, 0.9, 0.9, 0.9], other=[0.1, 0.1, 0.1, 0.2])  # the fifth is of no set
    second = judgement(dcgan=[0.6, 0.6, 0.9, 0.1, 0.9], other=[0.1, 0.1, 0.7, 0.2])
    scores = judge([first, second], [REAL, REAL.assign(probability=0.0)])
    assert list(scores.columns) == ["variant", "metric", "set", "value", "ci_low", "ci_high", "images", "seeds"]
    assert values(scores) == {
        ("dcgan/covid", "1"): 0.75,
        ("dcgan/covid", "2"): 0.75,
        ("dcgan/covid", "mean"): 0.75,
        ("other/covid", "1"): 0.0,
        ("other/covid", "2"): 0.25,
        ("other/covid", "mean"): 0.125,
        ("real/covid", "mean"): 0.375,
        ("real/other", "mean"): 0.25,
    }
    assert list(scores["images"]) == [2, 2, 4, 2, 2, 4, 4, 2]
    assert set(scores["seeds"]) == {2}
    assert set(scores["metric"]) == {"judged_positive"}


def test_sets_follow_the_order_of_synthesis_not_that_of_the_rows():
    table = judgement(dcgan=[0.9, 0.9, 0.1, 0.2])
    for rows in (table, table[::-1], table.iloc[[2, 0, 3, 1]]):
        scores = judge([rows, table])
        assert values(scores)["dcgan/covid", "1"] == 1
        assert values(scores)["dcgan/covid", "2"] == 0
    pd.testing.assert_frame_equal(judge([table, table]), judge([table[::-1], table]))


def test_one_judges_interval_is_that_of_a_proportion():
    """The bootstrap of a share is binomial."""
    scores = judge([judgement(dcgan=np.arange(400) % 5 < 2)], sets=4, images=100)
    for name, number in (("3", 100), ("mean", 400)):
        row = scores[(scores["variant"] == "dcgan/covid") & (scores["set"] == name)].iloc[0]
        assert row["value"] == 0.4
        expected = binom.ppf([0.025, 0.975], number, 0.4) / number
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(expected, abs=0.011)


def test_judges_that_disagree_widen_the_interval():
    """Two judges of opposite opinion: a quarter of the draws has only the one, a quarter only the other."""
    always, never = judgement(dcgan=np.ones(4)), judgement(dcgan=np.zeros(4))
    row = judge([always, never]).iloc[-3]
    assert (row["set"], row["value"], row["ci_low"], row["ci_high"]) == ("mean", 0.5, 0, 1)
    row = judge([always, always]).iloc[-3]
    assert (row["value"], row["ci_low"], row["ci_high"]) == (1, 1, 1)


def test_real_images_of_a_patient_are_drawn_together():
    """Ten identical images of each patient say no more than one."""
    positive, synthetic = np.arange(40) % 4 > 0, judgement(dcgan=np.ones(4))
    single = judge([synthetic], [prediction(positive, positive)])
    patients = [f"p{number}" for number in np.repeat(np.arange(80), 10)]
    tenfold = judge([synthetic], [prediction(np.repeat(positive, 10), np.repeat(positive, 10), patients)])
    for column in ("value", "ci_low", "ci_high"):
        assert values(tenfold, column) == pytest.approx(values(single, column))
    assert values(single, "ci_low")["real/covid", "mean"] < 0.65
    assert values(tenfold, "images")["real/covid", "mean"] == 400


def test_a_second_run_gives_the_same_and_another_seed_does_not():
    table = judgement(dcgan=np.random.default_rng(0).random(200))
    first, again, other = (
        judge([table], images=100, settings=Evaluation(bootstrap=200, seed=seed)) for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, again)
    assert not first["ci_low"].equals(other["ci_low"])


def test_what_does_not_fit_is_named():
    table = judgement(dcgan=[0.9, 0.9, 0.1, 0.2])
    with pytest.raises(DataError, match="of dcgan: images: found 4, allowed: at least 6, 3 sets of 2"):
        judge([table], sets=3)
    with pytest.raises(DataError, match="of dcgan, seed 1: image_id: found 3 images that are not the 4 of the first"):
        judge([table, table[:3]])
    renamed = table.assign(image_id=table["image_id"] + "x")
    with pytest.raises(DataError, match="of dcgan, seed 1: image_id: found 4 images"):
        judge([table, renamed])
    with pytest.raises(DataError, match="of dcgan, seed 0: probability: found nan, allowed: 0 to 1"):
        judge([table.assign(probability=np.nan)])
    with pytest.raises(DataError, match="seed 1: image_id: found 5 test images that are not the 6"):
        judge([table, table], [REAL, REAL[:-1]])
    with pytest.raises(DataError, match=r"label: found only \['other'\] in the test set, allowed: two classes or more"):
        judge([table], [prediction([], [0.1, 0.2])])


def test_each_further_class_has_a_row_of_its_own():
    three = REAL.assign(label=REAL["label"].mask(REAL["image_id"] == "image5", "third"))
    scores = judge([judgement(dcgan=[0.5, 0.4, 0.9, 0.9])], [three])
    assert values(scores)["real/covid", "mean"] == 0.75
    assert values(scores)["real/other", "mean"] == 0.0
    assert values(scores)["real/third", "mean"] == 1.0
