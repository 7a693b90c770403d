"""What the comparison of arms promises, on simulated studies of known truth; in full: benchmarks/comparison.py."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.comparison import (
    SHIFT_SD,
    Arm,
    alone_covered,
    at_detectable,
    covered,
    replicates,
    significant,
    simulate,
    worth_covered,
)
from scangan.metrics.comparison import Replicates, compare


@pytest.mark.parametrize("trainings", [3, 5])
@pytest.mark.parametrize(
    ("cases", "runs", "metrics"),
    [(22, 800, ("auc", "specificity")), (203, 500, ("auc", "specificity")), (1000, 400, ("specificity",))],
)
def test_without_a_difference_few_p_values_are_small(cases, runs, metrics, trainings):
    """Trainings are as spread as they were seen to be."""
    arm = Arm(trainings)
    for metric, (differences, spread) in simulate((arm, arm), cases, runs, metrics).items():
        assert 0.02 <= significant(differences) <= 0.07, metric
        assert covered(differences, 0) >= 0.92, metric
        assert metric == "auc" or 0.13 <= spread <= 0.17


@pytest.mark.parametrize("trainings", [3, 5])
def test_folds_keep_the_promises(trainings):
    """A training is five networks, each spread as one alone; that they share training patients is not there."""
    arm = Arm(trainings, folds=5)
    for metric, (differences, spread) in simulate((arm, arm), 200, 400).items():
        assert 0.02 <= significant(differences) <= 0.07, metric
        assert covered(differences, 0) >= 0.92, metric
        assert metric == "auc" or spread < 0.08  # of the mean over the folds


def test_arms_may_be_spread_differently():
    narrow, wide = Arm(3, shift_sd=SHIFT_SD / 3), Arm(3)
    (differences, _) = simulate((narrow, wide), 203, 400, ("specificity",))["specificity"]
    assert covered(differences, narrow.truth("specificity") - wide.truth("specificity")) >= 0.92


@pytest.mark.parametrize("arm", [Arm(3), Arm(5, shift_sd=SHIFT_SD / 6), Arm(3, shift=-2.5, separation=4)])
def test_the_interval_of_an_arm_alone_holds_its_score(arm):
    """Also where trainings differ: a bootstrap of three held a specificity in 78% of such studies."""
    for metric, share in alone_covered(arm, 203, 300).items():
        assert share >= 0.9, metric


@pytest.mark.parametrize(("beside", "gain"), [(25, 0.2), (50, 0.0)])
def test_what_images_are_worth_is_held(beside, gain):
    """Also where trainings differ: a bootstrap of three held it in 85% of such studies."""
    assert worth_covered(3, 80, beside, gain, 200) >= 0.92


def test_what_can_be_detected_is_found():
    difference, arms = at_detectable(Arm(5), 203, 100, "specificity")
    (differences, _) = simulate(arms, 203, 400, ("specificity",), seed=2)["specificity"]
    truth = arms[0].truth("specificity") - arms[1].truth("specificity")
    assert truth == pytest.approx(difference)
    assert 0.75 <= significant(differences) <= 0.85
    assert covered(differences, truth) >= 0.92


def test_images_of_a_patient_do_not_make_a_difference_surer():
    arm = replace(Arm(3), shift_sd=0.1)
    (differences, _) = simulate((arm, arm), 60, 400, ("specificity",), images=5)["specificity"]
    assert 0.02 <= significant(differences) <= 0.07


def test_classifiers_of_one_generator_are_no_trainings_of_their_own():
    """Three generators, three classifiers of each: as nine trainings they would pretend to be surer than they are."""
    rng, crossed, plain = np.random.default_rng(6), Arm(9, generators=3), Arm(9)
    right, wrong = [], []
    for _ in range(300):
        one, other = (each["specificity"] for each in replicates(rng, (crossed, plain), 203, 1, ("specificity",)))
        right.append(compare(one, other))
        # Nine, each as good as the mean of its generator's.
        wrong.append(compare(Replicates(one.value.repeat(3), one.influence.repeat(3, axis=0)), other))
    assert len(one.value) == 3
    assert 0.02 <= significant(right) <= 0.07
    assert significant(wrong) > 0.12
