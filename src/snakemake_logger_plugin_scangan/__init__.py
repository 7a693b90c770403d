"""What a run shows: Snakemake's logger plugin `scangan`, chosen by profiles/default.

On a terminal one live line a running job, elsewhere a line as it ends and one a minute meanwhile; a line when a study
ends; in the end what failed, or each study's verdict and the path of the page. All that Snakemake itself says is in its
own log, `.snakemake/log/`, and a dry-run shows it as ever.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snakemake.logging import ColorizingTextHandler
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

LONGEST = 160  # characters of a line
EVERY = 60  # seconds between two lines of a running job, where there is no terminal
TAIL = 4096  # bytes of a job's log that are read for its last line
ERROR = " error: "  # in a job's log, see `scangan.jobs`
# Said by every run, and of no use to who waits for it.
UNSAID = ("Assuming", "Building DAG", "Conda environments", "Select jobs", "Singularity", "Using ", "Execute ")
# Snakemake's lines around what the workflow says of an error of the user's.
AROUND = re.compile(r'(\w+ in .*|Error| *WorkflowError|Wildcards|Traceback):|  \w+=.*|  File ".*", line \d+.*|\s*')
NOTHING_TO_DO = "Nothing to be done"
UNSAID += ("Complete log", "Storing", "Rules claiming", "Removing temporary output")


@dataclass
class Job:
    """A job that runs, or ran. study: the first name of its study wildcard; empty where all studies share it."""

    study: str
    name: str
    log: Path | None
    started: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def last_line(self) -> str:
        """What its log says last, without the time of the day."""
        lines = self._lines()
        return lines[-1][9:] if lines else ""

    def errors(self) -> list[str]:
        """The lines of its log that name its error."""
        return [line.partition(ERROR)[2] for line in self._lines() if ERROR in line]

    def _lines(self) -> list[str]:
        if self.log is None or not self.log.is_file():
            return []
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - TAIL))
            return file.read().decode(errors="replace").splitlines()


class LogHandler(LogHandlerBase):
    """Shows a run as the module says; `expect` tells it beforehand what there is to do."""

    def __post_init__(self) -> None:
        # The handler that Snakemake would have: for dry-runs, and for whatever else it says.
        self.plain = ColorizingTextHandler(nocolor=self.common_settings.nocolor)
        self.live = sys.stderr.isatty() and not self.common_settings.dryrun
        self.jobs: dict[int, Job] = {}
        self.failed: list[Job] = []
        self.results = Path("results")  # the workflow sets it
        self.left: Counter[str] = Counter()  # study -> jobs that have not ended
        self.order: list[str] = []  # studies that have something to do
        self.pages: Sequence[str] = ()  # that the run writes, or has written before
        self.total = self.ended = self.lines = 0
        self.started = time.monotonic()
        self.closing = threading.Event()
        if not self.common_settings.dryrun:
            threading.Thread(target=self._watch, daemon=True).start()

    def expect(self, studies: Mapping[str, int], jobs: int, pages: Sequence[str]) -> None:
        """Before the first job: the jobs of each study and of all, and the pages that they write."""
        self.left, self.order = Counter(studies), list(studies)
        self.total, self.pages = jobs, pages
        with self.lock:
            self._say(f"{jobs} jobs: {', '.join(f'{study} {number}' for study, number in studies.items())}")

    def emit(self, record: logging.LogRecord) -> None:
        if self.common_settings.dryrun:
            self._as_ever(record)
            return
        event = getattr(record, "event", None)
        match event:
            case LogEvent.JOB_INFO:
                self._begin(record)
            case LogEvent.JOB_FINISHED:
                self._end(record.job_id)
            case LogEvent.JOB_ERROR:
                self._fail(record.jobid)
            case LogEvent.PROGRESS if record.done == record.total:
                self._say(f"{record.done} of {record.total} steps (100%) done")
            case LogEvent.ERROR:
                self._as_ever(record)
            case None if record.levelno >= logging.WARNING:
                self._as_ever(record)
            case None if (said := record.getMessage()) and not said.startswith(UNSAID):
                self._say(said)
                if said.startswith(NOTHING_TO_DO):
                    self.pages = [str(self.results / "index.html")]

    def close(self) -> None:
        """The end of a run: what failed once more, or the verdicts and the page."""
        if self.closing.is_set():  # Snakemake closes it, and then Python
            return
        self.closing.set()
        with self.lock:
            self._clear()
            for job in self.failed:
                where = f"; all of it: {job.log}" if job.log else ""
                self._say(f"failed: {job.name}: {' '.join(job.errors()) or 'see above'}{where}", shorten=False)
            if self.ended == self.total and not self.failed:
                for study in self.order if self.pages else []:
                    self._say(f"{study}: {self._verdict(study, 'sentence')}")
                for page in filter(os.path.isfile, self.pages):
                    self._say(f"All of it on one page: {page}", shorten=False)
        super().close()

    def _begin(self, record: logging.LogRecord) -> None:
        wildcards = dict(record.wildcards or {})
        study = wildcards.pop("study", "")
        name = " ".join([study or "all studies", record.rule_name, *map(str, wildcards.values())])
        self.jobs[record.jobid] = Job(study.split("/")[0], name, Path(record.log[0]) if record.log else None)
        self._redraw()

    def _end(self, jobid: int) -> None:
        job = self.jobs.pop(jobid, None)
        if job is None:
            return
        self.ended += 1
        if not self.live and job.log:  # without a log it is a target, which does nothing itself
            self._say(f"{job.name}: done in {_clock(job.seconds)} ({self.ended} of {self.total})")
        self.left[job.study] -= 1
        if job.study in self.order and not self.left[job.study]:
            finished = sum(not self.left[study] for study in self.order)
            outcome = self._verdict(job.study, "outcome")
            self._say(f"{job.study} finished, {finished} of {len(self.order)}: {outcome}{self._time_left()}")
        self._redraw()

    def _fail(self, jobid: int) -> None:
        if job := self.jobs.pop(jobid, None):
            self.failed.append(job)
            self._say(f"{job.name}: failed after {_clock(job.seconds)}; the others go on")

    def _verdict(self, study: str, key: str) -> str:
        """The outcome of a study, or the first part of its sentence."""
        file = self.results / study / "verdict.json"
        if not file.is_file():
            return "no verdict, for it has no classifier"
        return json.loads(file.read_text(encoding="utf-8"))[key].partition(";")[0].rstrip(".")

    def _time_left(self) -> str:
        """From the jobs that ended, as if all took equally long."""
        left = self.total - self.ended
        minutes = round((time.monotonic() - self.started) * left / max(self.ended, 1) / 60)
        return f"; about {minutes} minutes left" if minutes > 1 else ""

    def _watch(self) -> None:
        """Once a second renew the live lines, or say what has run for a minute."""
        while not self.closing.wait(1):
            with self.lock:
                if self.live:
                    self._redraw()
                    continue
                for job in self.jobs.values():
                    if time.monotonic() - job.shown >= EVERY:
                        job.shown = time.monotonic()
                        self._say(f"{job.name}: {job.last_line() or 'runs'}")

    def _as_ever(self, record: logging.LogRecord) -> None:
        """As Snakemake shows it without this plugin, but for what the user can mend, which stands alone."""
        self._clear()
        if record.levelno >= logging.ERROR and (told := _told(record.getMessage())):
            print(f"error: {told}", file=sys.stderr, flush=True)
        else:
            self.plain.setFormatter(self.formatter)
            self.plain.setStream(sys.stderr)
            self.plain.emit(record)
        self._redraw()

    def _say(self, line: str, shorten: bool = True) -> None:
        self._clear()
        said = f"{time.strftime('%H:%M:%S')} {line}"
        print(_shorten(said, LONGEST) if shorten else said, file=sys.stderr, flush=True)
        self._redraw()

    def _clear(self) -> None:
        """Take the live lines away."""
        if self.lines:
            print(f"\x1b[{self.lines}A\x1b[J", end="", file=sys.stderr, flush=True)
            self.lines = 0

    def _redraw(self) -> None:
        if not self.live or self.closing.is_set():
            return
        self._clear()
        width = shutil.get_terminal_size().columns - 1
        for job in self.jobs.values():
            print(_shorten(f"{job.name}  {_clock(job.seconds)}  {job.last_line()}", width), file=sys.stderr)
        sys.stderr.flush()
        self.lines = len(self.jobs)

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return False

    @property
    def has_formatter(self) -> bool:
        return False

    @property
    def needs_rulegraph(self) -> bool:
        return False


def _told(message: str) -> str:
    """What the workflow says is wrong, if it is that which says it, without where in its code it was said."""
    said = [line.strip() for line in message.splitlines() if not AROUND.fullmatch(line)]
    return "\n".join(said) if "WorkflowError" in message else ""


def _clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _shorten(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 3]}..."
