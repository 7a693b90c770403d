"""`ro-crate-metadata.json`: what lies in the results, by which workflow, code and settings it was made, as an RO-Crate.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1), after the profile Workflow Run Crate 0.5: the root is the folder that the
file lies in, its main entity the workflow, and a `CreateAction` the run that made the rest.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scangan.files import atomic

METADATA = "ro-crate-metadata.json"
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
PROFILES = (
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
)
LICENCE = (
    "The software is under the MIT licence. What is made of a data set is under the licence of that data set, see the "
    "cards of exported images."
)
PYTHON = "https://www.python.org"
Entity = dict[str, Any]


def write_crate(
    path: str | Path, run: Mapping[str, Any], files: Iterable[str | Path], workflow: str | Path, title: str
) -> None:
    """Write the metadata file of a crate, whose root is the folder of `path`.

    run: what `run.json` holds. files: what the run made; those outside of the root are no part of the crate. workflow:
    the copy of the Snakefile, below the root.
    """
    root = Path(path).parent
    crate = describe_crate(root, run, sorted(_below(root, files)), _one(root, workflow), title)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(crate, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def describe_crate(root: Path, run: Mapping[str, Any], files: Iterable[str], workflow: str, title: str) -> Entity:
    """The crate as JSON-LD; files and workflow: paths below the root."""
    made = [_file(root, file) for file in files if file != workflow]
    programs = [_program(name, version) for name, version in {"python": run["python"], **run["packages"]}.items()]
    settings = {
        "@id": "#config",
        "@type": "PropertyValue",
        "name": "SHA-256 of the configuration, which run.json holds",
        "value": run["config_sha256"],
    }
    machine = {
        "@id": "#machine",
        "@type": "PropertyValue",
        "name": "machine",
        "value": f"{run['platform']}, {run['cores']} cores, {'a GPU' if run['gpu'] else 'no GPU'}",
    }
    language: Entity = {
        "@id": "#snakemake",
        "@type": "ComputerLanguage",
        "name": "Snakemake",
        "url": {"@id": "https://snakemake.github.io"},
        "version": run["packages"].get("snakemake", "unknown"),
    }
    main = _file(root, workflow) | {
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": "Scangan: would synthetic scans help my classifier?",
        "programmingLanguage": {"@id": language["@id"]},
        "softwareVersion": run["version"],
        "softwareRequirements": [{"@id": each["@id"]} for each in programs],
    }
    if run["commit"]:
        main["version"] = run["commit"] + (" with changes" if run["changed"] else "")
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"Run of Scangan {run['version']}",
        "description": f"{run['jobs']} jobs, which ran for {run['seconds']:.0f} s.",
        "instrument": {"@id": workflow},
        "object": [{"@id": settings["@id"]}, {"@id": machine["@id"]}],
        "result": [{"@id": each["@id"]} for each in made],
        "startTime": run["started"],
        "endTime": run["ended"],
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }
    licence = {"@id": "#licence", "@type": "CreativeWork", "name": "Licences", "description": LICENCE}
    dataset = {
        "@id": "./",
        "@type": "Dataset",
        "name": title,
        "description": "Whether synthetic images help a classifier, and what that rests on: tables, figures, verdicts.",
        "datePublished": run["ended"],
        "license": {"@id": licence["@id"]},
        "conformsTo": [{"@id": profile} for profile, _, _ in PROFILES],
        "mainEntity": {"@id": workflow},
        "mentions": {"@id": action["@id"]},
        "hasPart": [{"@id": each["@id"]} for each in (main, *made)],
    }
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": [{"@id": "https://w3id.org/ro/crate/1.1"}, {"@id": PROFILES[2][0]}],
        "about": {"@id": "./"},
    }
    profiles = [{"@id": at, "@type": "CreativeWork", "name": name, "version": of} for at, name, of in PROFILES]
    graph = [descriptor, dataset, licence, *profiles, main, language, action, settings, machine, *programs, *made]
    return {"@context": CONTEXT, "@graph": graph}


def _program(name: str, version: str) -> Entity:
    at = PYTHON if name == "python" else f"https://pypi.org/project/{name}/{version}/"
    of_program = {"name": name, "softwareVersion": version, "url": {"@id": at}}
    return {"@id": at, "@type": "SoftwareApplication", **of_program}


def _file(root: Path, file: str) -> Entity:
    content = (root / file).read_bytes()
    found = {
        "@id": file,
        "@type": "File",
        "name": Path(file).name,
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    kind, _ = ("text/markdown", None) if file.endswith(".md") else mimetypes.guess_type(file)
    return found | {"encodingFormat": kind or "text/plain"}


def _below(root: Path, files: Iterable[str | Path]) -> set[str]:
    inside = (Path(file) for file in files)
    return {file.relative_to(root).as_posix() for file in inside if file.is_relative_to(root) and file.is_file()}


def _one(root: Path, file: str | Path) -> str:
    return Path(file).relative_to(root).as_posix()
