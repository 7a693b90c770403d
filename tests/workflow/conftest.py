"""The toy studies, run once for all tests, in a copy of the workflow that they may edit."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "src", "config", "profiles", "envs", "tests/configs", "CITATION.cff")
TOY = "tests/configs/head_ct.yaml"
TOYS = {"head_ct": TOY} | {
    study: f"tests/configs/{study}.yaml" for study in ("simple_ct_gan", "covid_ct", "brain_mr", "ct_sgan")
}


@dataclass(frozen=True)
class Workflow:
    """A copy of the workflow in a folder of its own."""

    folder: Path

    def snakemake(self, *options: str, target: str = "all", cores: int = 1) -> subprocess.CompletedProcess[str]:
        """One call as a user makes it, of one target or several; output and errors together in `stdout`."""
        command = [sys.executable, "-m", "snakemake", *target.split(), "--cores", f"{cores}", "--resources", "gpu=1"]
        command += ["--configfile", *TOYS.values(), *options]
        return subprocess.run(command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def planned(self, *options: str, target: str = "all") -> set[str]:
        """The jobs that a call would run: `study rule(wildcard, ...)`, without what a rule does not have."""
        run = self.snakemake("--dry-run", *options, target=target)
        assert run.returncode == 0, run.stdout
        jobs = set()
        for block in re.split(r"\n\[.*\]\n", run.stdout)[1:]:
            if found := re.match(r"(?:local)?rule (\w+):", block):
                wildcards = re.search(r"wildcards: (.*)", block)
                values = dict(pair.split("=") for pair in wildcards[1].split(", ")) if wildcards else {}
                study = values.pop("study", "")
                others = ", ".join(values[name] for name in sorted(values))
                jobs.add(f"{study} {found[1]}{f'({others})' if others else ''}".strip())
        # The page is written anew whenever `all` has something to do, which stands for both.
        assert target != "all" or ("write_page" in jobs) == ("all" in jobs)
        # Its last line says what they will take.
        assert ("GB of disk" in run.stdout) == bool(jobs - {"all"})
        return jobs - {"write_page"}

    def last_log(self) -> str:
        """All that Snakemake said of the last call that was no dry-run; what the run shows is less."""
        return max((self.folder / ".snakemake/log").glob("*.log")).read_text()

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new, 1))


def copy_workflow(folder: Path) -> Workflow:
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)  # with the compiled code: each of some hundred jobs reads it
        else:
            shutil.copy2(source, target)
    return Workflow(folder)


def run_once(folder: Path, *options: str, target: str = "all", prepare: Callable[[], None] = lambda: None) -> Workflow:
    """A run to its end, after `prepare`, by the first test process that asks for it; the others wait meanwhile."""
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            prepare()
            # The other processes mostly wait, so that two cores are free, which three jobs keep busy.
            run = copy_workflow(folder).snakemake(*options, target=target, cores=3)
            (folder / "run.log").write_text(run.stdout)
    assert "(100%) done" in (folder / "run.log").read_text(), (folder / "run.log").read_text()
    return Workflow(folder)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes see."""
    return tmp_path_factory.getbasetemp().parent


@pytest.fixture(scope="session")
def toy(shared_folder: Path) -> Workflow:
    """The toy studies, run to their end; shared by the test processes, and not to be changed."""
    return run_once(shared_folder / "toy")


def _passing(folder: str, _: list[str]) -> set[str]:
    """What Snakemake has for as long as it runs: another worker may run it there meanwhile."""
    return {"locks", "incomplete", "scripts"} if Path(folder).name == ".snakemake" else set()


@pytest.fixture
def toy_copy(toy: Workflow, tmp_path: Path) -> Workflow:
    """The finished toy studies once more, with all time stamps, to be changed at will."""
    shutil.copytree(toy.folder, tmp_path / "toy", symlinks=True, ignore=_passing)
    return Workflow(tmp_path / "toy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.workflow)
