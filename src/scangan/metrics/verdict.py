"""Would synthetic images help this classifier? One sentence from the comparison of arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

import pandas as pd

from scangan.arms import find_arm
from scangan.config import Evaluation
from scangan.facts import Facts
from scangan.metrics.classifier_metrics import find_metric
from scangan.metrics.comparison import LEVEL

Outcome = Literal["helps", "cannot be told", "no difference", "harms", "not compared"]
OUTCOMES = get_args(Outcome)


@dataclass(frozen=True)
class Verdict:
    """What a study says about synthetic images.

    outcome: one word for programs; sentence: for people, with all that it rests on.
    arm, against: the comparison that the sentence quotes, None without any.
    unconverged: arm -> trainings that had not converged, of the arms that the outcome rests on.
    patients_needed: test patients with whom so many trainings show a difference of the margin with a power of 80%; None
    where no number of them could, or it is unknown.
    networks: where arms have the images of several networks, network -> what can be said of its images alone.
    """

    outcome: Outcome
    sentence: str
    arm: str | None = None
    against: str | None = None
    unconverged: Mapping[str, int] | None = None
    patients_needed: int | None = None
    networks: Mapping[str, Verdict] = field(default_factory=dict)


def reach_verdict(
    comparisons: pd.DataFrame, unconverged: Mapping[str, int], settings: Evaluation, facts: Facts, own_gan: str = ""
) -> Verdict:
    """The verdict on the primary metric, against the best arm without synthetic images.

    comparisons: what `metrics.comparison.compare_arms` returns. unconverged: arm -> trainings that had not converged
    (`metrics.convergence`), for all arms of the study. own_gan: the network whose images the arms have that name none.

    What is asked is whether to add synthetic images, so arms of synthetic images alone speak only where there is no
    other. `helps`: one arm is better, at a level of 0.05 by its p value, which Holm corrected for all comparisons of
    the study; and better than its control, real images repeated as often, where that was asked for. `harms`: all are
    worse. `no difference`: all intervals lie within the margin, on either side, and each class has the 3 / margin
    patients without whom a difference of the margin might not be met at all. Else it `cannot be told`; so it is where
    a training that the outcome rests on had not converged, or an arm has just one.

    Of several networks each has a verdict of its own, by its own arms and their convergence. That of the study is then
    the first of these in the order of OUTCOMES, of several the one with the greatest difference: so they help if those
    of one network do, and harm if those of all do. Its sentence names its network, and the outcomes of the others.
    """
    primary = comparisons[comparisons["metric"] == settings.primary]
    adding = primary[primary["arm"].map(lambda arm: find_arm(arm).reads_real).astype(bool)]
    told = partial(_verdict_of, unconverged=unconverged, settings=settings, facts=facts)
    of_gan = dict(list(primary.groupby(primary["arm"].map(lambda arm: find_arm(arm).gan or own_gan), sort=False)))
    if set(of_gan) <= {own_gan}:
        return told(primary)
    networks = {gan: told(rows, whose=f" of `{gan}`") for gan, rows in of_gan.items()}
    speaking = [gan for gan, rows in of_gan.items() if adding.empty or rows.index.isin(adding.index).any()]
    differences = primary.set_index(["arm", "against"])["difference"]
    best = min(
        speaking,
        key=lambda gan: (
            OUTCOMES.index(networks[gan].outcome),
            -differences[networks[gan].arm, networks[gan].against],
        ),
    )
    others = [f"with images of `{gan}`: {verdict.outcome}" for gan, verdict in networks.items() if gan != best]
    return replace(told(of_gan[best], whose=f" of `{best}`", more=others), networks=networks)


def _verdict_of(
    primary: pd.DataFrame,
    unconverged: Mapping[str, int],
    settings: Evaluation,
    facts: Facts,
    whose: str = "",
    more: Sequence[str] = (),
) -> Verdict:
    """The verdict on rows of the primary metric; whose: of which network; more: what the sentence says besides."""
    rows, controls = (primary[primary[reason].astype(bool)] for reason in ("best", "control"))
    adding = rows[rows["arm"].map(lambda arm: find_arm(arm).reads_real).astype(bool)]
    rows = rows if adding.empty else adding
    if rows.empty:
        sentence = "Whether synthetic images help was not asked: no arm has them beside one that has none"
        return Verdict("not compared", f"{sentence}; {facts.provenance}.")
    outcome, row = _outcome(rows, controls, settings)
    without = [arm for arm in unconverged if not find_arm(arm).reads_synthetic]
    rests_on = dict.fromkeys([*([row["arm"]] if outcome == "helps" else rows["arm"]), *without])
    cut_short = {arm: unconverged[arm] for arm in rests_on if unconverged.get(arm)}
    single = rows[["trainings", "against_trainings"]].min(axis=None) == 1
    needed = patients_needed(row, settings.margin)
    reasons = []
    if cut_short:
        named = ", ".join(f"`{arm}` ({number} of its trainings)" for arm, number in cut_short.items())
        reasons.append(f"training had not converged in {named}: raise classifier.steps")
    if single:
        reasons.append("it rests on a single training, and another one may say otherwise: raise classifier.seeds")
    unmatched = controls[(controls["arm"] == row["arm"]) & ~_is_better(controls)]
    if outcome == "cannot be told" and _is_better(row.to_frame().T).all() and len(unmatched):
        copies = unmatched.iloc[0]
        repeated = f"`{copies['against']}`, real images repeated as often"
        reasons.append(f"nor is it shown to be better than {repeated}: {_found(copies)}")
    elif outcome == "cannot be told" and not single:
        reasons.append(_could_show(row, needed, settings))
    if cut_short or single:
        outcome = "cannot be told"
    sentence = "; ".join(
        [_lead(outcome, row, settings, whose), *reasons, *more, _of_what(row, settings.primary, facts)]
    )
    return Verdict(outcome, f"{sentence}.", row["arm"], row["against"], cut_short, needed)


def patients_needed(row: Mapping[str, Any], margin: float) -> int | None:
    """Test patients with whom as many trainings show a difference of the margin with a power of 80%.

    What is due to the cases falls with their number, what is due to the trainings does not. None where the latter alone
    hides the margin, or nothing is known of it.
    """
    variance = row["training_variance"] + row["case_variance"]
    # As large, in standard errors, as the difference that these cases could have shown.
    allowed = variance * (margin / row["detectable"]) ** 2 - row["training_variance"]
    if not allowed > 0:
        return None
    return math.ceil(row["patients"] * row["case_variance"] / allowed)


def _is_better(rows: pd.DataFrame) -> pd.Series:
    return (rows["p_holm"] < LEVEL) & (rows["difference"] > 0)


def _outcome(rows: pd.DataFrame, controls: pd.DataFrame, settings: Evaluation) -> tuple[Outcome, pd.Series]:
    """What the numbers say, and the row that says it best."""
    best = rows.loc[rows["difference"].idxmax()]
    better = rows[_is_better(rows)]
    more_than_copies = better[~better["arm"].isin(controls.loc[~_is_better(controls), "arm"])]
    if len(more_than_copies):
        return "helps", more_than_copies.loc[more_than_copies["difference"].idxmax()]
    if len(better):
        return "cannot be told", better.loc[better["difference"].idxmax()]
    shown = rows["p_holm"] < LEVEL
    if (shown & (rows["difference"] < 0)).all():
        return "harms", best
    within = (rows["difference_low"] >= -settings.margin) & (rows["difference_high"] <= settings.margin)
    # Rule of three: what was not met in n patients may still be met in 3 of n others.
    if within.all() and (rows["smaller_class"] >= 3 / settings.margin).all():
        return "no difference", best
    return "cannot be told", best


def _lead(outcome: Outcome, row: pd.Series, settings: Evaluation, whose: str) -> str:
    name = settings.primary if settings.primary != "auc" else "AUC"
    said = {
        "helps": f"Synthetic images{whose} help",
        "harms": f"Synthetic images{whose} harm",
        "no difference": f"Synthetic images{whose} make no difference larger than {settings.margin:g}",
        "cannot be told": f"It cannot be told whether synthetic images{whose} help",
    }
    return f"{said[outcome]}: {name} of `{row['arm']}` minus that of `{row['against']}` is {_found(row)}"


def _found(row: pd.Series) -> str:
    """A difference, its interval, and its p value."""
    found = f"{row['difference']:+.3f}"
    if pd.notna(row["difference_low"]):
        found += f" [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
    if pd.notna(row["p_holm"]):
        found += f", p = {row['p_holm']:.3f}" if row["p_holm"] >= 0.001 else ", p < 0.001"
    return found


def _could_show(row: pd.Series, needed: int | None, settings: Evaluation) -> str:
    """What it would have taken."""
    if pd.isna(row["detectable"]):
        return "nothing varies between these trainings and cases, or a class has a single patient"
    if row["detectable"] > 1:
        return f"no difference could have been shown, however large: {_more_trainings(row)}"
    shown = f"a difference of {row['detectable']:.{2 if row['detectable'] >= 0.01 else 3}f} could have been shown"
    if needed is None:
        return f"{shown}, and one of {settings.margin:g} by no number of test patients: {_more_trainings(row)}"
    if needed <= row["patients"]:
        return shown
    return f"{shown}, and one of {settings.margin:g} with {_rounded(needed)} test patients"


def _more_trainings(row: pd.Series) -> str:
    """What makes the spread between trainings less uncertain: of several generators, these are an arm's replicates."""
    return "raise classifier.seeds" if row["generators"] == 1 else "raise gan.*.seeds and classifier.seeds"


def _rounded(number: int) -> str:
    """About so many: two digits."""
    digits = max(len(str(number)) - 2, 0)
    return f"about {-(-number // 10**digits) * 10**digits:,}"


def _of_what(row: pd.Series, primary: str, facts: Facts) -> str:
    one, other = row["trainings"], row["against_trainings"]
    trainings = f"{one}" if one == other else f"{one} and {other}"
    generators = "one generator" if row["generators"] == 1 else f"{row['generators']} generators"
    each = " in each fold" if facts.folds > 1 else ""
    question = facts.all_classes if find_metric(primary).of_classes else facts.question
    asked = f"{question}, " if question else ""
    said = f"{asked}{facts.provenance}, trainings of each arm: {trainings}{each}, images of {generators}{each}, "
    said += f"{row['cases']} test images of {row['patients']} patients"
    return f"{said}, which says nothing about medicine" if "phantom" in facts.data else said
