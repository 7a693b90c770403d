"""Which jobs a run has, as Snakemake's dry run tells them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from scangan.errors import DataError


@dataclass(frozen=True)
class Job:
    """A job that would run. mem_mb: main memory that its rule asks for, MB; None: it says nothing."""

    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)
    mem_mb: int | None = None


def jobs_of(configfiles: Sequence[str], targets: Sequence[str], cores: int) -> list[Job]:
    """The jobs that are still to run, with these configuration files laid over the default.

    Raises DataError with what Snakemake says if it makes no plan.
    """
    command = [sys.executable, "-m", "snakemake", *targets, "--dry-run", "--cores", f"{cores}", "--resources", "gpu=1"]
    if configfiles:
        command += ["--configfile", *configfiles]
    run = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode:
        said = [line.strip() for line in run.stdout.splitlines() if line.strip()]
        raise DataError(f"snakemake --dry-run: found {said[-1] if said else 'no word'}, allowed: a plan")
    return read_jobs(run.stdout)


def read_jobs(text: str) -> list[Job]:
    """The jobs in the text of a dry run."""
    jobs = []
    for block in re.split(r"^\[.*\]\n", text, flags=re.M)[1:]:
        found = re.match(r"(?:local)?rule (\w+):", block)
        if found is None or re.search(r"^    output: ", block, re.M) is None:  # a target that makes nothing itself
            continue
        wildcards, resources = (_pairs_of(block, line) for line in ("wildcards", "resources"))
        mem_mb = resources.get("mem_mb", "")
        jobs.append(Job(found[1], wildcards, int(mem_mb) if mem_mb.isdecimal() else None))
    return jobs


def _pairs_of(block: str, line: str) -> dict[str, str]:
    found = re.search(rf"^    {line}: (.*)$", block, re.M)
    return dict(pair.split("=", 1) for pair in found[1].split(", ") if "=" in pair) if found else {}
