"""Scores against scikit-learn, intervals against what they promise."""

import itertools
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm
from sklearn import metrics as reference

from scangan.config import Evaluation
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.classification import read_predictions
from scangan.metrics.classifier_metrics import (
    METRICS,
    Metric,
    calibration_bins,
    calibration_error_by_chance,
    metric_names,
    metrics_of,
    weighted_metrics,
)
from scangan.metrics.comparison import compare_arms
from scangan.metrics.scores import score_arms
from scangan.report.classification_tables import calibration_table, classification_table, write_classification

SETTINGS = Evaluation(bootstrap=200)


def table(probability, label, patient=None, split="test"):
    names = [f"image{number:04d}" for number in range(len(label))]
    return pd.DataFrame(
        {
            "image_id": names,
            "patient_id": names if patient is None else patient,
            "label": np.where(label, "haemorrhage", "normal"),
            "split": split,
            "probability": probability,
        }
    )


def simulate(rng, label, separation, seeds=3, noise=0.5):
    """Predictions of `seeds` classifiers that share the difficulty of each case."""
    difficulty = rng.normal(size=len(label))
    logits = [separation * (label - 0.5) + difficulty + noise * rng.normal(size=len(label)) for _ in range(seeds)]
    return 1 / (1 + np.exp(-np.array(logits)))


def wide(scores, column="value"):
    return scores.pivot(index="arm", columns="metric", values=column)


def test_weighted_metrics_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    label = rng.random(60) < 0.4
    probability = simulate(rng, label, 1.0, seeds=2).round(1)  # many ties, and exactly 0.5 among them
    weights = rng.integers(0, 4, size=(5, 60)).astype(float)
    ours = weighted_metrics(probability, label, weights)
    for (row, weight), (column, scores) in itertools.product(enumerate(weights), enumerate(probability)):
        drawn = np.repeat(np.arange(60), weight.astype(int))
        y, p = label[drawn], scores[drawn]
        bins = pd.DataFrame({"y": y, "p": p}).groupby(calibration_bins(p))
        expected = {
            "accuracy": reference.accuracy_score(y, p >= 0.5),
            "sensitivity": reference.recall_score(y, p >= 0.5),
            "specificity": reference.recall_score(~y, p < 0.5),
            "f1": reference.f1_score(y, p >= 0.5),
            "auc": reference.roc_auc_score(y, p),
            "brier": reference.brier_score_loss(y, p),
            "expected_calibration_error": sum(abs(part["y"].mean() - part["p"].mean()) * len(part) for _, part in bins)
            / len(y),
        }
        for metric in metric_names():
            assert ours[metric][row, column] == pytest.approx(expected[metric]), metric


def test_f1_without_a_true_positive_is_zero():
    label = np.arange(6) < 2
    never, wrongly = np.zeros(6), np.where(label, 0.1, 0.9)
    ours = weighted_metrics(np.stack([never, wrongly]), label, np.ones((1, 6)))
    expected = [reference.f1_score(label, p >= 0.5, zero_division=0) for p in (never, wrongly)]
    assert ours["f1"][0].tolist() == expected == [0, 0]


def test_scores_are_means_over_seeds_of_the_test_images_only():
    label = np.arange(40) % 2 == 1
    right, wrong = np.where(label, 0.9, 0.1), np.where(label, 0.1, 0.9)
    validation = table(wrong, label, split="validation").assign(image_id=lambda rows: "v" + rows["image_id"])
    seeds = [pd.concat([table(values, label), validation]) for values in (right, right, wrong)]
    scores = score_arms({"real": seeds}, "haemorrhage")
    assert list(scores.columns) == ["arm", "metric", "value", "ci_low", "ci_high", "seeds", "cases", "if_calibrated"]
    assert wide(scores).loc["real", "accuracy"] == pytest.approx(2 / 3)
    assert (scores["cases"] == 40).all()
    assert (scores["seeds"] == 3).all()
    assert set(scores.loc[scores["if_calibrated"].notna(), "metric"]) == set(metrics_of("calibration"))
    interval = scores.set_index("metric").loc["accuracy"]
    assert interval["ci_low"] < 0.01  # three trainings that differ as much say next to nothing
    assert interval["ci_high"] > 0.99


def test_row_order_does_not_matter_and_a_second_run_gives_the_same():
    rng = np.random.default_rng(1)
    label = np.arange(30) % 2 == 1
    arms = {arm: [table(p, label) for p in simulate(rng, label, 1.0)] for arm in ("real", "synthetic")}
    shuffled = {arm: [seed.sample(frac=1, random_state=3) for seed in seeds] for arm, seeds in arms.items()}
    pd.testing.assert_frame_equal(score_arms(arms, "haemorrhage"), score_arms(shuffled, "haemorrhage"))


def test_intervals_cover_the_true_accuracy():
    """With one training and independent cases: near 95%, never far below."""
    rng = np.random.default_rng(2)
    label, truth, covered = np.arange(80) % 2 == 1, 0.8, 0
    for _ in range(150):
        correct = rng.random(80) < truth
        seeds = [table(np.where(correct == label, 0.9, 0.1), label)]
        row = score_arms({"real": seeds}, "haemorrhage").iloc[0]
        covered += row["ci_low"] <= truth <= row["ci_high"]
    assert 0.88 <= covered / 150 <= 0.99


def test_images_of_a_patient_are_drawn_together():
    """Ten identical images of a patient say no more than one: the interval is that of the patients."""
    rng = np.random.default_rng(3)
    label = np.arange(40) % 2 == 1
    probability = simulate(rng, label, 1.0, seeds=1)[0]
    single = score_arms({"real": [table(probability, label)]}, "haemorrhage")
    patient = [f"patient{number:03d}" for number in np.repeat(np.arange(40), 10)]
    tenfold = table(np.repeat(probability, 10), np.repeat(label, 10), patient)
    repeated = score_arms({"real": [tenfold]}, "haemorrhage")
    for column in ("value", "ci_low", "ci_high"):
        assert repeated[column].to_numpy() == pytest.approx(single[column].to_numpy())


def test_a_class_of_a_single_patient_has_scores_without_an_interval():
    label = np.arange(40) == 7  # a single positive image
    patient = ["both" if number in (7, 8) else f"patient{number}" for number in range(40)]
    scores = score_arms({"real": [table(np.linspace(0, 1, 40), label, patient)]}, "haemorrhage")
    assert scores["value"].notna().all()
    assert scores[["ci_low", "ci_high"]].isna().all(axis=None)


def test_the_interval_of_one_training_is_that_of_a_proportion():
    """On the logit scale, with the variance of a proportion p among n: p (1 - p) / (n - 1)."""
    label = np.arange(60) < 20
    called = np.arange(60) % 5 == 0
    row = score_arms({"real": [table(np.where(called, 0.9, 0.1), label)]}, "haemorrhage").set_index("metric")
    p, n = 4 / 20, 20
    margin = norm.ppf(0.975) * np.sqrt(p * (1 - p) / (n - 1)) / (p * (1 - p))
    expected = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + margin * np.array([-1, 1]))))
    assert row.loc["sensitivity", "value"] == pytest.approx(p)
    assert row.loc["sensitivity", ["ci_low", "ci_high"]].to_numpy(float) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("trainings", [1, 3])
def test_where_nothing_varies_the_patients_alone_bound_the_score(trainings):
    label = np.arange(30) < 10
    rows = score_arms({"real": [table(np.where(label, 0.9, 0.1), label)] * trainings}, "haemorrhage")
    rows = rows.set_index("metric")
    low = binomtest(10, 10).proportion_ci(0.95).low  # of Clopper and Pearson; ten patients in the smaller class
    for metric in ("sensitivity", "specificity", "auc"):
        assert tuple(rows.loc[metric, ["value", "ci_low", "ci_high"]]) == pytest.approx((1, low, 1))
    constant = score_arms({"real": [table(np.full(30, 0.9), label)] * trainings}, "haemorrhage").set_index("metric")
    assert constant.loc["auc", "value"] == 0.5
    assert constant.loc["auc", ["ci_low", "ci_high"]].isna().all()
    assert constant.loc["specificity", "ci_high"] == pytest.approx(1 - low)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.iloc[1:], "image_id: found 19 test images"),
        (lambda rows: rows.assign(label=rows["label"].to_numpy()[::-1]), "image_id"),
        (lambda rows: rows.assign(probability=np.nan), "seed 1: probability: found nan, allowed: 0 to 1"),
        (lambda rows: rows.assign(probability=1.5), "probability: found 1.5"),
    ],
)
def test_contradicting_predictions_are_named(change, message):
    rows = table(np.linspace(0, 1, 20), np.arange(20) % 2 == 1)
    with pytest.raises(DataError, match=message):
        score_arms({"real": [rows, change(rows)]}, "haemorrhage")


def test_several_generators_are_resampled_whole():
    """Three generators that differ, two classifiers of each that do not: an interval as of three trainings."""
    label = np.arange(200) % 2 == 1
    tables = [table(np.where(label, right, 1 - right), label) for right in (0.9, 0.9, 0.1)]
    alone = score_arms({"synthetic": tables}, "haemorrhage")
    twice = {"synthetic": [each for each in tables for _ in range(2)]}
    crossed = score_arms(twice, "haemorrhage", {"synthetic": [0, 0, 1, 1, 2, 2]})
    pd.testing.assert_frame_equal(crossed.assign(seeds=3), alone)
    pretended = score_arms(twice, "haemorrhage")
    assert pretended["ci_low"].iloc[0] > 10 * alone["ci_low"].iloc[0] > 0
    one = score_arms(twice, "haemorrhage", {"synthetic": [0] * 6})
    pd.testing.assert_frame_equal(one, pretended)


def test_predictions_are_read_arm_by_arm_and_training_by_training(tmp_path):
    rows = table(np.linspace(0, 1, 20), np.arange(20) % 2 == 1)
    files = [str(tmp_path / f"{number}.parquet") for number in range(4)]
    for number, file in enumerate(files):
        rows.assign(probability=number / 10).to_parquet(file)
    read = read_predictions(files, {"real": [None, None], "synthetic": [0, 1]})
    assert {arm: [seed["probability"].iloc[0] for seed in seeds] for arm, seeds in read.items()} == {
        "real": [0.0, 0.1],
        "synthetic": [0.2, 0.3],
    }


def test_one_class_is_an_error():
    rows = table(np.linspace(0, 1, 20), np.arange(20) % 2 == 1)
    with pytest.raises(DataError, match="label: found only normal"):
        score_arms({"real": [rows.assign(label="normal")]}, "haemorrhage")


STORED = """
arm,metric,value,ci_low,ci_high
real,accuracy,0.3,0.18604723306979204,0.4455433775616765
real,sensitivity,0.0,0.0,0.4096163972250034
real,specificity,0.46153846153846156,0.27870263101091264,0.6553420320179556
real,f1,0.0,0.0,0.4096163972250034
real,auc,0.03296703296703297,0.004985530286858976,0.18827903566748172
real,brier,0.4055000000000001,0.36501572900406964,0.4473113589059657
real,expected_calibration_error,0.515,0.3992701771515426,0.6291432219252945
synthetic,accuracy,0.7000000000000001,0.29988760115651314,0.9270632299982491
synthetic,sensitivity,0.619047619047619,0.22506592275834486,0.9009120898908949
synthetic,specificity,0.7435897435897436,0.32157223717617606,0.9466460512878245
synthetic,f1,0.5968253968253968,0.18649793872270684,0.9052901957887546
synthetic,auc,0.6556776556776557,0.22936996746784935,0.9241456176285909
synthetic,brier,0.21350000000000002,0.09425694352075102,0.4145515961914942
synthetic,expected_calibration_error,0.2496666666666667,0.13957246710420548,0.405659979322319
"""


def test_the_scores_of_a_known_case_stay_as_they_are():
    """As they were when the published tables were made; another machine may differ in the last digit."""
    label, patient = np.arange(20) % 3 == 0, [f"p{number // 2}" for number in range(20)]
    probability = np.arange(20) * [[7], [11], [13], [17]] % 20 / 25 + 0.1 * label
    seeds = [table(values, label, patient) for values in probability]
    scores = score_arms({"real": seeds[:1], "synthetic": seeds[1:]}, "haemorrhage")
    stored = pd.read_csv(StringIO(STORED))
    pd.testing.assert_frame_equal(scores[list(stored)], stored, rtol=1e-9)


def test_a_new_metric_costs_its_entry_alone(monkeypatch, tmp_path):
    npv = Metric(
        "negative_predictive_value",
        value=lambda drawn: drawn.weights @ (~drawn.called & drawn.off) / (drawn.weights @ ~drawn.called),
        tables=("classification",),
        decimals=4,
    )
    rng = np.random.default_rng(7)
    label = np.arange(40) % 2 == 1
    arms = {
        arm: [table(p, label) for p in simulate(rng, label, separation)]
        for arm, separation in (("real", 1.0), ("synthetic", 3.0))
    }
    before = score_arms(arms, "haemorrhage")
    monkeypatch.setitem(METRICS, npv.name, npv)
    scores = score_arms(arms, "haemorrhage")
    others = scores[scores["metric"] != npv.name].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, before, check_exact=False)
    row = scores.set_index(["arm", "metric"]).loc["synthetic", npv.name]
    right = [reference.precision_score(~label, seed["probability"].to_numpy() < 0.5) for seed in arms["synthetic"]]
    assert row["value"] == pytest.approx(np.mean(right))
    assert row["ci_low"] < row["value"] < row["ci_high"]
    facts = Facts("head_ct", "phantom", "demo", pretrained="none")
    comparisons = compare_arms(arms, "haemorrhage", SETTINGS)
    assert npv.name in set(comparisons["metric"])
    steps = pd.DataFrame({"arm": ["real"], "steps": 9, "steps_least": 9, "steps_most": 9})
    tidy = classification_table(scores, comparisons, steps, {}, facts)
    assert npv.name in set(tidy["metric"])
    assert npv.name not in set(calibration_table(scores, facts)["metric"])
    write_classification(tidy, comparisons, tmp_path / "t.csv", tmp_path / "t.md")
    markdown = (tmp_path / "t.md").read_text()
    assert "negative predictive value" in markdown
    assert f"{row['value']:.4f} [{row['ci_low']:.4f}, {row['ci_high']:.4f}]" in markdown


def test_every_metric_stands_in_a_table():
    assert metrics_of("classification") == ["accuracy", "sensitivity", "specificity", "f1", "auc"]
    assert metrics_of("shares") == metrics_of("classification")
    assert metrics_of("detection") == ["accuracy", "sensitivity", "specificity", "auc"]
    assert metrics_of("calibration") == ["brier", "expected_calibration_error"]


def test_few_images_have_a_calibration_error_even_if_every_probability_is_right():
    one = np.array([[0.3]])
    assert calibration_error_by_chance(one) == pytest.approx([2 * 0.3 * 0.7])  # |1 - p| with p, |0 - p| with 1 - p
    two = np.array([[0.95, 0.95]])  # one bin: 2, 1 or 0 positives, 1.9 expected
    assert calibration_error_by_chance(two) == pytest.approx([(0.9025 * 0.1 + 0.095 * 0.9 + 0.0025 * 1.9) / 2])
    apart = np.array([[0.95, 0.15]])  # two bins, so the gaps do not cancel
    assert calibration_error_by_chance(apart) == pytest.approx([(2 * 0.95 * 0.05 + 2 * 0.15 * 0.85) / 2])


def test_the_value_of_perfect_calibration_is_that_of_images_drawn_so():
    rng = np.random.default_rng(8)
    probability = rng.random((2, 22))
    drawn = [rng.random(22) < seed for seed in probability.repeat(2000, axis=0)]
    found = [
        weighted_metrics(seed[None], label, np.ones((1, 22)), metrics_of("calibration"))
        for seed, label in zip(probability.repeat(2000, axis=0), drawn, strict=True)
    ]
    for metric in metrics_of("calibration"):
        means = np.array([each[metric][0, 0] for each in found]).reshape(2, 2000).mean(axis=1)
        assert METRICS[metric].if_calibrated(probability) == pytest.approx(means, abs=0.005)
    assert calibration_error_by_chance(probability).mean() == pytest.approx(0.21, abs=0.03)  # what 22 images give


def test_the_auc_of_folds_is_of_pairs_within_them():
    rng = np.random.default_rng(0)
    fold, label = np.repeat([0, 1, 2], [30, 50, 40]), np.arange(120) % 3 == 0
    probability = (0.2 * label + 0.3 * fold + rng.random((2, 120))) / 2  # each classifier has its own scale
    weights = rng.integers(1, 3, (2, 120)).astype(float)
    ours = weighted_metrics(probability, label, weights, ["auc"], fold)["auc"]
    for row, each in enumerate(weights):
        for seed, scores in enumerate(probability):
            parts = [fold == number for number in range(3)]
            areas = [reference.roc_auc_score(label[part], scores[part], sample_weight=each[part]) for part in parts]
            pairs = [each[part & label].sum() * each[part & ~label].sum() for part in parts]
            assert ours[row, seed] == pytest.approx(np.average(areas, weights=pairs))
    apart = weighted_metrics(probability, label, np.ones((1, 120)), ["auc"])["auc"]
    assert (apart < weighted_metrics(probability, label, np.ones((1, 120)), ["auc"], fold)["auc"]).all()


def test_the_tables_of_folds_are_put_together(tmp_path):
    files = []
    for arm, (fold, name) in itertools.product(("real", "synthetic"), enumerate("ab")):
        table = pd.DataFrame({"image_id": [f"{name}{n}" for n in range(3)], "probability": 0.1 * fold, "arm": arm})
        files.append(str(tmp_path / f"{arm}{fold}.parquet"))
        table.to_parquet(files[-1])
    found = read_predictions(files, {"real": [None], "synthetic": [0]}, folds=2)
    assert [len(found[arm]) for arm in found] == [1, 1]
    table = found["synthetic"][0]
    assert table.image_id.tolist() == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert table.fold.tolist() == [0, 0, 0, 1, 1, 1]
    assert set(table.arm) == {"synthetic"}
