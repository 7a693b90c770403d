"""`run.json`: by which code, with which settings and on which machine results were made, and how long that took."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import scangan
from scangan.files import atomic
from scangan.jobs import has_gpu

PACKAGES = ("snakemake", "torch", "numpy", "pandas", "scikit-learn", "scikit-image", "pydicom", "simpleitk")


def describe_run(
    results: str | Path, config: Mapping[str, Any], studies: Iterable[str], source: str | Path
) -> dict[str, Any]:
    """What `run.json` holds.

    config: the validated configuration, of which the digest is taken. studies: whose jobs count. source: the code's
    folder, asked for its commit.
    started: of the first job that is known; ended: now. seconds: while at least one job ran, from the benchmarks of all
    jobs; job_seconds: of all jobs, one after another.
    """
    text = json.dumps(config, sort_keys=True)
    commit, changed = _commit(source)
    times, now = _job_times(Path(results), studies), datetime.now(UTC)
    packages = {name: found for name in PACKAGES if (found := _version(name))}
    return {
        "version": scangan.__version__,
        "commit": commit,
        "changed": changed,
        "written": now.strftime("%Y-%m-%d %H:%M UTC"),
        "started": _iso(min((start for start, _ in times), default=now.timestamp())),
        "ended": _iso(now.timestamp()),
        "seconds": round(length_of_union(times), 1),
        "job_seconds": round(sum(end - start for start, end in times), 1),
        "jobs": len(times),
        "python": platform.python_version(),
        "packages": packages,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "gpu": has_gpu(),
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "config": config,
    }


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds")


def software_of(run: Mapping[str, Any]) -> str:
    """The software as a sentence of a methods section."""
    commit = f" (commit {run['commit'][:12]})" if run["commit"] else ""
    others = (f"{name} {run['packages'][name]}" for name in ("torch", "snakemake") if name in run["packages"])
    return ", ".join([f"Scangan {run['version']}{commit}", *others, f"Python {run['python']}"]) + "."


def write_run(path: str | Path, run: Mapping[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def length_of_union(times: Iterable[tuple[float, float]]) -> float:
    """Seconds that lie in at least one of these spans (start, end): what pauses between two calls are no part of."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(times):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _job_times(results: Path, studies: Iterable[str]) -> list[tuple[float, float]]:
    """Start and end of each job that wrote a benchmark: the file is from the job's end."""
    folders = [results / "benchmarks", *(results / study for study in studies)]
    files = {file for folder in folders for file in folder.rglob("*.tsv") if "benchmarks" in file.parts}
    times = []
    for file in files:
        heading, *rows = file.read_text().splitlines()
        if rows and heading.startswith("s\t"):
            end = file.stat().st_mtime
            times.append((end - float(rows[0].split("\t")[0]), end))
    return times


def _commit(source: str | Path) -> tuple[str | None, bool]:
    """The commit of the code, and whether files differ from it; None where no git knows it."""
    try:
        commit = _git(source, "rev-parse", "HEAD")
        return commit.strip(), bool(_git(source, "status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.CalledProcessError):
        return None, False


def _git(source: str | Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(source), *command], capture_output=True, text=True, check=True)
    return done.stdout


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
