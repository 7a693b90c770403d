"""The forecast as text."""

from __future__ import annotations

from collections.abc import Sequence

from scangan.forecast.counted import FACTOR, CountedPaces
from scangan.forecast.dry_run import Job
from scangan.forecast.work import REST, STAGES, Work, work_of
from scangan.plan import Plan

BUSY = 0.72  # share of the cores' time that a run on a CPU used (default run of November 2026 on two cores)
MARGIN = 1.5  # within which the one run that was compared was foretold


def hours_of(work: Sequence[Work], cores: int, on_gpu: bool) -> float:
    """Hours of a run. With a GPU the work of the cores goes on beside that of the GPU, whose jobs take turns."""
    of_networks = sum(each.network for each in work)
    of_cores = sum(each.start + each.other for each in work)
    if not on_gpu:
        return (of_networks + of_cores) / cores / BUSY / 3600
    turns = of_networks + sum(each.start for each in work if each.network)
    return max(turns, of_cores / cores / BUSY) / 3600


def describe(
    jobs: Sequence[Job], work: Sequence[Work], cores: int, on_gpu: bool, machine: str, guessed: Sequence[str]
) -> str:
    """A table of stages, the sum, and what it rests on. guessed: studies whose numbers of images are not known yet."""
    head = ("stage", "jobs", "hours", "memory GB", "disk GB")
    rows = []
    for stage in (*STAGES, REST):
        own = [(job, each) for job, each in zip(jobs, work, strict=True) if each.stage == stage]
        if own:
            rows.append((stage, *_cells([job for job, _ in own], [each for _, each in own], cores, on_gpu)))
    rows.append(("in all", *_cells(jobs, work, cores, on_gpu)))
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in (head, *rows)
    ]
    return "\n".join([*lines, "", *_notes(work, hours_of(work, cores, on_gpu), cores, on_gpu, machine, guessed)])


def announce(jobs: Sequence[Job], plan: Plan, cores: int, on_gpu: bool) -> str:
    """A line for the end of a dry run: how many jobs, hours, and how much disk."""
    paces = CountedPaces(on_gpu)
    work = work_of(jobs, plan, paces)
    hours, more = _number(hours_of(work, cores, on_gpu)), "`python -m scangan plan` says more"
    if paces.has_counted:
        like = " on a GPU like an H100" if on_gpu else ""
        hours += f" h{like} by counted operations, within a factor of {FACTOR}"
        more = "`python -m scangan plan` times the steps"
    else:
        hours += " h"
    written = sum(each.written for each in work) / 1e9
    return f"{len(jobs)} jobs, about {hours}, {_number(written)} GB of disk; {more}"


def _cells(jobs: Sequence[Job], work: Sequence[Work], cores: int, on_gpu: bool) -> tuple[str, ...]:
    asked = [job.mem_mb for job in jobs if job.mem_mb is not None]
    memory = f"{max(asked) / 1000:.1f}" if asked else "not said"
    return (
        f"{len(jobs)}",
        f"{hours_of(work, cores, on_gpu):.2f}",
        memory,
        f"{sum(each.written for each in work) / 1e9:.1f}",
    )


def _number(hours: float) -> str:
    return f"{hours:.1f}" if hours < 100 else f"{hours:,.0f}"


def _notes(
    work: Sequence[Work], hours: float, cores: int, on_gpu: bool, machine: str, guessed: Sequence[str]
) -> list[str]:
    of_networks = sum(each.network for each in work) or 1.0
    scaled = sum(each.network for each in work if each.scaled) / of_networks
    where = f"a GPU and {cores} cores" if on_gpu else f"{cores} cores"
    notes = [
        f"About {_number(hours)} h on {where}, if nothing else runs there: {_number(hours / MARGIN)} to "
        f"{_number(hours * MARGIN)} h, a range that one run bears out (docs/forecast.md).",
        f"Networks are timed on this machine ({machine}); all else goes by rates that were measured once elsewhere.",
        "Memory is what the largest job asks for, disk what is there in the end; hours of stages overlap.",
        "Classifiers are counted with all of their steps: they end sooner where nothing improves.",
    ]
    if scaled > 0.01:
        notes.append(
            f"{scaled:.0%} of the networks' time is of networks too large to be timed here: of smaller ones, scaled by "
            "their operations; it may be wrong by a factor of 3."
        )
    if guessed:
        notes.append(
            f"Not known yet, and guessed from the settings: how many images or scans there are in {', '.join(guessed)}."
        )
    return notes
