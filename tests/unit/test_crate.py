"""The RO-Crate beside run.json: whole, and true."""

import hashlib
import json

import pytest

from scangan.report.page.crate import METADATA, write_crate
from scangan.report.page.run import describe_run


@pytest.fixture
def crate(tmp_path):
    root = tmp_path / "results"
    files = ["mine/verdict.json", "mine/tables/cohort.csv", "mine/tables/cohort.md", "mine/figures/roc.png", "run.json"]
    for file in [*files, "workflow/Snakefile"]:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    (tmp_path / "elsewhere.csv").write_text("not a part of it")
    run = describe_run(root, {"results": "results"}, ["mine"], tmp_path) | {"commit": "a" * 40, "changed": True}
    made = [*(root / file for file in files), tmp_path / "elsewhere.csv"]
    write_crate(root / METADATA, run, made, root / "workflow/Snakefile", "Results")
    return root, json.loads((root / METADATA).read_text()), run, files


def entities(crate):
    found = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(found) == len(crate["@graph"]), "each entity once"
    return found


def references(value):
    if isinstance(value, dict):
        if set(value) == {"@id"}:
            yield value["@id"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_reference_is_described_and_every_file_exists(crate):
    root, written, _, files = crate
    found = entities(written)
    outside = ("https://", "http://schema.org/")
    assert all(name in found or name.startswith(outside) for name in references(written["@graph"]))
    described = {name: entity for name, entity in found.items() if "File" in entity["@type"]}
    assert set(described) == {*files, "workflow/Snakefile"}
    for name, entity in described.items():
        content = (root / name).read_bytes()
        assert (entity["contentSize"], entity["sha256"]) == (str(len(content)), hashlib.sha256(content).hexdigest())
    assert described["mine/tables/cohort.csv"]["encodingFormat"] == "text/csv"


def test_it_is_what_ro_crate_and_its_profiles_ask_for(crate):
    _, written, _, files = crate
    found = entities(written)
    assert written["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    descriptor, root = found[METADATA], found["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert {"@id": "https://w3id.org/ro/crate/1.1"} in descriptor["conformsTo"]
    assert {"name", "description", "datePublished", "license", "hasPart", "mainEntity", "mentions"} <= set(root)
    assert root["@type"] == "Dataset"
    assert {part["@id"] for part in root["hasPart"]} == {*files, "workflow/Snakefile"}
    assert {"@id": "https://w3id.org/ro/wfrun/workflow/0.5"} in root["conformsTo"]
    workflow = found[root["mainEntity"]["@id"]]
    assert workflow["@type"] == ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
    assert found[workflow["programmingLanguage"]["@id"]]["@type"] == "ComputerLanguage"
    action = found[root["mentions"]["@id"]]
    assert action["@type"] == "CreateAction"
    assert action["instrument"] == root["mainEntity"]
    assert {each["@id"] for each in action["result"]} == set(files)


def test_it_says_by_what_the_results_were_made(crate):
    _, written, run, _ = crate
    found = entities(written)
    assert found["workflow/Snakefile"]["version"] == f"{'a' * 40} with changes"
    assert found["#config"]["value"] == run["config_sha256"]
    assert found["workflow/Snakefile"]["softwareVersion"] == run["version"]
    programs = [found[each["@id"]] for each in found["workflow/Snakefile"]["softwareRequirements"]]
    assert {each["name"]: each["softwareVersion"] for each in programs} == {"python": run["python"], **run["packages"]}
    assert ("no GPU" in found["#machine"]["value"]) == (not run["gpu"])
    assert found["#run"]["startTime"] <= found["#run"]["endTime"] == found["./"]["datePublished"]
