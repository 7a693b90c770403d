"""Whether the comparison of arms keeps its promises, on simulated classifiers whose true difference is known.

make statistics     writes docs/statistics.md; minutes
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from scangan.metrics.comparison import Difference, Replicates, compare, replicates_of, score_between  # noqa: E402
from scangan.metrics.curve import as_good_between, patients_worth  # noqa: E402

CASES, TRAININGS = (22, 203, 1000), (3, 5)
METRICS = ("auc", "specificity")
SEPARATION, SEPARATION_SD = 2.2, 0.3  # between the classes' mean logits, of all trainings and from one to the next
DIFFICULTY_SD = 1.0  # of a case, the same for all trainings
OWN_SD = 0.8  # of a case in one training
SHIFT_SD = 0.65  # of a training's logits: a spread of its specificity of 0.15
PATIENTS, SEPARATION_GAIN = (25, 50, 100), 0.4  # of a curve, and what a doubling of them gains
# Two arms that differ lie about this score, half of the difference on either side, and differ by no more than this.
MIDDLE, ROOM = {"auc": 0.75, "specificity": 0.5}, {"auc": 0.4, "specificity": 0.9}


@dataclass(frozen=True)
class Arm:
    """Classifiers of one arm. shift: of all their logits; separation: between the classes' mean logits.

    generators: the trainings are from so many generators, whose shift they share; None: each is one of its own.
    folds: a training is one network in each of so many, with a shift and a separation of its own.
    """

    trainings: int
    shift: float = -0.1
    separation: float = SEPARATION
    shift_sd: float = SHIFT_SD
    generators: int | None = None
    folds: int = 1

    def truth(self, metric: str) -> float:
        """The expected score, over all trainings and cases."""
        noise = DIFFICULTY_SD**2 + OWN_SD**2
        if metric == "auc":
            return norm.cdf(self.separation / np.sqrt(SEPARATION_SD**2 + 2 * noise))
        return norm.cdf((self.separation / 2 - self.shift) / np.sqrt(SEPARATION_SD**2 / 4 + self.shift_sd**2 + noise))

    def better_by(self, difference: float, metric: str) -> Arm:
        """The arm whose expected score is so much higher."""
        wanted = norm.ppf(self.truth(metric) + difference) / norm.ppf(self.truth(metric))
        if metric == "auc":
            return replace(self, separation=self.separation * wanted)
        return replace(self, shift=self.separation / 2 - (self.separation / 2 - self.shift) * wanted)

    def draw(
        self, rng: np.random.Generator, is_positive: np.ndarray, difficulty: np.ndarray, fold: np.ndarray
    ) -> np.ndarray:
        """Probabilities [trainings, N] of its trainings, each one anew. fold: [N], of each image."""
        groups, shape = self.generators or self.trainings, (self.trainings, self.folds)
        shift = self.shift_sd * rng.normal(size=(groups, self.folds)).repeat(self.trainings // groups, axis=0)[:, fold]
        shift += self.shift
        separation = self.separation + SEPARATION_SD * rng.normal(size=shape)[:, fold]
        own = OWN_SD * rng.normal(size=(self.trainings, len(is_positive)))
        return 1 / (1 + np.exp(-(separation * (is_positive - 0.5) + shift + difficulty + own)))


def replicates(
    rng: np.random.Generator, arms: tuple[Arm, ...], cases: int, images: int, metrics: tuple[str, ...]
) -> Iterator[dict[str, Replicates]]:
    """Arms on the same test set of so many patients, each with so many images of one difficulty and class."""
    patient = np.arange(cases).repeat(images)
    is_positive, difficulty = patient % 2 == 1, DIFFICULTY_SD * rng.normal(size=cases)[patient]
    for arm in arms:
        groups = arm.generators or 1
        generator, fold = np.arange(groups).repeat(arm.trainings // groups), patient // 2 % arm.folds
        probability = arm.draw(rng, is_positive, difficulty, fold)
        yield replicates_of(probability, is_positive, patient, generator, metrics, fold)


def simulate(
    arms: tuple[Arm, Arm], cases: int, runs: int, metrics: tuple[str, ...] = METRICS, images: int = 1, seed: int = 0
) -> dict[str, tuple[list[Difference], float]]:
    """Metric -> the differences found in so many studies, and the mean spread (SD) of the first arm's trainings."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Difference]] = {metric: [] for metric in metrics}
    spreads: dict[str, list[float]] = {metric: [] for metric in metrics}
    for _ in range(runs):
        one, other = replicates(rng, arms, cases, images, metrics)
        for metric in metrics:
            found[metric].append(compare(one[metric], other[metric]))
            spreads[metric].append(one[metric].value.var(ddof=1))
    return {metric: (found[metric], float(np.sqrt(np.mean(spreads[metric])))) for metric in metrics}


def significant(differences: list[Difference]) -> float:
    """Share of the studies with p < 0.05; a study in which nothing varies has none."""
    return float(np.mean([each.p_value < 0.05 for each in differences]))


def covered(differences: list[Difference], truth: float) -> float:
    """Share of the intervals that hold the true difference, of those that there are."""
    there = [each for each in differences if not np.isnan(each.difference_low)]
    return float(np.mean([each.difference_low <= truth <= each.difference_high for each in there]))


def detectable(differences: list[Difference]) -> float:
    """The difference that the studies say they can show, on average."""
    return float(np.nanmean([each.detectable for each in differences]))


def at_detectable(arm: Arm, cases: int, runs: int, metric: str) -> tuple[float, tuple[Arm, Arm]]:
    """The true difference that equals what the studies say they can show, and two such arms about the middle."""
    difference, arms = 0.0, (arm, arm)
    for seed in (11, 12, 13):
        difference = min(detectable(simulate(arms, cases, runs, (metric,), seed=seed)[metric][0]), ROOM[metric])
        low = arm.better_by(MIDDLE[metric] - difference / 2 - arm.truth(metric), metric)
        arms = (low.better_by(difference, metric), low)
    return difference, arms


def measure(cases: int, trainings: int, runs: int) -> list[dict[str, object]]:
    """The rows of the table for so many cases and trainings."""
    arm, rows = Arm(trainings), []
    null = simulate((arm, arm), cases, runs)
    uneven = simulate((replace(arm, shift_sd=SHIFT_SD / 3), arm), cases, runs, seed=1)
    for metric in METRICS:
        differences, spread = null[metric]
        difference, arms = at_detectable(arm, cases, max(runs // 8, 50), metric)
        shown = simulate(arms, cases, runs, (metric,), seed=2)[metric][0]
        truth = arms[0].truth(metric) - arms[1].truth(metric)
        unlike = uneven[metric][0]
        unlike_truth = replace(arm, shift_sd=SHIFT_SD / 3).truth(metric) - arm.truth(metric)
        rows.append(
            {
                "metric": metric,
                "cases": cases,
                "trainings": trainings,
                "spread (SD)": f"{spread:.3f}",
                "p < 0.05 without a difference": f"{significant(differences):.1%}",
                "covered, no difference": f"{covered(differences, 0):.1%}",
                "covered, one arm a third as spread": f"{covered(unlike, unlike_truth):.1%}",
                "detectable": f"{difference:.3f}",
                "found": f"{significant(shown):.1%}",
                "covered, that difference": f"{covered(shown, truth):.1%}",
            }
        )
    return rows


def worth_covered(trainings: int, cases: int, beside: int, gain: float, runs: int, seed: int = 0) -> float:
    """Share of the studies whose interval of what synthetic images are worth holds the truth.

    beside: of the patients PATIENTS, with so many the images are added to; gain: in separation, where each doubling of
    patients gains SEPARATION_GAIN.
    """
    rng, patients = np.random.default_rng(seed), np.array(PATIENTS)
    separations = SEPARATION + SEPARATION_GAIN * np.log2(patients / patients[-1])
    curve = [Arm(trainings, separation=each) for each in separations]
    arm = Arm(trainings, separation=separations[PATIENTS.index(beside)] + gain)
    truth = patients_worth(np.array([each.truth("auc") for each in curve]), patients, arm.truth("auc"))
    held = []
    for _ in range(runs):
        one, *points = (each["auc"] for each in replicates(rng, (arm, *curve), cases, 1, ("auc",)))
        low, high = as_good_between(one, points, patients)
        held.append(low <= truth <= high)
    return float(np.mean(held))


def measure_worth(runs: int) -> pd.DataFrame:
    """Share of the intervals that hold what synthetic images are worth, by trainings and test cases."""
    rows = []
    for trainings, cases in product(TRAININGS, CASES[:2]):
        row: dict[str, object] = {"trainings": trainings, "cases": cases}
        for beside, gain in product(PATIENTS, (0.0, SEPARATION_GAIN / 2)):
            row[f"{beside}, worth {'something' if gain else 'nothing'}"] = (
                f"{worth_covered(trainings, cases, beside, gain, runs):.1%}"
            )
        rows.append(row)
    return pd.DataFrame(rows)


def alone_covered(arm: Arm, cases: int, runs: int, seed: int = 0) -> dict[str, float]:
    """Metric -> the share of an arm's own intervals that hold its true score, of those that there are."""
    rng = np.random.default_rng(seed)
    held: dict[str, list[bool]] = {metric: [] for metric in METRICS}
    for _ in range(runs):
        (found,) = replicates(rng, (arm,), cases, 1, METRICS)
        for metric in METRICS:
            low, high = score_between(found[metric], cases // 2)
            if not np.isnan(low):
                held[metric].append(low <= arm.truth(metric) <= high)
    return {metric: float(np.mean(each)) for metric, each in held.items()}


def measure_alone(runs: int) -> pd.DataFrame:
    """Share of arms' own intervals that hold the true score: as spread as seen, hardly spread, and near perfect."""
    rows = []
    for trainings, cases in product((1, *TRAININGS), CASES[:2]):
        row: dict[str, object] = {"trainings": trainings, "cases": cases}
        kinds = {"as seen": Arm(trainings), "alike": Arm(trainings, shift_sd=SHIFT_SD / 6)}
        kinds["near perfect"] = Arm(trainings, shift=-2.5, separation=4)
        for kind, arm in kinds.items():
            found = alone_covered(arm, cases, runs)
            row |= {f"{metric} {arm.truth(metric):.2f}, {kind}": f"{share:.1%}" for metric, share in found.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def write_rows(rows: list[dict[str, object]], document: Path) -> None:
    """Put the table in place of the one that the document ends in."""
    table = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    text = document.read_text(encoding="utf-8").partition("| metric")[0]
    document.write_text(f"{text}{table}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulated studies in each cell; a third at most cases")
    parser.add_argument("--worth", action="store_true", help="print alone how often worth's intervals hold the truth")
    parser.add_argument(
        "--alone", action="store_true", help="print alone how often an arm's own interval holds its score"
    )
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "statistics.md")
    arguments = parser.parse_args()
    if arguments.worth:
        print(measure_worth(arguments.runs).to_string(index=False))
        return
    if arguments.alone:
        print(measure_alone(arguments.runs).to_string(index=False))
        return
    rows = []
    for cases, trainings in product(CASES, TRAININGS):
        rows += measure(cases, trainings, arguments.runs // (3 if cases == CASES[-1] else 1))
        print(pd.DataFrame(rows).to_string(index=False), flush=True)
    write_rows(rows, arguments.document)


if __name__ == "__main__":
    main()
