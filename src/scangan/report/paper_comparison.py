"""Our figures beside those the papers print, with a verdict whether the two can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from scangan.metrics.reading import SIMULATED
from scangan.report.tables import write_table

# What the papers' Visual Turing Test asks: our question.
QUESTIONS = {"real_or_synthetic_accuracy": "origin", "tumour_or_not_accuracy": "label"}
COLUMNS = [
    *("study", "source", "item", "metric", "paper", "paper_plus_minus", "ours", "ci_low", "ci_high", "data", "scale"),
    *("comparable", "why_not"),
]
NOTE = (
    "The papers' printed figures beside those of this run: `comparable` says whether the two may be compared, "
    "`why not` lists every reason against."
)


def read_papers() -> dict[str, dict[str, Any]]:
    """The printed figures, by study (`papers.yaml`)."""
    return yaml.safe_load(Path(__file__).with_name("papers.yaml").read_text(encoding="utf-8"))


def compare_with_papers(tables: dict[str, dict[str, pd.DataFrame]]) -> pd.DataFrame:
    """A row for each figure that a paper prints, or announces and does not print.

    tables: study -> `cohort`, `classification`, `detection`, `fidelity`, `judge`, `readers`, in the columns of those
    CSV files; any may be missing. Only the studies given appear, and one without a paper (a user's own data) has no
    rows. `item` is the arm or variant, with the nodules' diameter where there is one; `comparable` is yes or no, and
    `why_not` lists every reason.
    """
    papers = read_papers()
    rows = []
    for study in [name for name in tables if name in papers]:
        paper, ours = papers[study], tables[study]
        for figure in paper["figures"]:
            found = _find(ours, figure)
            reasons = _reasons_against(paper, figure, found, ours)
            note = f" ({figure['note']})" if "note" in figure else ""
            rows.append(
                {
                    "study": study,
                    "source": f"{paper['paper']}: {figure['source']}{note}",
                    "item": _item(figure),
                    "metric": figure["metric"],
                    "paper": figure["value"],
                    "paper_plus_minus": figure.get("plus_minus"),
                    "ours": found.get("value"),
                    "ci_low": found.get("ci_low"),
                    "ci_high": found.get("ci_high"),
                    "data": _first(ours, "data") if "data" in found or not found else "any",
                    "scale": _first(ours, "scale") if "scale" in found or not found else "any",
                    "comparable": "no" if reasons else "yes",
                    "why_not": "; ".join(reasons),
                }
            )
    numbers = ["paper", "paper_plus_minus", "ours", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(numbers, float))


def write_comparison(comparison: pd.DataFrame, csv_path: str | Path, md_path: str | Path) -> None:
    """Write the comparison as CSV and as Markdown; neither file is ever seen half-written."""
    write_table(comparison, csv_path, md_path, index=None, note=NOTE)


def _table_of(figure: dict[str, Any]) -> str:
    if "part" in figure:
        return "cohort"
    if "arm" in figure:
        return "detection" if "diameter_mm" in figure else "classification"
    return "judge" if figure["metric"] == "judged_positive" else "fidelity"


def _item(figure: dict[str, Any]) -> str:
    if "part" in figure:
        return f"{figure['part']}/{figure['label']}"
    item = figure.get("arm") or figure["variant"]
    return f"{item}, {figure['diameter_mm']:g} mm" if "diameter_mm" in figure else item


def _find(ours: dict[str, pd.DataFrame], figure: dict[str, Any]) -> dict[str, Any]:
    """Our row for a printed figure, or nothing."""
    if figure["metric"] in QUESTIONS:
        return _accuracy_of_readers(ours["readers"], QUESTIONS[figure["metric"]]) if "readers" in ours else {}
    if figure["metric"] == "trainable_parameters":
        return {"value": _trainable_parameters(*figure["variant"].split())}
    kind = _table_of(figure)
    if kind not in ours:
        return {}
    table = ours[kind]
    if kind == "cohort":
        return _images_of_cohort(table, figure["part"], figure["label"])
    item = "arm" if "arm" in figure else "variant"
    rows = table[(table[item] == figure[item]) & (table["metric"] == figure["metric"])]
    if kind == "judge":
        rows = rows[rows["set"] == "mean"]
    if kind == "detection":
        rows = rows[rows["diameter_mm"] == figure["diameter_mm"]]
    return rows.iloc[0].to_dict() if len(rows) else {}


def _reasons_against(
    paper: dict[str, Any], figure: dict[str, Any], found: dict[str, Any], ours: dict[str, pd.DataFrame]
) -> list[str]:
    reasons = [figure["why_not"]] if "why_not" in figure else []
    if figure["metric"] == "trainable_parameters":
        return reasons
    if figure["value"] is None:
        reasons.append("the paper prints no figure; ours is the first" if found else "the paper prints no figure")
    if not found:
        return [*reasons, "not measured in this run"]
    if found["data"] != "real":
        reasons.append(f"{found['data']} data")
    if found["scale"] != "paper":
        reasons.append(f"{found['scale']} scale")
    if SIMULATED in found.get("readers", ""):
        reasons.append("simulated readers")
    for condition in ("extractor", "pretrained"):
        if condition in found and condition in paper and found[condition] != paper[condition] and "judge" not in figure:
            reasons.append(f"another {condition}: {found[condition]}, the paper's {paper[condition]}")
    if "judge" in figure and found["pretrained"] != figure["judge"]:
        reasons.append("another judge: the paper's is the one that the data set's authors published")
    wanted = figure.get("images")
    if "variant" in figure and figure["value"] is not None and wanted not in (found["images"], "not printed"):
        reasons.append("another number of images")
    return reasons


def _images_of_cohort(cohort: pd.DataFrame, part: str, label: str) -> dict[str, Any]:
    """How many images of a class a part of the cohort holds, or all of it."""
    rows = cohort[(cohort["label"] == label) & ((cohort["split"] == part) | (part == "all"))]
    rows = rows[~rows["split"].isin(["rejected", "left out"])]
    return rows.iloc[0].to_dict() | {"value": rows["images"].sum()} if len(rows) else {}


def _accuracy_of_readers(readers: pd.DataFrame, question: str) -> dict[str, Any]:
    """All readers together, or the only one."""
    rows = readers.query("question == @question and metric == 'accuracy' and group == 'all'")
    together = rows[rows["reader"] == "all"]
    return (together if len(together) else rows).iloc[0].to_dict() | {"readers": " ".join(readers["reader"].unique())}


def _first(ours: dict[str, pd.DataFrame], column: str) -> str:
    return next((str(table[column].iloc[0]) for table in ours.values()), "")


def _trainable_parameters(model: str, part: str) -> int:
    """Of a network (`generator` or `discriminator`) at the paper's width, built without memory for its weights."""
    import torch

    from scangan.models.catalogue import find_model

    with torch.device("meta"):
        network = getattr(find_model(model), part.capitalize())()
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
