"""Tables of the classifiers' scores; which metrics stand in which is said by `metrics.classifier_metrics.METRICS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from scangan.arms import place_of
from scangan.facts import Facts
from scangan.files import atomic
from scangan.metrics.classifier_metrics import METRICS, Table, find_metric
from scangan.metrics.confusion import COLUMNS as CALLS
from scangan.metrics.detection import AUC_INJECTED, AUC_REAL, AUC_SHAM
from scangan.report.tables import SCORE_COLUMNS, to_markdown, write_table

DIFFERENCE_COLUMNS = ["difference", "difference_low", "difference_high", "against", "detectable", "p_holm"]
STEPS_COLUMNS = ["steps", "steps_least", "steps_most"]
CLASSIFICATION_COLUMNS = [
    *("study", "arm", *SCORE_COLUMNS[:-3], *DIFFERENCE_COLUMNS, *STEPS_COLUMNS, "converged", *SCORE_COLUMNS[-3:])
]
EXTERNAL_COLUMNS = ["study", "arm", *SCORE_COLUMNS[:-3], *DIFFERENCE_COLUMNS, *SCORE_COLUMNS[-3:]]
SUBGROUP_COUNTS = ["images", "patients", "positive_images", "positive_patients", "negative_images", "negative_patients"]
SUBGROUPS_COLUMNS = [
    *("study", "subgroup", "arm", "metric", "value", "ci_low", "ci_high", "seeds"),
    *("difference", "difference_low", "difference_high", "against", *SUBGROUP_COUNTS, "not_scored"),
    *SCORE_COLUMNS[-3:],
]
CLASSES_COLUMNS = ["study", "arm", "class", *SCORE_COLUMNS]
CONFUSION_COLUMNS = ["study", *CALLS, *SCORE_COLUMNS[-3:]]
CALIBRATION_COLUMNS = ["study", "arm", *SCORE_COLUMNS[:-3], "if_calibrated", *SCORE_COLUMNS[-3:]]
SIZES_COLUMNS = ["study", "arm", "diameter_mm", *SCORE_COLUMNS[:-1]]
SIZES_NOTE = (
    "A row without diameter: the test volumes as they are; auc_real and auc_injected are of those with real and with "
    "injected nodules apart. With a diameter: each nodule-free test volume with nodules of this size put into it, and "
    "the same volume edited at the same places without a nodule (a sham); so chance is 0.5. auc_sham: of telling shams "
    "from untouched volumes; what it is above 0.5, a detector owes to traces of edits."
)
CALIBRATION_NOTE = (
    "If calibrated: what to expect of so few images if every probability were right. Only what an expected calibration "
    "error has beyond that speaks of the classifier."
)
CLASSES_NOTE = (
    "accuracy_of_classes, balanced_accuracy (mean recall), macro_f1 and macro_auc (mean of each class against the "
    "rest): of {classes}, an image being called by its most probable class. All others: of the positive class."
)
RECALL_NOTE = (
    "Recall: of the images of a class the share that is called so. Precision: of the images that are called so the "
    "share that is of the class (0: none is called so). Mean over trainings [95% interval, over trainings and test "
    "patients]; none is tested."
)
CONFUSION_NOTE = (
    "Test images of a class (rows) by the class that they are called (columns), that of the highest probability: mean "
    "over trainings (share of the row)."
)
EXTERNAL_NOTE = (
    "The classifiers are those of the table `classification`: nothing was trained, chosen or calibrated on these "
    "images. The best arm without synthetic images was chosen on the study's own validation images."
)
SUBGROUP_SCORES_NOTE = (
    "Mean over trainings [95% interval, over trainings and the subgroup's test patients; of one training over "
    "the patients alone]."
)
SUBGROUP_DIFFERENCES_NOTE = (
    "Difference to the same arm without synthetic images [95% interval, as of the table `classification`]. None is "
    "tested: the primary metric of all test images is, and it alone. Of many intervals some do not hold 0 by chance, "
    "and that two subgroups differ is said by neither's interval."
)
STEPS_NOTE = (
    "Steps: that each arm was trained for, mean over trainings (least to most); a training ends early where the "
    "validation loss no longer falls."
)
DIFFERENCES_NOTE = (
    "Difference to an arm without synthetic images [95% interval, over trainings and test patients]; could show: the "
    "smallest true difference that so many trainings and patients show with a power of 80% (none: not even one of 1); "
    "p: of the primary metric alone, corrected by Holm for all comparisons of this table. Trainings count as readers "
    "nested within arms, patients as cases that all of them read (Obuchowski and Rockette, Hillis)."
)
SINGLE_NOTE = (
    "Of an arm with a single training the interval of a difference covers the test patients alone: another training "
    "may differ by more. There is no p value then."
)
ONE_GENERATOR_NOTE = (
    "All synthetic images are of one training of the generator. No interval, and no p value, covers another one, with "
    "which the difference may be another: raise gan.*.seeds."
)
GENERATORS_NOTE = (
    "Synthetic images are of {generators} trainings of the generator. Those are the trainings of an arm with synthetic "
    "images, each the mean over its classifiers, in the intervals of differences as in those of scores."
)
FOLDS_NOTE = (
    "{folds} folds: each image is tested once, by networks of which none, nor their generators, saw its patient. "
    "A training, of a classifier or a generator, is one network in every fold. The AUC is of pairs within a fold. "
    "Folds share training patients, for which no interval makes up (Bengio and Grandvalet)."
)


def study_note(facts: Facts) -> str:
    """The lines below a table of several folds, or of more classes than two; empty without."""
    asked = [f"Positive: {facts.question}.", CLASSES_NOTE.format(classes=facts.all_classes)] if facts.question else []
    return "\n".join([*asked, *([FOLDS_NOTE.format(folds=facts.folds)] if facts.folds > 1 else [])])


def classification_table(
    scores: pd.DataFrame, comparisons: pd.DataFrame, steps: pd.DataFrame, unconverged: Mapping[str, int], facts: Facts
) -> pd.DataFrame:
    """`classification.csv`: accuracy, sensitivity, specificity, F1, AUC of each arm, and its difference.

    scores: what `score_arms` returns. comparisons: what `metrics.comparison.compare_arms` returns; here stands the
    difference to the counterpart, the same arm without the synthetic images. steps: what
    `metrics.convergence.count_steps` returns. unconverged: arm -> trainings that had not converged; `converged` is
    `yes` without any.
    """
    differences = comparisons.loc[comparisons["counterpart"].astype(bool), ["arm", "metric", *DIFFERENCE_COLUMNS]]
    table = _table("classification", scores, place_of, facts).merge(differences, on=["arm", "metric"], how="left")
    table = table.merge(steps, on="arm", how="left")
    converged = table["arm"].map(lambda arm: "no" if unconverged.get(arm) else "yes")
    return table.assign(converged=converged)[CLASSIFICATION_COLUMNS]


def external_table(scores: pd.DataFrame, comparisons: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """`external.csv`: the same of other patients' images, as far as it speaks of tests and not of trainings."""
    differences = comparisons.loc[comparisons["counterpart"].astype(bool), ["arm", "metric", *DIFFERENCE_COLUMNS]]
    table = _table("classification", scores, place_of, facts).merge(differences, on=["arm", "metric"], how="left")
    return table[EXTERNAL_COLUMNS]


def subgroups_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """`subgroups.csv` from what `metrics.subgroups.score_subgroups` returns."""
    return facts.assign(scores)[SUBGROUPS_COLUMNS]


def calibration_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """`calibration.csv` from what `score_arms` returns: Brier score and expected calibration error of each arm."""
    return _table("calibration", scores, place_of, facts)[CALIBRATION_COLUMNS]


def classes_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """`classes.csv` from what `score_arms` returns: recall and precision of each of three or more classes."""
    table = _table("classes", scores, place_of, facts)
    named = table["metric"].str.partition(":")
    return table.assign(**{"metric": named[0], "class": named[2]})[CLASSES_COLUMNS]


def confusion_table(calls: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """`confusion.csv` from what `metrics.confusion.count_calls` returns."""
    return facts.assign(calls).sort_values(
        "arm", key=lambda column: column.map(place_of), kind="stable", ignore_index=True
    )[CONFUSION_COLUMNS]


def sizes_table(scores: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """Figure 3(b) of CT-SGAN in numbers (`detection.csv`), from what `metrics.detection.score_sizes` returns.

    Accuracy, sensitivity, specificity and AUC of each arm: of the test volumes as they are (diameter missing), then of
    each diameter; and the AUCs that `score_sizes` has besides.
    """
    more = (AUC_REAL, AUC_INJECTED, AUC_SHAM)
    return _table("detection", scores, list(scores["arm"].unique()).index, facts, more)[SIZES_COLUMNS]


def write_scores(
    tidy: pd.DataFrame, csv_path: str | Path, md_path: str | Path, index: str | list[str], note: str = ""
) -> None:
    """`report.tables.write_table`, with each metric's own number of decimals."""
    write_table(tidy, csv_path, md_path, index, note, _decimals())


def write_classification(
    tidy: pd.DataFrame, comparisons: pd.DataFrame, csv_path: str | Path, md_path: str | Path, note: str = ""
) -> None:
    """`classification.csv`, and for people the scores and below them all comparisons of the study."""
    with atomic(csv_path) as csv, atomic(md_path) as markdown:
        tidy.to_csv(csv, index=False)
        said = [_steps(*row) for row in tidy[STEPS_COLUMNS].itertuples(index=False)]
        shown = tidy.assign(steps=said).drop(columns=[*DIFFERENCE_COLUMNS, *STEPS_COLUMNS[1:]])
        how = "\n".join(filter(None, (STEPS_NOTE, _convergence_note(tidy))))
        scores = to_markdown(shown, "arm", note=how, decimals=_decimals())
        markdown.write_text(_joined([scores, *differences_markdown(comparisons), *note.splitlines()]), encoding="utf-8")


def write_classes(tidy: pd.DataFrame, csv_path: str | Path, md_path: str | Path) -> None:
    """`classes.csv`, and for people a row for each arm and class."""
    with atomic(csv_path) as csv, atomic(md_path) as markdown:
        tidy.to_csv(csv, index=False)
        cells = tidy.assign(score=[_score(row) for row in tidy.to_dict("records")])
        markdown.write_text(
            _joined([_wide(cells, ["arm", "class", "data", "scale"], "score"), RECALL_NOTE]), encoding="utf-8"
        )


def write_confusion(tidy: pd.DataFrame, csv_path: str | Path, md_path: str | Path) -> None:
    """`confusion.csv`, and for people a row for each arm and class, a column for each class that is called."""
    with atomic(csv_path) as csv, atomic(md_path) as markdown:
        tidy.to_csv(csv, index=False)
        cells = tidy.assign(cell=[f"{row.images:.4g} ({row.share:.0%})" for row in tidy.itertuples()])
        wide = _wide(cells.assign(metric="called " + cells["called"]), ["arm", "class", "data", "scale"], "cell")
        markdown.write_text(_joined([wide, CONFUSION_NOTE]), encoding="utf-8")


def write_external(
    tidy: pd.DataFrame, comparisons: pd.DataFrame, csv_path: str | Path, md_path: str | Path, note: str = ""
) -> None:
    """`external.csv`, and for people the scores and below them all comparisons on other patients."""
    with atomic(csv_path) as csv, atomic(md_path) as markdown:
        tidy.to_csv(csv, index=False)
        scores = to_markdown(tidy.drop(columns=DIFFERENCE_COLUMNS), "arm", decimals=_decimals())
        markdown.write_text(
            _joined([scores, *differences_markdown(comparisons), EXTERNAL_NOTE, *note.splitlines()]), encoding="utf-8"
        )


def write_subgroups(tidy: pd.DataFrame, column: str, csv_path: str | Path, md_path: str | Path) -> None:
    """`subgroups.csv`, and for people whom the subgroups of a column have, their scores, and their differences."""
    with atomic(csv_path) as csv, atomic(md_path) as markdown:
        tidy.to_csv(csv, index=False)
        # A bar would begin another cell.
        tidy = tidy.assign(subgroup=tidy["subgroup"].str.replace("|", r"\|"))
        counts = tidy[["study", "subgroup", *SUBGROUP_COUNTS, "not_scored", "data", "scale"]].drop_duplicates()
        paragraphs = [to_markdown(counts, None, note=f"Subgroups by `{column}`, of the test images.")]
        scored = tidy[tidy["not_scored"] == ""]
        compared = scored[scored["difference"].notna()]
        if len(scored):
            cells = scored.assign(score=[_score(row) for row in scored.to_dict("records")])
            paragraphs += [_wide(cells, ["subgroup", "arm"], "score"), SUBGROUP_SCORES_NOTE]
        if len(compared):
            cells = compared.assign(cell=[_difference(row) for row in compared.to_dict("records")])
            paragraphs += [_wide(cells, ["subgroup", "arm", "against"], "cell"), SUBGROUP_DIFFERENCES_NOTE]
        markdown.write_text(_joined(paragraphs), encoding="utf-8")


def differences_markdown(comparisons: pd.DataFrame) -> list[str]:
    """The paragraphs that show all comparisons: a row for each pair of arms, a column a metric; none without any."""
    if comparisons.empty:
        return []
    cells = comparisons.assign(cell=[_difference(row) for row in comparisons.to_dict("records")])
    single = cells[["trainings", "against_trainings"]].min(axis=None) == 1
    return [
        _wide(cells, ["arm", "against"], "cell"),
        DIFFERENCES_NOTE,
        *([SINGLE_NOTE] if single else []),
        *_generators_notes(cells),
    ]


def _generators_notes(cells: pd.DataFrame) -> list[str]:
    """Of how many trainings of the generator synthetic images are; several networks may differ in that."""
    arms = cells.groupby("generators")["arm"].unique()
    notes = []
    for number, of_arms in arms.items():
        note = ONE_GENERATOR_NOTE if number == 1 else GENERATORS_NOTE.format(generators=number)
        named = "" if len(arms) == 1 else f"{', '.join(f'`{arm}`' for arm in of_arms)}: "
        notes.append(f"{named}{note}")
    return notes


def _wide(cells: pd.DataFrame, keys: list[str], cell: str) -> str:
    """A row for each combination of the keys, in the order in which they come, a column a metric."""
    wide = cells.pivot(index=keys, columns="metric", values=cell)
    rows = pd.MultiIndex.from_frame(cells[keys].drop_duplicates())
    return wide.loc[rows, cells["metric"].unique()].reset_index().to_markdown(index=False, disable_numparse=True)


def _joined(paragraphs: list[str]) -> str:
    return "\n\n".join(each.rstrip() for each in paragraphs) + "\n"


def decimals_for(least: int, low: float, high: float) -> int:
    """Decimals with which an interval's ends differ: one more than usual where a large test set makes it narrow."""
    return least + (high - low < 2 * 10**-least)


def _score(row: dict) -> str:
    if pd.isna(row["ci_low"]):
        return f"{row['value']:.{METRICS[row['metric']].decimals}f}"
    number = f"{{:.{decimals_for(METRICS[row['metric']].decimals, row['ci_low'], row['ci_high'])}f}}".format
    return f"{number(row['value'])} [{number(row['ci_low'])}, {number(row['ci_high'])}]"


def _difference(row: dict) -> str:
    decimals = decimals_for(METRICS[row["metric"]].decimals, row["difference_low"], row["difference_high"])
    number = f"{{:+.{decimals}f}}".format
    if pd.isna(row["difference_low"]):
        return number(row["difference"])
    cell = f"{number(row['difference'])} [{number(row['difference_low'])}, {number(row['difference_high'])}]"
    if "detectable" in row:
        shown = number(row["detectable"])[1:] if row["detectable"] <= 1 else "none"
        cell += f", could show {shown}"
    if pd.notna(row.get("p_holm")):
        cell += f", p = {row['p_holm']:.3f}" if row["p_holm"] >= 0.001 else ", p < 0.001"
    return cell


def _steps(mean: float, least: float, most: float) -> str:
    return f"{mean:.0f}" if least == most else f"{mean:.0f} ({least:.0f} to {most:.0f})"


def _convergence_note(tidy: pd.DataFrame) -> str:
    if (tidy["converged"] == "yes").all():
        return ""
    return (
        "Converged: no, where the best validation loss of a training is that of its last steps, or its training loss "
        "still falls; raise classifier.steps."
    )


def _decimals() -> dict[str, int]:
    return {name: metric.decimals for name, metric in METRICS.items()}


def _table(
    name: Table, scores: pd.DataFrame, place: Callable[[str], int], facts: Facts, more: Sequence[str] = ()
) -> pd.DataFrame:
    """The scores of the table's metrics, and of `more`, arm by arm in the order of their places, with all columns."""
    belongs = [metric in more or name in find_metric(metric).tables for metric in scores["metric"]]
    chosen = facts.assign(scores[belongs])
    return chosen.sort_values("arm", key=lambda column: column.map(place), kind="stable", ignore_index=True)
