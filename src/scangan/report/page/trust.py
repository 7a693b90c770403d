"""May a generator be trusted? Told from the table `fidelity`, before its arms are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from scangan.report.tables import BY_ENCODER, BY_RADIOMICS, DECIMALS, PLANTED

Grade = Literal["like real images", "learnt something", "did not learn", "not measured"]

TABLES = ("fidelity", "screening", "consistency")
ENERGY, RADIOMICS = "energy_distance", BY_RADIOMICS[0]
# Distances between sets, 0 (the same distribution) to 1; the first that was measured is the headline.
DISTANCES = (ENERGY, RADIOMICS, BY_ENCODER)
MANIFOLD = ("precision", "coverage")  # both need a neighbourhood of real images
RECALLS = ("recall", "radiomics_recall")  # variety: the first that was measured counts
# Of what real images reach: less than this share of it, by the whole interval, is not learnt, or too few kinds.
HALF = 0.5
# Without intervals of precision and coverage: a distance of more than this, by the whole interval, is not learnt.
FAR = 0.25
FOUND = 0.9  # a kind of planted copies is found by the check if it finds this share of them
NAMES = {ENERGY: "energy distance", RADIOMICS: "radiomics distance", BY_ENCODER: "encoder distance"}


@dataclass(frozen=True)
class Trust:
    """What is known of one network's images.

    grade: in a few words; lead: the sentence to read first; facts: what it rests on, one sentence each.
    headline: the distance to held-out real images, as text.
    """

    gan: str
    grade: Grade
    lead: str
    headline: str
    facts: tuple[str, ...]


def trust_in(gan: str, tables: Mapping[str, pd.DataFrame], has_arms: bool = True) -> Trust:
    """Of one network; tables: `fidelity`, and where there are such `screening` and (of volumes) `consistency`.

    has_arms: whether classifiers were trained on its images.

    The rule: a network `did not learn` if precision and coverage both lie, by their whole intervals, below half of what
    real images reach; where these were not measured (volumes; an extractor that it was trained against) or have no
    interval (of few images), if any of its distances to held-out real images is, by its whole interval, above 0.25 of
    at most 1: by radiomics alone images of one grey are nearly real. It is `like real images` if the interval of that
    distance reaches down to that of the training images.
    """
    rows = {name: _rows_of(gan, tables[name]) for name in TABLES if name in tables}
    fidelity = rows.get("fidelity", {})
    headline = next((fidelity[name] for name in DISTANCES if name in fidelity), None)
    if headline is None:
        return Trust(gan, "not measured", f"Nothing was measured of the images of `{gan}`.", "", ())
    grade = _grade(fidelity, headline)
    facts = [
        f"Beside held-out real images: {'; '.join(map(_scored, _shown(fidelity)))}.",
        _unrealistic(rows.get("screening", {})),
        _copies(fidelity | rows.get("consistency", {})),
    ]
    lead = LEADS[grade].format(gan=gan, arms="the arms with its images" if has_arms else "its images")
    lead = " ".join(filter(None, (lead, _variety(fidelity))))
    return Trust(gan, grade, lead, _scored(headline), tuple(filter(None, facts)))


def over_folds(folds: Sequence[Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The tables of a study's folds as one each: means, with intervals from the lowest to the highest of all folds.

    So a network `did not learn` if it learnt in no fold.
    """
    how = {"value": "mean", "reference": "mean", "ci_low": "min", "ci_high": "max"}
    how |= {"reference_low": "min", "reference_high": "max"}
    names = dict.fromkeys(name for tables in folds for name in tables)
    joined = {name: pd.concat([tables[name] for tables in folds if name in tables]) for name in names}
    return {
        name: table.groupby(["variant", "metric"], sort=False, as_index=False).agg(
            {column: wanted for column, wanted in how.items() if column in table}
        )
        for name, table in joined.items()
    }


LEADS: dict[Grade, str] = {
    "did not learn": "The generator `{gan}` did not learn: {arms} say nothing.",
    "learnt something": (
        "The generator `{gan}` learnt something, and its images are still told apart from real ones: {arms} say what "
        "such images do, not what good ones would."
    ),
    "like real images": "By this measure the images of `{gan}` cannot be told apart from held-out real ones.",
}


def _rows_of(gan: str, table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Metric -> its row, of all classes of a network together; of volumes there are no classes."""
    names = [f"{gan}/all", gan]
    found = next((table[table["variant"] == name] for name in names if (table["variant"] == name).any()), table[:0])
    return {row["metric"]: row for row in found.to_dict("records")}


def _grade(fidelity: Mapping[str, dict[str, float]], headline: Mapping[str, float]) -> Grade:
    if all(name in fidelity and pd.notna(fidelity[name]["ci_high"]) for name in MANIFOLD):
        lost = [fidelity[name]["ci_high"] < HALF * fidelity[name]["reference"] for name in MANIFOLD]
        if all(lost):
            return "did not learn"
    elif any(fidelity[name]["ci_low"] > FAR for name in DISTANCES if name in fidelity):
        return "did not learn"
    return "like real images" if headline["ci_low"] <= headline["reference_high"] else "learnt something"


def _shown(fidelity: Mapping[str, dict[str, float]]) -> list[dict[str, float]]:
    wanted = (*DISTANCES, *MANIFOLD, *RECALLS)
    return [fidelity[name] for name in wanted if name in fidelity]


def _variety(fidelity: Mapping[str, dict[str, float]]) -> str:
    """Said of a network that draws too few kinds of images, however real each of them looks."""
    row = next((fidelity[name] for name in RECALLS if name in fidelity), None)
    if row is None or not row["ci_high"] < HALF * row["reference"]:
        return ""
    shares = f"{row['value']:.0%} of real images lie among them ({row['reference']:.0%} among other real ones)"
    return f"Its images lack variety: {shares}."


def _scored(row: Mapping) -> str:
    metric = row["metric"]
    number = f"{{:.{DECIMALS.get(metric, 2)}f}}".format
    name = NAMES.get(metric, metric.replace("_", " "))
    interval = f" [{number(row['ci_low'])}, {number(row['ci_high'])}]" if pd.notna(row["ci_low"]) else ""
    return f"{name} {number(row['value'])}{interval} (real {number(row['reference'])})"


def _unrealistic(screening: Mapping[str, Mapping]) -> str:
    if "unrealistic" not in screening:
        return ""
    row = screening["unrealistic"]
    return f"{row['value']:.0%} of its images look unrealistic (of real ones {row['reference']:.0%})."


def _copies(rows: Mapping[str, Mapping]) -> str:
    """What the copy check says, and what it would have found."""
    if "suspected_copies" not in rows:
        return "Copies of training images were not looked for."
    planted = {name.removeprefix(PLANTED): row["value"] for name, row in rows.items() if name.startswith(PLANTED)}
    row = rows["suspected_copies"]
    said = f"{row['value']:.1%} of its images are suspected to be copies of training images (of real ones "
    said += f"{row['reference']:.1%} would be)"
    found = [kind for kind, share in planted.items() if share >= FOUND]
    missed = [f"{kind} ({share:.0%} found)" for kind, share in planted.items() if share < FOUND]
    power = f"; the check finds planted copies that are {', '.join(found)}" if found else ""
    lacks = f"{'' if found else '; the check'}, and misses {', '.join(missed)}" if missed else ""
    return f"{said}{power}{lacks}."


def summary(trusts: Sequence[Trust]) -> str:
    """Of several networks in one line: `did not learn: a, b; learnt something: c`."""
    graded: dict[str, list[str]] = {}
    for trust in trusts:
        graded.setdefault(trust.grade, []).append(trust.gan)
    return "; ".join(f"{grade}: {', '.join(gans)}" for grade, gans in graded.items())
