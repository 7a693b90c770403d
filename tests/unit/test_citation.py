"""The citation file: whole, of the package's version, and with the five papers."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_it_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(CITATION)
    assert (CITATION["version"], CITATION["license"]) == (project["version"], project["license"])
    assert re.search(rf"^## {re.escape(project['version'])} ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_each_study_has_its_paper():
    studies = yaml.safe_load((ROOT / "config/config.yaml").read_text())["studies"]
    papers = {paper["notes"].removeprefix("The study ").rstrip("."): paper for paper in CITATION["references"]}
    assert set(papers) == set(studies)
    for paper in papers.values():
        assert {"type", "title", "authors"} <= set(paper)
