"""Detection by nodule size: balanced test sets of pairs, and the uncertainty of pairs."""

import numpy as np
import pandas as pd
import pytest

from scangan.config import Evaluation
from scangan.errors import DataError
from scangan.metrics.detection import score_sizes

SETTINGS = Evaluation(bootstrap=400)
DIAMETERS = (6.0, 16.0)
COLUMNS = ["image_id", "patient_id", "label", "split", "diameter_mm", "probability"]


def predictions(free, sized, test=((0.1, "none"), (0.9, "nodules"))):
    """free: [P] probabilities; sized: diameter -> [P], NaN where no nodule found a place."""
    rows = [(f"t{n}", f"t{n}", label, "test", np.nan, value) for n, (value, label) in enumerate(test)]
    rows += [(f"f{n}", f"p{n}", "none", "free", np.nan, value) for n, value in enumerate(free)]
    for diameter, values in sized.items():
        rows += [(f"s{n}-{diameter}", f"p{n}", "nodules", "sized", diameter, value) for n, value in enumerate(values)]
    return pd.DataFrame(rows, columns=COLUMNS).dropna(subset="probability")


def of(scores, diameter, arm="real"):
    same = scores.diameter_mm.isna() if diameter is None else scores.diameter_mm == diameter
    return scores[same & (scores.arm == arm)].set_index("metric")


def test_each_diameter_has_a_balanced_test_set_of_its_own():
    free = [0.1, 0.2, 0.3, 0.6]
    table = predictions(free, {6.0: [0.2, 0.9, np.nan, 0.1], 16.0: [0.9, 0.9, 0.9, 0.9]})
    extra = [("v0", "v0", "none", "validation", np.nan, 0.99), ("f9", "f9", "none", "free", np.nan, 0.99)]
    table = pd.concat([table, pd.DataFrame(extra, columns=COLUMNS)])  # neither is looked at
    scores = score_sizes({"real": [table]}, DIAMETERS, "nodules")
    assert scores.diameter_mm.drop_duplicates().tolist() == [pytest.approx(np.nan, nan_ok=True), 6.0, 16.0]
    assert (of(scores, None).cases.unique(), of(scores, None).value["accuracy"]) == ([2], 1.0)
    # Patient 2 has no volume with 6 mm, so its free volume is left out as well.
    small, large = of(scores, 6.0), of(scores, 16.0)
    assert small.cases.unique() == [6]
    assert small.value[["sensitivity", "specificity", "accuracy"]].tolist() == pytest.approx([1 / 3, 2 / 3, 1 / 2])
    assert large.cases.unique() == [8]
    assert large.value[["sensitivity", "specificity", "accuracy"]].tolist() == pytest.approx([1, 3 / 4, 7 / 8])


def test_a_patient_with_several_scans_is_taken_if_each_has_its_pair():
    table = predictions([0.1, 0.2, 0.3], {6.0: [0.8, 0.8, np.nan]})
    table["patient_id"] = table.patient_id.replace({"p1": "p0"})
    assert of(score_sizes({"real": [table]}, [6], "nodules"), 6).cases.unique() == [4]
    table["patient_id"] = table.patient_id.replace({"p2": "p0"})  # three scans, two of them with nodules
    rest = pd.concat(
        [table, predictions([0.1], {6.0: [0.9]}, test=()).replace({"p0": "q", "f0": "q0", "s0-6.0": "q1"})]
    )
    assert of(score_sizes({"real": [rest]}, [6], "nodules"), 6).cases.unique() == [2]


def test_patients_are_drawn_as_pairs():
    """Who answers by the patient alone is right for one of its two volumes, always: there is nothing uncertain."""
    answers = np.random.default_rng(0).choice([0.1, 0.9], 30)
    scores = score_sizes({"real": [predictions(answers, {6.0: answers})]}, [6], "nodules")
    accuracy, sensitivity = of(scores, 6).loc["accuracy"], of(scores, 6).loc["sensitivity"]
    assert accuracy.value == 0.5
    assert np.isnan(accuracy.ci_low)
    assert np.isnan(accuracy.ci_high)
    assert sensitivity.ci_high - sensitivity.ci_low > 0.2


def test_a_size_without_a_pair_is_named():
    table = predictions([0.1], {6.0: [0.2], 16.0: [np.nan]})
    with pytest.raises(DataError, match="diameter_mm: found no patient with as many volumes with nodules of 16 mm"):
        score_sizes({"real": [table]}, DIAMETERS, "nodules")


def test_the_negatives_are_shams_where_there_are_any_and_shams_stand_beside_untouched_volumes():
    table = predictions([0.1, 0.1, 0.1, 0.1], {6.0: [0.9, 0.9, 0.9, 0.9]})
    shams = [(f"s{n}-6-sham", f"p{n}", "none", "sized", 6.0, value) for n, value in enumerate([0.95, 0.05, 0.2, 0.1])]
    scores = score_sizes({"real": [pd.concat([table, pd.DataFrame(shams, columns=COLUMNS)])]}, [6], "nodules")
    of_six = of(scores, 6.0)
    assert of_six.cases.unique() == [8]
    assert of_six.value["specificity"] == 3 / 4
    assert of_six.value["auc"] == 3 / 4
    # Against 0.1 four times: above, below, above, and equal.
    assert of_six.value["auc_sham"] == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert of_six.ci_low["auc_sham"] < of_six.value["auc_sham"] < of_six.ci_high["auc_sham"]
    assert "auc_sham" not in of(score_sizes({"real": [table]}, [6], "nodules"), 6.0).index


def test_real_and_injected_nodules_of_the_test_volumes_are_scored_apart():
    test = ((0.1, "none"), (0.5, "none"), (0.9, "nodules"), (0.3, "nodules"))
    table = predictions([0.1], {6.0: [0.2]}, test)
    scores = of(score_sizes({"real": [table]}, [6], "nodules", injected={"t2"}), None)
    assert scores.value[["auc", "auc_real", "auc_injected"]].tolist() == [3 / 4, 1 / 2, 1]
    assert scores.cases[["auc_real", "auc_injected"]].tolist() == [3, 3]
    assert "auc_real" not in of(score_sizes({"real": [table]}, [6], "nodules"), None).index
