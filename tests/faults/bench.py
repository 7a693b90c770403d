"""A study that has run undisturbed, copies of it in which something goes wrong, and what came of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PARTS = ("Snakefile", "workflow", "src", "config", "profiles", "envs")
STUDY = "results/head_ct"
COHORT, FIDELITY, PAPERS = (
    f"{STUDY}/tables/cohort.csv",
    f"{STUDY}/tables/fidelity.csv",
    "results/paper_comparison.csv",
)
# Stages in their order, and what is taken away of what they leave behind: of several jobs that are alike those of one.
STAGES = {
    "render_phantom": ["phantom"],
    "ingest_images": ["cohort"],
    "split_cohort": ["split"],
    "train_gan": ["gan/dcgan32/seed0/normal"],
    "synthesize": ["synthetic/dcgan32/seed0/normal"],
    "extract_features": ["features/dcgan32/seed0.safetensors"],
    "train_encoder": ["encoder"],
    "measure_fidelity": ["fidelity"],
    "train_classifier": ["classifier/real"],
    "score": ["classifier/scores.csv", "classifier/comparisons.csv", "verdict.json", "verdict.md"],
    "tabulate": ["tables", "../paper_comparison.csv", "../paper_comparison.md"],
}
# What may differ between two runs: what tells of their time.
OF_TIME = ("logs", "benchmarks", "history.csv")
PATIENCE = 900  # seconds for whatever a run has to come to


@dataclass
class Run:
    """One call of Snakemake, in a session of its own, so that all that it started can be found and ended."""

    process: subprocess.Popen[str]
    log: Path

    def wait(self) -> tuple[int, str]:
        """Exit status and all that was said."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.end()
            status = -1
        return status, self.log.read_text(errors="replace")

    def end(self) -> None:
        """End whatever of it still runs."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Bench:
    """A folder with a copy of the workflow and of a finished run."""

    folder: Path
    targets: tuple[str, ...] = (COHORT, PAPERS)
    runs: list[Run] = field(default_factory=list)

    @property
    def fault_file(self) -> Path:
        return self.folder / "fault.json"

    def start(
        self, injections: Sequence[dict[str, Any]] = (), options: Sequence[str] = (), targets: Sequence[str] = ()
    ) -> Run:
        """The same command, unless other targets are given; with `injections` something happens to it."""
        command = [
            sys.executable,
            "-m",
            "snakemake",
            *(targets or self.targets),
            "--cores",
            "2",
            "--resources",
            "gpu=1",
            *options,
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        if injections:
            self.fault_file.write_text(json.dumps(injections))
            environment |= {"FAULT": str(self.fault_file), "PYTHONPATH": str(HERE)}
        log = self.folder.parent / f"{self.folder.name}.{len(self.runs)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=file, stderr=file, text=True, start_new_session=True
            )
        self.runs.append(Run(process, log))
        return self.runs[-1]

    def run(self, *arguments: Any, **named: Any) -> tuple[int, str]:
        """The same to its end."""
        return self.start(*arguments, **named).wait()

    def has_fired(self, number: int = 0) -> bool:
        return Path(f"{self.fault_file}.{number}.fired").exists()

    def wait_for_fault(self, run: Run, number: int = 0) -> None:
        """Until it has happened, or the run has ended without."""
        end = time.monotonic() + PATIENCE
        while not self.has_fired(number) and run.process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)

    def go_on(self, number: int = 0) -> None:
        """Let a process go on that waits at its fault."""
        Path(f"{self.fault_file}.{number}.go").touch()

    def forget(self, stage: str | None) -> None:
        """Remove the results of a stage and of all later ones."""
        stages = list(STAGES)
        for each in stages[stages.index(stage) :] if stage else []:
            for name in STAGES[each]:
                path = self.folder / STUDY / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        return self.folder / STUDY / name

    def results(self) -> dict[str, str]:
        """Every result, by its path, as a hash of its content; without what tells of time."""
        files = [path for path in self.folder.glob("results/**/[!.]*") if path.is_file()]
        return {
            file.relative_to(self.folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if not set(OF_TIME) & set(file.parts)
        }

    def left_behind(self) -> list[str]:
        """Temporary files, checkpoints and locks, which nobody needs once all is done."""
        marks = (".snakemake_timestamp", ".scangan-results")
        hidden = [path for path in self.folder.glob("results/**/.*") if path.name not in marks]
        locks = self.folder.glob(".snakemake/locks/*")
        incomplete = self.folder.glob(".snakemake/incomplete/*")
        return sorted(path.relative_to(self.folder).as_posix() for path in [*hidden, *locks, *incomplete])

    def end(self) -> None:
        for run in self.runs:
            run.end()


def copy_workflow(folder: Path) -> None:
    folder.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part)
        else:
            shutil.copy2(source, folder / part)
    shutil.copy2(HERE / "study.yaml", folder / "config/config.yaml")


def make_reference(folder: Path) -> Bench:
    """The undisturbed run."""
    copy_workflow(folder)
    bench = Bench(folder)
    status, said = bench.run()
    if status != 0:
        raise RuntimeError(f"the undisturbed run failed:\n{said}")
    return bench


@contextmanager
def copy_of(reference: Bench, targets: tuple[str, ...], mounted_mb: int = 0) -> Iterator[Bench]:
    """A copy with all time stamps, which is removed afterwards; mounted_mb: on a small disk of its own, if not 0."""
    with tempfile.TemporaryDirectory(dir=reference.folder.parent, prefix="fault") as place:
        folder = Path(place)
        if mounted_mb:
            mount("-t", "tmpfs", "-o", f"size={mounted_mb}m", "tmpfs", place)
        bench = Bench(folder / "study", targets)
        try:
            shutil.copytree(reference.folder, bench.folder, symlinks=True)
            yield bench
        finally:
            bench.end()
            if mounted_mb:
                unmount(place)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def unmount(place: str) -> None:
    subprocess.run(["umount", "--lazy", place], check=True)


def lines(said: str, pattern: str) -> list[str]:
    """The lines of an output that match."""
    return [line.strip() for line in said.splitlines() if re.search(pattern, line)]
