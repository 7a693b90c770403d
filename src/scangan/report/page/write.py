"""Write `results/index.html`: every study's verdict, what it rests on, and what to do next, in one file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scangan.facts import Facts
from scangan.files import atomic
from scangan.report.page.markdown import as_html, inline
from scangan.report.page.methods import bibtex, checklist_of, facts_of, methods_paragraph
from scangan.report.page.pictures import embedded, forest_alt, forest_plot
from scangan.report.page.trust import TABLES as MEASURED
from scangan.report.page.trust import Trust, over_folds, summary, trust_in
from scangan.report.paper_comparison import compare_with_papers

LARGEST = 4_500_000  # bytes of the page: it is sent by mail
WIDTHS = (960, 720, 480, 320, 160)  # of its pictures, pixels: the first with which it is not too large
MORE_FIGURES = 0.75  # of that width, for those that are folded
LONGER = 5  # times, where a training did not suffice: what is proposed first
FOLDER = Path(__file__).parent
TEXTS = yaml.safe_load((FOLDER / "texts.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Picture:
    """A figure on the page. address: holds the picture itself; href: the run's own file, below the results."""

    address: str
    width: int
    height: int
    alt: str
    caption: str
    href: str


def write_page(
    path: str | Path,
    results: str | Path,
    studies: Mapping[str, Mapping[str, Any]],
    papers: pd.DataFrame,
    run: Mapping[str, Any],
    citation: Mapping[str, Any],
) -> None:
    """Write the page of some studies whose files lie below `results`; so does the page.

    studies: study -> `plan.page_settings`, in the order of the page. papers: `paper_comparison.csv`. run: what
    `run.json` holds. citation: of CITATION.cff.
    """
    results = Path(results)
    for width in WIDTHS:
        shown = [_study(results, name, study, papers, run, width) for name, study in studies.items()]
        page = (
            _environment()
            .get_template("page.html")
            .render(
                studies=shown,
                results=os.path.relpath(results, Path(path).parent),
                run=run,
                data=" and ".join(
                    sorted({kind for study in studies.values() for kind in study["data"].split(" and ")})
                ),
                scales=" and ".join(sorted({study["scale"] for study in studies.values()})),
                bibtex=bibtex(citation, list(studies)),
            )
        )
        if len(page.encode()) <= LARGEST:
            break
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def compare_study(results: str | Path, studies: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of some studies beside the papers', where not all studies are compared."""
    return compare_with_papers(
        {name: _read_tables(Path(results, name), study["tables"]) for name, study in studies.items()}
    )


def _read_tables(folder: Path, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(folder / f"tables/{name}.csv") for name in names}


def _measured(folder: Path) -> dict[str, pd.DataFrame]:
    """Of a fold, what its generators are judged by."""
    return _read_tables(folder, [name for name in MEASURED if (folder / f"tables/{name}.csv").is_file()])


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline
    environment.filters["duration"] = duration
    return environment


def duration(seconds: float) -> str:
    """`1 h 12 min`, `14 min` or `40 s`."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _study(
    results: Path,
    name: str,
    study: Mapping[str, Any],
    papers: pd.DataFrame,
    run: Mapping[str, Any],
    width: int,
) -> dict[str, Any]:
    """What the template shows of one study."""
    folder = results / name
    tables = _read_tables(folder, study["tables"])
    verdict = (
        json.loads((folder / "verdict.json").read_text(encoding="utf-8")) if study["method"]["classifier"] else None
    )
    measured = over_folds([_measured(results / fold) for fold in study["folds"]]) or tables
    with_arms = study["gans_of_arms"]
    gans = [*with_arms, *(gan for gan in study["gans"] if gan not in with_arms)] if "fidelity" in measured else []
    trusts = [trust_in(gan, measured, gan in with_arms) for gan in gans]
    of_arms = trusts[: len(with_arms)]
    facts = facts_of(study, tables.get("cohort"), verdict, of_arms or trusts, run["software"])
    first, others = _order(study["figures"], study)
    return {
        "name": name,
        "provenance": Facts(name, study["data"], study["scale"], folds=verdict["folds"] if verdict else 1).provenance,
        "is_phantom": "phantom" in study["data"],
        "paper": next(iter(papers.loc[papers["study"] == name, "source"].str.split(": ").str[0]), ""),
        "verdict": verdict,
        "trusts": of_arms or trusts,
        "further_trusts": trusts[len(with_arms) :] if of_arms else [],
        "folds": len(study["folds"]),
        "trust": summary(of_arms or trusts),
        "learnt_nothing": [trust.gan for trust in of_arms if trust.grade == "did not learn"],
        "forest": _forest(verdict),
        "others": _other_networks(verdict),
        "pictures": [
            _picture(results, place, figure, tables, trusts, width)
            for place, figure in [*((name, each) for each in first), *_images_of_first_fold(study)]
        ],
        "more_pictures": [
            _picture(results, name, figure, tables, trusts, round(MORE_FIGURES * width)) for figure in others
        ],
        "cohort": _table(folder, name, "cohort") if "cohort" in tables else None,
        "rejected": [f"{source}/cohort/rejected.csv" for source in study["sources"]],
        "tables": [_table(folder, name, table) for table in study["tables"] if table != "cohort"],
        "comparable": _papers(papers, name, "yes"),
        "incomparable": _by_reason(papers, name),
        "commands": _commands(name, study, verdict, trusts),
        "methods": methods_paragraph(name, facts),
        "checklist": checklist_of(TEXTS["checklist"], facts),
    }


def _read_json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _forest(verdict: Mapping[str, Any] | None) -> dict[str, str] | None:
    """The plot of all differences, and its words; None where nothing was compared."""
    if not verdict or not verdict["comparisons"]:
        return None
    shown = (verdict["comparisons"], verdict["margin"], verdict["primary"])
    return {"address": forest_plot(*shown), "alt": forest_alt(*shown)}


def _other_networks(verdict: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What is said of the networks other than the one that the verdict is about."""
    if not verdict:
        return []
    return [own for own in verdict.get("networks", {}).values() if own["arm"] != verdict["arm"]]


def _order(figures: Sequence[str], study: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The figures that stand open, real beside synthetic images, and all others."""
    own = [f"{gan}/images" for gan in study["gans_of_arms"] or study["gans"]]
    first = [figure for figure in figures if figure in (*own, "planes")]
    if len(first) > 3:  # a study of many networks shows them in its panels
        first = [figure for figure in figures if figure.startswith("panels/")] or first[:3]
    return first, [figure for figure in figures if figure not in first]


def _images_of_first_fold(study: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of a study of folds, which has no networks itself, the images of the first fold's."""
    return [(study["folds"][0], f"{gan}/images") for gan in study["gans_of_arms"]] if study["folds"] else []


def _picture(
    results: Path, name: str, figure: str, tables: Mapping[str, pd.DataFrame], trusts: Sequence[Trust], width: int
) -> Picture:
    folder, _, last = figure.rpartition("/")
    text = TEXTS["figures"].get("panels" if folder == "panels" else last, {"caption": last.replace("_", " ")})
    caption = text["caption"].format(gan=folder, panel=last)
    href = f"{name}/figures/{figure}.png"
    address, across, down = embedded(results / href, width)
    numbers = [trust.headline for trust in trusts if trust.gan == folder and last == "images"]
    if text.get("numbers"):
        numbers += _numbers(tables, *text["numbers"])
    alt = f"{caption}. {'; '.join(numbers)}" if numbers else caption
    return Picture(address, across, down, f"{alt.rstrip('.')}.", f"{caption}.", href)


def _numbers(tables: Mapping[str, pd.DataFrame], table: str, key: str, metric: str) -> list[str]:
    """The numbers that a figure shows, as `auc of real 0.43 [0.12, 0.77]`."""
    if table not in tables or key not in tables[table]:
        return []
    rows = tables[table][tables[table]["metric"] == metric]
    if "set" in rows:
        rows = rows[rows["set"].astype(str) == "mean"]
    said = []
    for row in rows.to_dict("records"):
        size = f", {row['diameter_mm']:g} mm" if pd.notna(row.get("diameter_mm")) else ""
        interval = f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" if pd.notna(row["ci_low"]) else ""
        said.append(f"{metric.replace('_', ' ')} of {row[key]}{size} {row['value']:.2f}{interval}")
    return said


def _table(folder: Path, name: str, table: str) -> dict[str, Any]:
    title = TEXTS["tables"].get(table, table)
    markdown = (folder / f"tables/{table}.md").read_text(encoding="utf-8")
    html = as_html(markdown, f"{name}: {title}")
    return {"name": table, "title": title, "html": html, "href": f"{name}/tables/{table}.csv"}


def _papers(papers: pd.DataFrame, name: str, comparable: str) -> list[dict[str, str]]:
    rows = papers[(papers["study"] == name) & (papers["comparable"] == comparable)]
    return [
        {
            "source": row["source"].partition(": ")[2],
            "item": row["item"],
            "metric": row["metric"].replace("_", " "),
            "paper": _number(row["paper"]),
            "ours": _number(row["ours"]) + _interval(row),
            "why_not": row["why_not"],
        }
        for row in rows.to_dict("records")
    ]


def _by_reason(papers: pd.DataFrame, name: str) -> dict[str, list[dict[str, str]]]:
    """The figures that cannot be compared, under the reasons why not."""
    grouped: dict[str, list[dict[str, str]]] = {}
    for row in _papers(papers, name, "no"):
        grouped.setdefault(row["why_not"], []).append(row)
    return grouped


def _number(value: float) -> str:
    return "none" if pd.isna(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _interval(row: Mapping[str, Any]) -> str:
    return "" if pd.isna(row["ci_low"]) else f" [{_number(row['ci_low'])}, {_number(row['ci_high'])}]"


def _commands(
    name: str, study: Mapping[str, Any], verdict: Mapping[str, Any] | None, trusts: Sequence[Trust]
) -> list[dict[str, str]]:
    """What to do next: why, and the command or the lines of YAML."""
    run, steps = f"snakemake {name} --cores 8 --resources gpu=1", []
    if "phantom" in study["data"]:
        roots = ", ".join(f"{root}: path/to/{root.replace('_', '-')}" for root in study["method"]["roots"])
        config = f"--config results=results-real data_roots='{{{roots}}}'"
        steps.append({"why": "On real data: the same study, from a folder.", "command": f"{run} {config}"})
    if study["scale"] == "demo":
        overlay = "--configfile config/config.yaml config/paper.yaml"
        steps.append({"why": "At the paper's sizes and epochs, on a GPU.", "command": f"{run} {overlay}"})
    gans = study["method"]["gan"]
    lost = [trust.gan for trust in trusts if trust.grade == "did not learn" and not gans[trust.gan]["weights_of"]]
    if lost:
        lengths = {gan: next(key for key in ("steps", "epochs") if gans[gan][key]) for gan in lost}
        longer = ", ".join(f"{gan}: {{{key}: {LONGER * gans[gan][key]}}}" for gan, key in lengths.items())
        block = f"studies: {{{name}: {{gan: {{{longer}}}}}}}"
        steps.append({"why": f"Generators that did not learn: train them {LONGER} times as long.", "command": block})
    if verdict and verdict["unconverged"]:
        longer = LONGER * study["method"]["classifier"]["steps"]
        block = f"studies: {{{name}: {{classifier: {{steps: {longer}}}}}}}"
        steps.append({"why": "Classifiers had not converged: give them more steps.", "command": block})
    if target := study["exported"]:
        steps.append(
            {
                "why": "Synthetic images for other programs, as files with a card.",
                "command": f"snakemake results/{name}/exported/{target} --cores 2 --resources gpu=1",
            }
        )
    if not study["volumes"] and study["gans_of_arms"]:
        steps.append(
            {
                "why": "Ask people: a page that shows real and synthetic images, and scores who can tell.",
                "command": f"studies: {{{name}: {{reading_room: {{images: 50}}}}}}",
            }
        )
    return steps
