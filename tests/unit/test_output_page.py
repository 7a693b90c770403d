"""docs/output.md names every file that a rule writes."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/output.md").read_text()
RULES = "".join(file.read_text() for file in sorted((ROOT / "workflow/rules").glob("*.smk")))
NUMBERS = "gan_seed|seed|shard|batch|number"


def outputs():
    """The paths that rules write to, as the page writes them: `gan/<gan>/seed<n>/<label>/history.csv`."""
    blocks = re.findall(r"^    output:\n((?:^ {8}.*\n)+)", RULES, re.MULTILINE)
    paths = {path for block in blocks for path in re.findall(r'"\{RESULTS\}/(.*?)"', block)}
    named = {re.sub(rf"(seed|shard|batch|reader)\{{\{{(?:{NUMBERS})\}}\}}", r"\1<n>", path) for path in paths}
    return sorted(re.sub(r"\{+(\w+)\}+", r"<\1>", path).removeprefix("<study>/") for path in named)


@pytest.mark.parametrize("path", outputs())
def test_it_is_named(path):
    name = path.rpartition("/")[2]
    ending = name.partition(".<ending>")[0]  # of several endings
    assert ending in PAGE


def test_enough_was_looked_at():
    assert len(outputs()) > 60
