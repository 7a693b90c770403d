"""The verdict of a study, for programs and for people."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from scangan.config import Evaluation
from scangan.facts import Facts
from scangan.files import atomic
from scangan.metrics.verdict import Verdict
from scangan.report.classification_tables import differences_markdown


def write_verdict(
    verdict: Verdict,
    comparisons: pd.DataFrame,
    settings: Evaluation,
    facts: Facts,
    json_path: str | Path,
    md_path: str | Path,
) -> None:
    """`verdict.json`: what `Verdict` has, what it is of, and the comparisons of the primary metric; `verdict.md`.

    comparisons: what `metrics.comparison.compare_arms` returns.
    """
    primary = comparisons[comparisons["metric"] == settings.primary]
    told = {"study": facts.study, "data": facts.data, "scale": facts.scale, "folds": facts.folds}
    told |= {"primary": settings.primary, "margin": settings.margin} | asdict(verdict)
    told["comparisons"] = json.loads(primary.to_json(orient="records", double_precision=15))  # NaN is null there
    with atomic(json_path) as for_programs, atomic(md_path) as for_people:
        for_programs.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        others = [own for own in verdict.networks.values() if own.arm != verdict.arm]
        paragraphs = [f"**{facts.study}: {verdict.outcome}**", verdict.sentence, *(own.sentence for own in others)]
        paragraphs += differences_markdown(primary)
        for_people.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
