"""What a paper needs of a study: its methods in a paragraph, the checklist of its reporting, and what to cite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from scangan.report.page.trust import Trust

FOR_THE_AUTHOR = "for the author"
PARAGRAPH = [
    *("data", "preprocessing", "split", "networks", "generator_data", "synthesis", "training", "fidelity_how"),
    *("copies_how", "statistics", "software"),
]
HOW_SPLIT = {
    "by_patient": "split by patient",
    "official": "split as the data set's authors publish it",
    "folds": "divided by patient into folds, each of which tests once",
}


def methods_paragraph(name: str, facts: Mapping[str, str]) -> str:
    """The methods of a study as running text; facts: of `facts_of`."""
    return f"{name}: " + " ".join(facts[key] for key in PARAGRAPH if key in facts)


def facts_of(
    study: Mapping[str, Any],
    cohort: pd.DataFrame | None,
    verdict: Mapping[str, Any] | None,
    trusts: Sequence[Trust],
    software: str,
) -> dict[str, str]:
    """All that a run knows for the methods and the checklist, sentence by sentence; what it does not know is missing.

    study: an entry of `plan.page_settings`; cohort: `cohort.csv`; verdict: `verdict.json`, of a study with classifiers.
    software: versions, as a sentence.
    """
    method, what = study["method"], "volumes" if study["volumes"] else "images"
    facts = {
        "kind": "Generative adversarial networks for " + what + (", and classifiers" if verdict else "") + ".",
        "data": f"{study['data'].capitalize()} data ({', '.join(method['roots'])}), {study['scale']} scale.",
        "preprocessing": f"{what.capitalize()} of {method['size']}.",
        "networks": f"Generators: {'; '.join(_network(gan, own) for gan, own in method['gan'].items())}.",
        "generator_data": _generator_data(method["gan"]),
        "synthesis": f"{method['synthetic']}.",
        "software": software,
        "code": software,
        "fidelity": " ".join(f"{trust.gan}: {trust.headline}." for trust in trusts if trust.headline),
        "fidelity_how": (
            f"Fidelity: the unbiased energy distance to held-out {what} in the features of {method['extractor']}, 0 to "
            "1, beside that of training data, with bootstrap intervals over images and patients."
        ),
        "copies": " ".join(f"{trust.gan}: {trust.facts[-1]}" for trust in trusts if trust.facts),
        "copies_how": (
            "Copies: normalised cross-correlation of registered images, at a threshold set by held-out ones, its power "
            "measured with planted copies."
        ),
        "split": f"{HOW_SPLIT.get(method['split'], method['split']).capitalize()}: {_parts(cohort)}.",
        "disjoint": (
            "As the published split has it; the table `cohort` counts divided patients."
            if method["split"] == "official"
            else "No patient, and no group of near-identical images, is in two parts."
        ),
    }
    if cohort is not None:
        facts |= {"cohort": f"Used: {_parts(cohort)}.", "rejected": _rejected(cohort)}
    if study["data"] != "real" or study["scale"] != "paper":
        facts["limits"] = f"{study['data'].capitalize()} data, {study['scale']} scale." + (
            " Phantoms say nothing about medicine." if "phantom" in study["data"] else ""
        )
    if verdict and method["classifier"]:
        facts |= _of_classifiers(method, verdict)
    return {name: said for name, said in facts.items() if said}


def _network(gan: str, own: Mapping[str, Any]) -> str:
    if own["weights_of"]:
        return f"{gan} (weights of {own['weights_of']})"
    trainings = f"{own['trainings']} training{'s' * (own['trainings'] != 1)}"
    length = f"{own['steps']} steps" if own["steps"] else f"{own['epochs']} epochs"
    return f"{gan} ({own['model']}, {length}, batches of {own['batch_size']}, {trainings})"


def _generator_data(gans: Mapping[str, Mapping[str, Any]]) -> str:
    """Which data the generators have seen, or were chosen by."""
    chosen = [gan for gan, own in gans.items() if own["validations"]]
    said = f"; the weights of {', '.join(chosen)} were chosen by validation data" if chosen else ""
    return f"Generators were trained on the training part alone{said}."


def _of_classifiers(method: Mapping[str, Any], verdict: Mapping[str, Any]) -> dict[str, str]:
    classifier = method["classifier"]
    primary, margin = classifier["primary"].upper().replace("_", " "), classifier["margin"]
    cut_short = verdict["unconverged"]
    return {
        "aim": "Whether synthetic images, added to real ones, improve a classifier of real images of other patients.",
        "training": (
            f"Classifiers ({classifier['backbone']}, {classifier['weights']}) were trained for at most "
            f"{classifier['steps']} steps of {classifier['batch_size']} images, {classifier['seeds']} times in each "
            f"arm: {', '.join(classifier['arms'])}."
        ),
        "pretrained": f"Classifiers began with {classifier['weights']}.",
        "selection": "The weights with the best loss on the validation part.",
        "metrics": f"Primary: {primary}; the table `classification` has the others.",
        "statistics": (
            f"Differences in {primary} have 95% intervals over trainings and test patients (Obuchowski and Rockette, "
            f"Hillis), p values are corrected by Holm; a difference of {margin:g} was taken to matter."
        ),
        "comparison": "Each arm with synthetic images beside its counterpart without, and beside the best without.",
        "result": verdict["sentence"],
        "power": (
            f"About {verdict['patients_needed']:,} test patients would show a difference of {margin:g}."
            if verdict.get("patients_needed")
            else ""
        ),
        "convergence": (
            "Not converged: " + ", ".join(f"{arm} ({number} trainings)" for arm, number in cut_short.items()) + "."
            if cut_short
            else ""
        ),
        "external": "The table `external`." if method["external"] else "",
    }


def _parts(cohort: pd.DataFrame | None) -> str:
    if cohort is None:
        return "see the table `cohort`"
    used = cohort[~cohort["split"].isin(["rejected", "left out"])]
    sums = used.groupby("split", sort=False)["images"].sum()
    return ", ".join(f"{number} {part}" for part, number in sums.items())


def _rejected(cohort: pd.DataFrame) -> str:
    rows = cohort[cohort["split"].isin(["rejected", "left out"])]
    if rows.empty:
        return "None."
    return "; ".join(f"{row.images} {row.split} ({row.label})" for row in rows.itertuples()) + "."


def checklist_of(sections: Iterable[Mapping[str, Any]], facts: Mapping[str, str]) -> list[dict[str, Any]]:
    """The checklist with what the run knows filled in; what it does not know is `for the author`."""
    return [
        {
            "section": section["section"],
            "items": [
                {"item": item["item"], "told": facts.get(item.get("told", ""), FOR_THE_AUTHOR)}
                for item in section["items"]
            ],
        }
        for section in sections
    ]


def bibtex(citation: Mapping[str, Any], studies: Sequence[str]) -> str:
    """The software and the papers of these studies; citation: the content of CITATION.cff."""
    entries = [_entry("scangan", citation, "software", {"version": citation["version"]})]
    for paper in citation.get("references", []):
        study = re.sub(r"^The study (\w+)\.$", r"\1", paper.get("notes", ""))
        if study in studies:
            others = {"year": paper.get("year"), "url": paper.get("url")}
            entries.append(_entry(study, paper, "article" if paper["type"] == "article" else "misc", others))
    return "\n\n".join(entries)


def _entry(key: str, cited: Mapping[str, Any], kind: str, others: Mapping[str, Any]) -> str:
    names = [
        f"{one['family-names']}, {one['given-names']}" if "family-names" in one else f"{{{one['name']}}}"
        for one in cited["authors"]
    ]
    fields = {"title": f"{{{cited['title']}}}", "author": " and ".join(names), **others}
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value is not None]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
