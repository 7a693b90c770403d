"""`python -m scangan check FOLDER`: what the folder is, a study for it, and the hours that this will take.

Writes nothing but the study, with `--write`. Run it where the workflow lies.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from scangan.check.folder import Seen, look, recognise
from scangan.check.proposal import Scale, as_yaml, choose, name_of, positive_of, scales_for, study_of
from scangan.errors import ConfigError, DataError, TrainingError
from scangan.files import atomic
from scangan.forecast.__main__ import CONFIG, read_plan, require_workflow
from scangan.forecast.dry_run import jobs_of
from scangan.forecast.report import hours_of
from scangan.forecast.work import Work, work_of
from scangan.jobs import has_gpu

TRIAL = 1 / 6  # hours


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scangan check", description=__doc__)
    parser.add_argument("folder", type=Path, help="any folder of images or scans")
    parser.add_argument("--hours", type=float, default=TRIAL, help="what the study may take; default: ten minutes")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="as snakemake's; default: all")
    parser.add_argument("--name", help="of the study; default: after the folder")
    parser.add_argument("--write", type=Path, help="a file for the study's configuration")
    asked = parser.parse_args()
    logging.disable(logging.INFO)
    try:
        _check(asked.folder, asked.hours, asked.cores, asked.name or name_of(asked.folder), asked.write)
    except (ConfigError, DataError, TrainingError) as error:
        sys.exit(f"error: {error}")


def _check(folder: Path, hours: float, cores: int, name: str, write: Path | None) -> None:
    require_workflow()
    kind = recognise(folder)
    print(f"{kind.root}: {kind.name}")
    seen = look(kind)
    print("\n".join(seen.lines))
    print("classes: " + ", ".join(_counted(label, seen) for label in seen.images))
    if len(seen.images) == 2:
        print(f"positive: {positive_of(seen)}, by the names of the classes; if it is the other one, change that")
    scales = scales_for(seen)
    there = min(cores, os.cpu_count() or 1)
    print("\nTiming networks and planning studies, which takes one to two minutes the first time ...", file=sys.stderr)

    work: dict[Scale, list[Work]] = {}

    def hours_for(scale: Scale) -> float:
        work[scale] = _work_of(study_of(seen, name, scale), name, cores)
        return hours_of(work[scale], there, has_gpu())

    chosen, known = choose(scales, hours_for, hours)
    disk_gb = sum(each.written for each in work[chosen]) / 1e9
    if known[chosen] > hours:
        print(f"The least there is takes more than the {_said(hours)} given.")
    print(f"\nAbout {_said(known[chosen])} and {disk_gb:.1f} GB on this machine: {chosen.describe()}.")
    if seen.edge and seen.edge < chosen.image_size:
        least = f"{chosen.image_size} {chosen.unit}, the least that the network draws"
        print(f"Half of the files are smaller and will be enlarged to {least}: they gain no detail by it.")
    if not chosen.answers:
        print("That shows that all of it runs, and no more; for an answer:")
        answers = [scale for scale in scales if scale.answers]
        for scale in reversed(answers):
            print(f"  --hours {known.get(scale) or hours_for(scale):.1f}: {scale.describe()}")
    text = as_yaml(study_of(seen, name, chosen))
    if write is None:
        print(f"\n{text}")
        return
    with atomic(write) as path:
        path.write_text(text, encoding="utf-8")
    print(f"\nsnakemake {name} --cores {cores} --resources gpu=1 --configfile {write}")


def _counted(label: str, seen: Seen) -> str:
    what = "volumes" if seen.data["reader"] == "volume_folder" else "images"
    return f"{label} {seen.images[label]} {what} of {seen.patients[label]} patients"


def _work_of(config: dict, name: str, cores: int) -> list[Work]:
    """What each job of a study takes."""
    from scangan.forecast.calibration import Calibration  # torch

    with TemporaryDirectory() as scratch:
        file = Path(scratch, "study.yaml")
        file.write_text(as_yaml(config | {"results": f"{scratch}/results"}), encoding="utf-8")
        files = [str(CONFIG), str(file)]
        plan, jobs = read_plan(files), jobs_of(files, [name], cores)
    return work_of(jobs, plan, Calibration(2 if has_gpu() else max(1, min(cores, os.cpu_count() or 1) // 2)))


def _said(hours: float) -> str:
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"


if __name__ == "__main__":
    main()
