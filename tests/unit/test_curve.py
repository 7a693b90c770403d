"""How many real patients synthetic images are worth: closed forms, and a simulation whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from scangan.config import Evaluation
from scangan.facts import Facts
from scangan.metrics.curve import COLUMNS, patients_worth, score_curve, worth_sentences
from scangan.report.curve import metric_over_patients, write_curve

SETTINGS = Evaluation(bootstrap=100)
SEPARATION = {25: 0.6, 50: 1.0, 100: 1.4}  # of `real`, by patients: a step for each doubling


def worth(curve, value, patients=(25, 50, 100)):
    return patients_worth(np.array([curve]), np.array(patients), np.array([value]))[0]


def test_a_curve_is_read_on_a_logarithmic_scale():
    assert worth([0.6, 0.7, 0.8], 0.7) == pytest.approx(50)
    assert worth([0.6, 0.7, 0.8], 0.65) == pytest.approx(25 * 2**0.5)
    assert worth([0.6, 0.7, 0.8], 0.775) == pytest.approx(50 * 2**0.75)


def test_beyond_its_ends_there_is_no_curve():
    assert worth([0.6, 0.7, 0.8], 0.9) == pytest.approx(100)
    assert worth([0.6, 0.7, 0.8], 0.5) == pytest.approx(25)


def test_a_curve_that_falls_is_made_to_rise():
    # 0.7 and 0.6 become 0.65 and 0.65; the fewest patients count where it is level.
    assert worth([0.7, 0.6, 0.85], 0.649) == pytest.approx(25)
    assert worth([0.7, 0.6, 0.85], 0.75) == pytest.approx(50 * 2**0.5)
    assert worth([0.8, 0.7, 0.6], 0.71) == pytest.approx(100)


def predictions(separation, rng, cases=120, trainings=3, difficulty=None):
    """Tables of trainings that tell the classes apart by so many standard deviations."""
    is_sick = np.arange(cases) % 2 == 0
    names = [f"{number:04}" for number in range(cases)]
    tables = []
    for _ in range(trainings):
        score = separation * is_sick + difficulty + rng.normal(0, 0.5, cases)
        table = {"image_id": names, "patient_id": names, "label": np.where(is_sick, "sick", "healthy")}
        tables.append(pd.DataFrame(table | {"split": "test", "probability": norm.cdf(score - 0.5)}))
    return tables


def draw(seed, bonus=0.4):
    """`real` gains 0.4 with each doubling of its patients, and as much by synthetic images: worth as many again."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 0.8, 120)
    return {
        patients / 100: {
            arm: predictions(each + more, rng, difficulty=difficulty)
            for arm, more in (("real", 0), ("real+synthetic", bonus))
        }
        for patients, each in SEPARATION.items()
    }


PATIENTS = {patients / 100: patients for patients in SEPARATION}


def curve_of(seed=0, bonus=0.4):
    arms = draw(seed, bonus)
    with_validation = {
        share: {
            arm: [pd.concat([table, table.assign(split="validation")]) for table in tables]
            for arm, tables in found.items()
        }
        for share, found in arms.items()
    }
    return score_curve(with_validation, PATIENTS, "sick", SETTINGS)


def test_a_row_for_each_share_and_arm():
    curve = curve_of()
    assert list(curve.columns) == COLUMNS
    assert list(zip(curve["share"], curve["arm"], strict=True)) == [
        (share, arm) for share in (0.25, 0.5, 1.0) for arm in ("real", "real+synthetic")
    ]
    assert set(curve["metric"]) == {"auc"}
    assert set(curve["cases"]) == {120}
    assert curve.set_index(["arm", "patients"]).loc["real", "worth"].isna().all()
    synthetic = curve[curve["arm"] == "real+synthetic"].set_index("patients")
    assert synthetic[["least", "most"]].to_numpy().tolist() == [[0, 75], [-25, 50], [-75, 0]]
    assert (synthetic["against"] == "real").all()
    assert synthetic.loc[100, "worth"] == pytest.approx(0)  # better than with all: the end of the curve


def test_the_interval_covers_the_truth():
    """Beside 25 patients the images are worth 25 more, beside 50 they are worth 50."""
    covered = []
    for seed in range(8):
        rows = curve_of(seed).query("arm == 'real+synthetic' and patients == 25").iloc[0]
        covered.append(rows["worth_low"] <= 25 <= rows["worth_high"])
    assert np.mean(covered) >= 0.9
    nothing = [curve_of(seed, bonus=0).query("arm == 'real+synthetic' and patients == 50").iloc[0] for seed in range(8)]
    assert np.mean([row["worth_low"] <= 0 <= row["worth_high"] for row in nothing]) >= 0.9


def test_what_is_said_of_it(tmp_path):
    row = {"patients": 50, "arm": "real+synthetic", "against": "real", "metric": "auc", "least": -25, "most": 50}
    row |= {"worth": 21.6, "worth_low": -25, "worth_high": 50, "difference": 0.05, "difference_low": -0.01}
    row |= {"difference_high": 0.11, "detectable": 0.08}
    assert worth_sentences(pd.DataFrame([row])) == [
        "Beside 50 training patients, synthetic images are worth 22 real patients [-25 or fewer to 50 or more]: auc of "
        "`real+synthetic` minus that of `real` is +0.050 [-0.010, +0.110], could show 0.08."
    ]
    facts = Facts("mine", "phantom", "custom", pretrained="none")
    curve = curve_of()
    write_curve(curve, tmp_path / "curve.csv", tmp_path / "curve.md", facts)
    said = (tmp_path / "curve.md").read_text()
    assert said.startswith("**mine; phantom data, custom scale; auc on 120 test images, by training patients**")
    assert said.count("- Beside ") == 3
    assert pd.read_csv(tmp_path / "curve.csv").columns.tolist() == ["study", *COLUMNS, "data", "scale", "pretrained"]
    metric_over_patients(curve, tmp_path / "curve.png", facts)
    assert (tmp_path / "curve.png").stat().st_size > 1000
