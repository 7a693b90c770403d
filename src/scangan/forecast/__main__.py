"""`python -m scangan plan [overlay.yaml ...]`: what the run with these overlays of the default will take."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from scangan.config import load
from scangan.config.derived import overlay
from scangan.errors import ConfigError, DataError, TrainingError
from scangan.forecast.dry_run import Job, jobs_of
from scangan.forecast.report import describe
from scangan.forecast.sizes import sizes_of
from scangan.forecast.work import work_of
from scangan.jobs import has_gpu
from scangan.plan import Plan

CONFIG = Path("config/config.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scangan plan", description=__doc__)
    parser.add_argument("overlays", nargs="*", help="configuration files laid over config/config.yaml")
    parser.add_argument("--cores", type=int, default=8, help="as snakemake's")
    parser.add_argument("--target", nargs="*", default=[], help="what is to be made, as snakemake's; default: all")
    asked = parser.parse_args()
    try:
        require_workflow()
        plan = read_plan([str(CONFIG), *asked.overlays])
        jobs = jobs_of([str(CONFIG), *asked.overlays], asked.target, asked.cores)
        print(forecast(plan, jobs, asked.cores))
    except (ConfigError, DataError, TrainingError) as error:
        sys.exit(f"error: {error}")


def require_workflow() -> None:
    """Raises ConfigError where this is run elsewhere than where the workflow lies."""
    if not CONFIG.is_file():
        raise ConfigError(f"{Path.cwd()}: found no {CONFIG}, allowed: the folder of the workflow; go there first")


def read_plan(files: Sequence[str]) -> Plan:
    """The plan of configuration files laid over each other. Raises ConfigError."""
    raw: dict = {}
    for file in files:
        if not Path(file).is_file():
            raise ConfigError(f"{file}: found no such file, allowed: a configuration file")
        raw = overlay(raw, yaml.safe_load(Path(file).read_text()) or {})
    return Plan(load(raw), json.loads(CONFIG.with_name("scales.json").read_text()))


def forecast(plan: Plan, jobs: Sequence[Job], cores: int) -> str:
    """The text."""
    from scangan.forecast.calibration import Calibration  # torch, for a configuration that is right

    there = min(cores, os.cpu_count() or 1)
    calibration = Calibration(2 if has_gpu() else max(1, there // 2))
    work = work_of(jobs, plan, calibration)
    names = {job.wildcards.get("study") for job in jobs}
    guessed = [study.name for study in plan.studies.values() if study.name in names and not sizes_of(study).counted]
    return describe(jobs, work, there, has_gpu(), calibration.machine, guessed)


if __name__ == "__main__":
    main()
