"""How many real patients synthetic images are worth: closed forms, and a simulation whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from scangan.config import Evaluation
from scangan.facts import Facts
from scangan.metrics.comparison import Replicates
from scangan.metrics.curve import COLUMNS, as_good_between, patients_worth, score_curve, worth_sentences
from scangan.report.curve import metric_over_patients, write_curve

SETTINGS = Evaluation(bootstrap=100)
SEPARATION = {25: 0.6, 50: 1.0, 100: 1.4}  # of `real`, by patients: a step for each doubling


def worth(curve, value, patients=(25, 50, 100)):
    return patients_worth(np.array(curve), np.array(patients), value)


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
    """Beside 25 patients the images are worth 25 more; in full: test_comparison_promises."""
    for seed, (bonus, patients, truth) in enumerate([(0.4, 25, 25), (0.4, 50, 50), (0, 50, 0)]):
        row = curve_of(seed, bonus).set_index(["arm", "patients"]).loc["real+synthetic", patients]
        assert row["worth_low"] <= truth <= row["worth_high"]
        assert row["worth_low"] <= row["worth"] <= row["worth_high"]


def replicates(value, spread=0.01, cases=40):
    """Three trainings about a value, which see the cases alike."""
    influence = np.tile(np.array([0.001, -0.001]), (3, cases // 2))
    return Replicates(value + spread * np.array([-1, 0, 1]), influence)


def test_the_interval_is_where_the_difference_is_not_distinguishable():
    """Of two points and a level curve between them, by the closed form of two means of three trainings."""
    arm, curve = replicates(0.75), [replicates(0.5), replicates(1.0)]
    low, high = as_good_between(arm, curve, np.array([10, 1000]))
    shares = np.linspace(0, 1, 101)
    variance = 0.01**2 / 3 * (1 + shares**2 + (1 - shares) ** 2)
    freedom = 2 * (1 + shares**2 + (1 - shares) ** 2) ** 2 / (1 + shares**4 + (1 - shares) ** 4)
    held = shares[np.abs(0.75 - 0.5 - 0.5 * shares) <= t.ppf(0.975, freedom) * np.sqrt(variance)]
    assert (low, high) == pytest.approx((10 * 100 ** held.min(), 10 * 100 ** held.max()))
    assert low < 100 < high


def test_beyond_the_curve_it_is_its_end():
    curve, patients = [replicates(0.5), replicates(0.6), replicates(0.7)], np.array([101, 203, 405])
    assert as_good_between(replicates(0.9), curve, patients) == (405, 405)
    assert as_good_between(replicates(0.2), curve, patients) == (101, 101)
    assert as_good_between(replicates(0.7), curve, patients)[1] == 405
    unknown = Replicates(np.full(3, 0.5), np.full((3, 40), np.nan))
    assert np.isnan(as_good_between(unknown, curve, patients)).all()


def test_at_the_ends_of_the_curve_the_number_is_exact():
    """101 patients are no fewer than 101, whatever a logarithm rounds."""
    assert worth([0.6, 0.7, 0.8], 0.5, (101, 203, 405)) == 101
    assert worth([0.6, 0.7, 0.8], 0.8, (101, 203, 405)) == 405


def test_beyond_the_ends_no_number_is_said():
    row = {"patients": 101, "arm": "real+synthetic", "against": "real", "metric": "auc", "least": 0, "most": 304}
    row |= {"worth": 0, "worth_low": 0, "worth_high": 0, "difference": -0.0134, "difference_low": -0.025}
    row |= {"difference_high": -0.0019, "detectable": 0.0167}
    assert worth_sentences(pd.DataFrame([row])) == [
        "Beside 101 training patients, synthetic images are worth 0 or fewer real patients [0 or fewer]: auc of "
        "`real+synthetic` minus that of `real` is -0.013 [-0.025, -0.002], could show 0.017."
    ]


def test_what_is_said_of_it(tmp_path):
    row = {"patients": 50, "arm": "real+synthetic", "against": "real", "metric": "auc", "least": -25, "most": 50}
    row |= {"worth": 21.6, "worth_low": -25, "worth_high": 50, "difference": 0.05, "difference_low": -0.01}
    row |= {"difference_high": 0.11, "detectable": 0.08}
    assert worth_sentences(pd.DataFrame([row])) == [
        "Beside 50 training patients, synthetic images are worth 22 real patients [-25 or fewer to 50 or more]: auc of "
        "`real+synthetic` minus that of `real` is +0.050 [-0.010, +0.110], could show 0.080."
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
