"""A few of the faults, all of which are `make faults`; and that a workflow that does not stand them would be seen."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from tests.faults.bench import Bench, make_reference
from tests.faults.faults import FAULTS, injected, injection
from tests.faults.run import examine

pytestmark = pytest.mark.workflow
BY_NAME = {fault.name: fault for fault in FAULTS}


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The undisturbed run, made by the first test process that asks for it."""
    folder = tmp_path_factory.getbasetemp().parent / "faults"
    with FileLock(f"{folder}.lock"):
        folder.mkdir(exist_ok=True)
        if not (folder / "reference").exists():
            make_reference(folder / "being-made").folder.rename(folder / "reference")
    return Bench(folder / "reference")


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS if fault.short])
def test_a_fault_ends_in_the_same_tables(reference: Bench, name: str):
    assert examine(BY_NAME[name], reference).wrong == []


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "seen"),
    [
        # Nobody looks whether a result has changed, and what was made of it is there already.
        (
            "flip-table",
            "src/scangan/seals.py",
            "if each.times != (now := each.times_now):",
            "if False:",
            "classification.csv differs",
        ),
        ("kill-score-end", "src/scangan/jobs.py", "remove_temporary(path)", "pass", "is left behind"),
    ],
)
def test_a_workflow_that_does_not_stand_a_fault_is_seen(
    reference: Bench, tmp_path: Path, name: str, file: str, old: str, new: str, seen: str
):
    broken = tmp_path / "broken"
    shutil.copytree(reference.folder, broken, symlinks=True)
    text = (broken / file).read_text()
    assert old in text
    (broken / file).write_text(text.replace(old, new))
    assert seen in "; ".join(examine(BY_NAME[name], Bench(broken)).wrong)


def test_a_fault_that_does_not_come_about_is_seen(reference: Bench):
    never = replace(
        BY_NAME["kill-score-end"], during=injected(injection("score", "write nowhere", "signal", "SIGKILL"))
    )
    assert "the fault did not come about" in examine(never, reference).wrong[0]


def test_names_are_unique():
    assert len(BY_NAME) == len(FAULTS)
