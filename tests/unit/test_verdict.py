"""One sentence for each outcome, and what it must never say."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scangan.config import Evaluation
from scangan.facts import Facts
from scangan.metrics.comparison import compare_arms
from scangan.metrics.verdict import patients_needed, reach_verdict
from scangan.report.verdict import write_verdict

FACTS = Facts("mine", "real", "paper")
SETTINGS = Evaluation()
CONVERGED = {"real": 0, "real+classical": 0, "synthetic": 0, "real+synthetic": 0, "synthetic-then-real": 0}
ROW = {
    **{
        "arm": "real+synthetic",
        "against": "real+classical",
        "counterpart": False,
        "control": False,
        "best": True,
        "metric": "auc",
    },
    **{"difference": 0.05, "difference_low": 0.02, "difference_high": 0.08, "detectable": 0.042, "p_holm": 0.004},
    **{"trainings": 3, "against_trainings": 3, "generators": 1, "patients": 400, "smaller_class": 200, "cases": 400},
    **{"training_variance": 0.00002, "case_variance": 0.0002},
}
WORSE = {"difference": -0.05, "difference_low": -0.08, "difference_high": -0.02}
WITHIN = {"difference": 0.002, "difference_low": -0.01, "difference_high": 0.014, "p_holm": 0.8}
STRADDLES = {"difference": 0.01, "difference_low": -0.05, "difference_high": 0.07, "p_holm": 0.7}


def verdict_of(*changes, unconverged=CONVERGED, facts=FACTS, settings=SETTINGS):
    return reach_verdict(pd.DataFrame([ROW | change for change in changes]), unconverged, settings, facts)


@pytest.mark.parametrize(
    ("changes", "outcome", "begins"),
    [
        (
            [{}],
            "helps",
            "Synthetic images help: AUC of `real+synthetic` minus that of `real+classical` is +0.050 [+0.020, +0.080], "
            "p = 0.004; real data, paper scale, trainings of each arm: 3, images of one generator, "
            "400 test images of 400 patients.",
        ),
        ([WORSE], "harms", "Synthetic images harm: AUC of `real+synthetic` minus that of `real+classical` is -0.050"),
        ([WITHIN | {"p_holm": 0.04}], "helps", "Synthetic images help"),  # by little, but surely
        ([WITHIN], "no difference", "Synthetic images make no difference larger than 0.02: AUC of"),
        ([STRADDLES], "cannot be told", "It cannot be told whether synthetic images help: AUC of `real+synthetic`"),
        ([{"p_holm": 0.06}], "cannot be told", "It cannot be told"),  # one of several comparisons
    ],
)
def test_each_outcome_has_its_sentence(changes, outcome, begins):
    verdict = verdict_of(*changes)
    assert verdict.outcome == outcome
    assert verdict.sentence.startswith(begins)
    assert verdict.sentence.endswith("400 patients.")
    assert (verdict.arm, verdict.against) == ("real+synthetic", "real+classical")


def test_of_several_classes_it_says_what_is_told_apart():
    sentence = verdict_of({}, facts=replace(FACTS, positive="a", negatives=["b", "c"])).sentence
    assert f"; a against b and c together, {FACTS.provenance}, trainings" in sentence


def test_of_folds_trainings_are_those_of_each():
    sentence = verdict_of({}, facts=replace(FACTS, folds=5)).sentence
    assert "5 folds, trainings of each arm: 3 in each fold, images of one generator in each fold, 400 test" in sentence


def test_an_arm_has_to_beat_its_control_too_where_that_was_asked_for():
    control = {"against": "real+copies", "best": False, "control": True}
    assert verdict_of({}, control).outcome == "helps"
    alike = verdict_of({}, control | STRADDLES)
    assert alike.outcome == "cannot be told"
    assert (
        "+0.050 [+0.020, +0.080], p = 0.004; nor is it shown to be better than `real+copies`, real images repeated as "
        "often: +0.010 [-0.050, +0.070], p = 0.700;" in alike.sentence
    )
    # Another arm may be, which has no such control.
    other = {"arm": "synthetic-then-real", "difference": 0.04}
    found = verdict_of({}, other, control | STRADDLES)
    assert (found.outcome, found.arm) == ("helps", "synthetic-then-real")
    # And the best arm may be the control.
    assert verdict_of({"against": "real+copies", "control": True}).outcome == "helps"


def test_one_arm_that_helps_is_enough_but_all_have_to_harm():
    other = {"arm": "synthetic-then-real"}
    assert verdict_of(WORSE, other).arm == "synthetic-then-real"
    assert verdict_of(WORSE, other).outcome == "helps"
    assert verdict_of(WORSE, WORSE | other).outcome == "harms"
    assert verdict_of(WORSE, STRADDLES | other).outcome == "cannot be told"
    assert verdict_of(WITHIN, STRADDLES | other).outcome == "cannot be told"
    assert verdict_of(WITHIN, WITHIN | other).outcome == "no difference"


def test_an_arm_of_synthetic_images_alone_speaks_only_where_there_is_no_other():
    alone = WORSE | {"arm": "synthetic"}
    assert verdict_of(alone, {}).outcome == "helps"
    assert verdict_of(alone).outcome == "harms"
    assert verdict_of({"metric": "accuracy"}, WORSE).outcome == "harms"  # another metric says nothing
    assert verdict_of({"best": False, "counterpart": True}, WORSE).outcome == "harms"  # nor beside a weaker arm


@pytest.mark.parametrize("arm", ["real+synthetic", "real+classical", "real"])
@pytest.mark.parametrize("change", [{}, WORSE, WITHIN, STRADDLES])
def test_nothing_is_told_where_a_training_it_rests_on_had_not_converged(change, arm):
    verdict = verdict_of(change, unconverged=CONVERGED | {arm: 2})
    assert verdict.outcome == "cannot be told"
    assert f"training had not converged in `{arm}` (2 of its trainings): raise classifier.steps" in verdict.sentence
    assert verdict.unconverged == {arm: 2}
    assert ("could have been shown" in verdict.sentence) == (change is STRADDLES)


def test_an_arm_that_the_outcome_does_not_rest_on_may_be_unconverged():
    unconverged = CONVERGED | {"synthetic-then-real": 3}
    assert verdict_of({}, STRADDLES | {"arm": "synthetic-then-real"}, unconverged=unconverged).outcome == "helps"
    assert verdict_of(WORSE, WORSE | {"arm": "synthetic-then-real"}, unconverged=unconverged).outcome != "harms"


@pytest.mark.parametrize("which", ["trainings", "against_trainings"])
@pytest.mark.parametrize("change", [{}, WORSE, WITHIN])
def test_a_single_training_tells_nothing_and_is_named(change, which):
    verdict = verdict_of(change | {which: 1, "p_holm": np.nan, "training_variance": np.nan})
    assert verdict.outcome == "cannot be told"
    assert (
        "it rests on a single training, and another one may say otherwise: raise classifier.seeds" in verdict.sentence
    )
    assert "p =" not in verdict.sentence
    assert verdict.patients_needed is None


def test_few_patients_cannot_show_that_there_is_no_difference():
    """What was not met in 100 patients may still be met in three of a hundred others."""
    assert verdict_of(WITHIN | {"smaller_class": 149}).outcome == "cannot be told"
    assert verdict_of(WITHIN | {"smaller_class": 150}).outcome == "no difference"
    assert verdict_of(WITHIN | {"smaller_class": 30}, settings=Evaluation(margin=0.1)).outcome == "no difference"
    assert verdict_of(WITHIN, settings=Evaluation(margin=0.01)).outcome == "cannot be told"


def test_it_says_how_many_patients_could_tell():
    # Of a variance of 0.00022 the cases have 0.0002: 400 patients show 0.042, and 0.02 is allowed 0.0000499 in all.
    assert patients_needed(ROW, 0.02) == 2677
    assert patients_needed(ROW, 0.042) == 400
    assert "a difference of 0.04 could have been shown, and one of 0.02 with about 2,700 test patients" in (
        verdict_of(STRADDLES).sentence
    )
    hidden = STRADDLES | {"training_variance": 0.0002}
    assert patients_needed(ROW | hidden, 0.02) is None
    assert "and one of 0.02 by no number of test patients: raise classifier.seeds" in verdict_of(hidden).sentence
    assert "no difference could have been shown, however large" in verdict_of(STRADDLES | {"detectable": 1.2}).sentence
    assert verdict_of(STRADDLES | {"detectable": 0.015}).sentence.count("could have been shown") == 1


def test_where_nothing_varies_nothing_is_told():
    nothing = dict.fromkeys(("difference_low", "difference_high", "detectable", "p_holm"), np.nan)
    nothing |= {"difference": 0.0, "training_variance": np.nan, "case_variance": np.nan}
    verdict = verdict_of(nothing)
    assert verdict.outcome == "cannot be told"
    assert "nothing varies between these trainings and cases" in verdict.sentence


def test_it_says_of_what():
    phantom = verdict_of({}, facts=replace(FACTS, data="phantom", scale="demo")).sentence
    assert "phantom data, demo scale" in phantom
    assert phantom.endswith("which says nothing about medicine.")
    crossed = verdict_of({"generators": 4, "trainings": 4, "patients": 120}).sentence
    assert "trainings of each arm: 4 and 3, images of 4 generators, 400 test images of 120 patients" in crossed
    assert verdict_of({"metric": "f1"}, settings=Evaluation(primary="f1")).sentence.startswith(
        "Synthetic images help: f1 of"
    )


def test_a_study_without_such_arms_was_not_asked(tmp_path):
    comparisons = compare_arms({"real": [], "real+classical": []}, "sick", SETTINGS)
    comparisons.to_csv(tmp_path / "comparisons.csv", index=False)
    verdict = reach_verdict(pd.read_csv(tmp_path / "comparisons.csv"), CONVERGED, SETTINGS, FACTS)
    assert verdict.outcome == "not compared"
    assert verdict.sentence.endswith("real data, paper scale.")


FURTHER = {"arm": "real+synthetic:projected_gan"}


def verdict_of_two(first, second, **values):
    """Of the study's own network `dcgan`, and of a further one."""
    values = {"unconverged": CONVERGED} | values
    table = pd.DataFrame([ROW | first, ROW | FURTHER | second])
    return reach_verdict(table, values["unconverged"], SETTINGS, FACTS, "dcgan")


def test_each_network_has_its_own_verdict_and_is_named():
    verdict = verdict_of_two(WORSE, {})
    assert (verdict.outcome, verdict.arm) == ("helps", FURTHER["arm"])
    assert verdict.sentence.startswith(
        "Synthetic images of `projected_gan` help: AUC of `real+synthetic:projected_gan` minus that of "
        "`real+classical` is +0.050 [+0.020, +0.080], p = 0.004; with images of `dcgan`: harms; real data, paper"
    )
    assert {gan: own.outcome for gan, own in verdict.networks.items()} == {"dcgan": "harms", "projected_gan": "helps"}
    own = verdict.networks["dcgan"]
    assert own.sentence.startswith("Synthetic images of `dcgan` harm: AUC of `real+synthetic` minus")
    assert "projected_gan" not in own.sentence


@pytest.mark.parametrize(
    ("first", "second", "outcome", "arm"),
    [
        ({}, WORSE, "helps", "real+synthetic"),
        ({}, {"difference": 0.06}, "helps", FURTHER["arm"]),  # of two that help the better one
        (STRADDLES, WITHIN, "cannot be told", "real+synthetic"),
        (WITHIN, WORSE, "no difference", "real+synthetic"),
        (WORSE, WORSE | {"difference": -0.04}, "harms", FURTHER["arm"]),
        # Images alone, without real ones, speak for no study that has others.
        (WORSE, {"arm": "synthetic:projected_gan"}, "harms", "real+synthetic"),
    ],
)
def test_the_study_has_the_verdict_of_the_network_that_does_best(first, second, outcome, arm):
    verdict = verdict_of_two(first, second)
    assert (verdict.outcome, verdict.arm) == (outcome, arm)
    assert len(verdict.networks) == 2


def test_a_network_answers_for_the_convergence_of_its_own_arms_alone():
    unconverged = CONVERGED | {"real+synthetic": 2, FURTHER["arm"]: 0}
    verdict = verdict_of_two({}, {}, unconverged=unconverged)
    assert (verdict.outcome, verdict.arm, verdict.unconverged) == ("helps", FURTHER["arm"], {})
    assert verdict.networks["dcgan"].outcome == "cannot be told"
    assert verdict.networks["dcgan"].unconverged == {"real+synthetic": 2}
    # The arms without synthetic images are everybody's.
    of_all = verdict_of_two({}, {}, unconverged=unconverged | {"real": 1})
    assert {own.outcome for own in [of_all, *of_all.networks.values()]} == {"cannot be told"}


def test_a_further_network_has_to_beat_the_control_as_well():
    control = FURTHER | {"against": "real+copies", "best": False, "control": True} | STRADDLES
    table = pd.DataFrame([ROW | WORSE, ROW | FURTHER, ROW | control])
    verdict = reach_verdict(table, CONVERGED, SETTINGS, FACTS, "dcgan")
    assert verdict.networks["projected_gan"].outcome == verdict.outcome == "cannot be told"
    assert "nor is it shown to be better than `real+copies`" in verdict.sentence


def test_one_network_alone_is_named_if_it_is_not_the_studys_own():
    assert verdict_of(FURTHER).sentence.startswith("Synthetic images of `projected_gan` help: ")
    assert list(verdict_of(FURTHER).networks) == ["projected_gan"]
    assert verdict_of({}).networks == {}


def test_networks_are_written_one_by_one(tmp_path):
    table = pd.DataFrame([ROW | WORSE, ROW | FURTHER])
    verdict = reach_verdict(table, CONVERGED, SETTINGS, FACTS, "dcgan")
    write_verdict(verdict, table, SETTINGS, FACTS, tmp_path / "verdict.json", tmp_path / "verdict.md")
    networks = json.loads((tmp_path / "verdict.json").read_text())["networks"]
    assert {gan: (own["outcome"], own["arm"]) for gan, own in networks.items()} == {
        "dcgan": ("harms", "real+synthetic"),
        "projected_gan": ("helps", FURTHER["arm"]),
    }
    markdown = (tmp_path / "verdict.md").read_text()
    assert markdown.startswith(
        f"**mine: helps**\n\n{verdict.sentence}\n\n{verdict.networks['dcgan'].sentence}\n\n| arm"
    )


def test_it_is_written_for_programs_and_for_people(tmp_path):
    table = pd.DataFrame([ROW, ROW | {"metric": "f1", "p_holm": np.nan}])
    verdict = reach_verdict(table, CONVERGED, SETTINGS, FACTS)
    write_verdict(verdict, table, SETTINGS, FACTS, tmp_path / "verdict.json", tmp_path / "verdict.md")
    told = json.loads((tmp_path / "verdict.json").read_text())
    assert told["outcome"] == "helps"
    assert told["sentence"] == verdict.sentence
    assert (told["study"], told["data"], told["scale"], told["margin"]) == ("mine", "real", "paper", 0.02)
    assert [each["metric"] for each in told["comparisons"]] == ["auc"]
    assert told["unconverged"] == {}
    markdown = (tmp_path / "verdict.md").read_text()
    assert markdown.startswith(f"**mine: helps**\n\n{verdict.sentence}\n\n| arm")
    assert "+0.05 [+0.02, +0.08], could show 0.04, p = 0.004" in markdown
