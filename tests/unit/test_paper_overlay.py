"""The overlay of the papers' scale is what the papers say, or says why not.

`report/papers.yaml` holds what they say: settings with a sentence each. `config/paper.yaml` explains in its comments
what deviates (`# Deviates, KEY: why`), and how a sentence is read that has several readings (`# Read, KEY: how`).
"""

import re
from functools import reduce
from pathlib import Path

import pytest
import yaml

from scangan.config import validate
from scangan.config.derived import overlay
from scangan.report.paper_comparison import read_papers

CONFIG = Path(__file__).parents[2] / "config"
PAPERS = read_papers()
TEXT = (CONFIG / "paper.yaml").read_text()


MERGED = validate(overlay(yaml.safe_load((CONFIG / "config.yaml").read_text()), yaml.safe_load(TEXT)))["studies"]


def explained(study: str, word: str) -> set[str]:
    """The keys that comments of a study's block explain with this word."""
    block = re.search(rf"^  {study}:\n(.*?)(?=^  \w|\Z)", TEXT, re.M | re.S)[1]
    return set(re.findall(rf"^    # {word}, ([^:]+): \S", block, re.M))


def is_so(settings: dict, said: dict) -> bool:
    """Whether the merged overlay does what the paper says."""
    if "about" in said:  # what no key says
        return False
    found = reduce(lambda block, key: block[key], said["key"].split("."), settings)
    return set(said["includes"]) <= set(found) if "includes" in said else found == said["value"]


def name_of(said: dict) -> str:
    return said.get("key") or said["about"]


def test_each_paper_has_its_settings():
    assert set(PAPERS) == set(MERGED)
    for paper in PAPERS.values():
        for said in paper["settings"]:
            assert set(said) <= {"key", "value", "includes", "about", "reading", "says"}
            assert ("about" in said) != ("key" in said and ("value" in said or "includes" in said))
            assert said["says"]


@pytest.mark.parametrize("study", PAPERS)
def test_the_overlay_is_the_paper_or_says_why_not(study):
    other = {name_of(said) for said in PAPERS[study]["settings"] if not is_so(MERGED[study], said)}
    assert other == explained(study, "Deviates")


@pytest.mark.parametrize("study", PAPERS)
def test_readings_are_told(study):
    assert {name_of(said) for said in PAPERS[study]["settings"] if said.get("reading")} == explained(study, "Read")


def test_a_deviation_would_be_seen():
    said = {"key": "gan.dcgan32.epochs", "value": 2500, "says": "The training goes on for 2500 epochs"}
    assert is_so(MERGED["head_ct"], said)
    assert not is_so(MERGED["head_ct"], said | {"value": 2501})
    assert not is_so(MERGED["head_ct"], {"key": "classifier.arms", "includes": ["real+copies"]})
    assert is_so(MERGED["head_ct"], {"key": "classifier.arms", "includes": ["real"]})


def test_nothing_of_the_demo_is_left_where_both_have_a_number():
    """Of what is trained: all that the demo sets to be quick, and the overlay has to set again."""
    demo = validate(yaml.safe_load((CONFIG / "config.yaml").read_text()))["studies"]
    quick = ("epochs", "steps", "learning_rate_generator", "zoom", "reconstruction_weight", "seeds", "ema_decay")
    left = {
        f"{study}.{kind}.{name}.{key}"
        for study, settings in MERGED.items()
        for kind in ("gan", "nodules")
        for name, block in (settings.get(kind) or {}).items()
        if isinstance(block, dict) and block.get("weights_of") is None
        for key in quick
        if block.get(key) is not None and name in demo[study][kind] and block[key] == demo[study][kind][name][key]
    }
    # The paper's own values, which the demo has as well.
    same = {f"simple_ct_gan.gan.{name}" for name in MERGED["simple_ct_gan"]["gan"]}
    zooms = {"ct_sgan.nodules.injector.zoom", "ct_sgan.nodules.eraser.zoom"}  # none, in both
    assert {key for key in left if key.rpartition(".")[0] not in same} == zooms
    assert {key.rpartition(".")[2] for key in left} == {"learning_rate_generator", "ema_decay", "zoom"}
