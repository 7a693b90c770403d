"""Each input is built and read in a process of its own, which may hang, die, or eat memory; the verdict is said here.

An input is read right, or it is refused with one clear line. All else is a fault.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import re
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import psutil

import scangan
from scangan.errors import ScanganError
from scangan.rejected import Rejection, Unusable

BUILD_SECONDS, READ_SECONDS = 60, 10
MOST_BYTES = 2 * 2**30  # resident memory, libraries included
MOST_LETTERS = 500
NOBODY = 65534
CROWDED = 20  # how much longer than it works a process may take where others share the cores
POLL_SECONDS = 0.03
PRELOADED = ["tests.hostile.catalogue", "tests.hostile.preload"]
# An exception's name, alone or as Python prints it, says nothing to a radiologist.
BARE_EXCEPTION = re.compile(r"[A-Za-z_.]*(Error|Exception|Exit|Interrupt)(\(.*\))?")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
# The one process that readers may start, see `scangan.ingest.frame_decoder`.
DECODER = [sys.executable, "-P", str(Path(scangan.__file__).parent / "ingest/frame_decoder.py")]
RUNNING = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "pickle.find_class")


@dataclass(frozen=True)
class Place:
    """Where an input lies, and where its reader may write."""

    input: Path
    results: Path


@dataclass
class Answer:
    """What a reader made of an input.

    taken: whether it was read. lines: what was said of it, each as its parts (source, reason, found, remedy, or a whole
    sentence). problems: what is wrong besides, such as a healthy file that was lost, or a wrong value.
    """

    taken: bool = False
    lines: list[tuple[str, ...]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """An input: how it is made, who reads it, and what may come of it.

    id: `family/name`. build: writes it into a folder, beside healthy ones; the same at every call. read: the library's
    reader. expect: `read`, `line` (it must be refused), or `either`. as_nobody: read by a user without rights.
    most_lines: one for each thing that is named, such as the files of a series. seconds: that reading may take.
    may_run: whether the reader may start processes.
    """

    id: str
    build: Callable[[Path], None]
    read: Callable[[Place], Answer]
    expect: Literal["read", "line", "either"] = "either"
    as_nobody: bool = False
    most_lines: int = 1
    seconds: float = READ_SECONDS
    may_run: bool = False

    @property
    def family(self) -> str:
        return self.id.split("/")[0]


@dataclass(frozen=True)
class Verdict:
    """id: of the case. kind: `read right`, `one clear line`, or `fault`. said: the line, or what is wrong."""

    id: str
    kind: str
    said: str
    seconds: float = 0.0
    megabytes: int = 0


def refused(error: ScanganError) -> list[tuple[str, ...]]:
    """The lines of an error that ends a job; a problem each."""
    if isinstance(error, Unusable):
        return [(error.reason, error.found, error.remedy)]
    return [(line,) for line in str(error).splitlines()]


def line_of(rejection: Rejection) -> tuple[str, ...]:
    """A rejection's line, as `judge` looks at it."""
    return rejection.source, rejection.reason, rejection.found, rejection.remedy


def judge(case: Case, answer: Answer) -> tuple[str, str]:
    """Kind and words of the verdict on an answer."""
    problems = list(answer.problems)
    if answer.taken and answer.lines:
        problems.append(f"read, and refused as well: {answer.lines[0]}")
    if not answer.taken and not answer.lines:
        problems.append("dropped silently: neither read nor named")
    if len(answer.lines) > case.most_lines:
        problems.append(f"{len(answer.lines)} lines: {answer.lines[:3]}")
    if len(answer.lines) > len(set(answer.lines)):
        problems.append(f"the same line twice: {answer.lines[0]}")
    problems += [problem for line in answer.lines for problem in problems_of(line)]
    if case.expect == "line" and answer.taken:
        problems.append("taken for what it is not")
    if case.expect == "read" and not answer.taken and answer.lines:
        problems.append(f"refused, though it can be read: {': '.join(answer.lines[0])}")
    if problems:
        return "fault", "; ".join(problems)
    return ("read right", "") if answer.taken else ("one clear line", ": ".join(answer.lines[0]))


def problems_of(line: tuple[str, ...]) -> Iterator[str]:
    """Why a line is not clear."""
    whole = ": ".join(line)
    if not all(part.strip() for part in line):
        yield f"an empty part: {line}"
    if not whole.isprintable():
        yield f"not one printable line: {whole!r}"
    if len(whole) > MOST_LETTERS:
        yield f"{len(whole)} letters: {whole[:100]!r}..."
    said = whole.rsplit("found ", 1)[-1].split(", allowed")[0].split("; ")[0]
    for part in (*line, said):
        if BARE_EXCEPTION.fullmatch(part.strip()):
            yield f"an exception's name in place of words: {whole}"
            break
    if "Traceback" in whole or "<class '" in whole or " object at 0x" in whole:
        yield f"Python's words: {whole}"


def run_all(cases: Iterable[Case], workers: int) -> Iterator[Verdict]:
    """The verdict on each case, in order, as they come."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(run_one, cases)


def run_one(case: Case, module: str = "tests.hostile.catalogue") -> Verdict:
    """Build and read one case in a process of its own. module: whose `CASES` has it."""
    context = _context()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        root = Path(folder).resolve()
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(module, case.id, root, sender))
        process.start()
        sender.close()
        started, most = time.monotonic(), 0
        try:
            built, _ = _receive(receiver, process, BUILD_SECONDS)
            if isinstance(built, str):
                return Verdict(case.id, "fault", f"not built: {built}")
            started = time.monotonic()
            answer, most = _receive(receiver, process, case.seconds)
        finally:
            if process.is_alive():
                process.kill()
            process.join()
        seconds, megabytes = time.monotonic() - started, most // 2**20
        if isinstance(answer, str):
            return Verdict(case.id, "fault", answer, seconds, megabytes)
        if changed := sorted(built.items() ^ snapshot(root).items(), key=str):
            answer.problems.append(f"touched outside the results: {', '.join({name for name, _ in changed[:3]})}")
        _make_removable(root)
        return Verdict(case.id, *judge(case, answer), seconds, megabytes)


@cache
def _context() -> Any:
    # Processes that are killed leave locks of libraries behind; that is said of each, and no fault of a reader.
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _receive(receiver: Connection, process: Any, seconds: float) -> tuple[Any, int]:
    """What the process sends, or in words why nothing came; and the most resident bytes that were seen."""
    most, asleep, before = 0, 0.0, None
    started = looked = time.monotonic()
    while True:
        if receiver.poll(POLL_SECONDS):
            try:
                received, peak = receiver.recv()
            except EOFError:
                process.join()
                return f"the process died with code {process.exitcode}", most
            if peak > MOST_BYTES:
                return f"{peak / 2**30:.1f} GB of memory", peak
            return received, max(most, peak)
        try:
            watched = psutil.Process(process.pid)
            most = max(most, watched.memory_info().rss)
            worked, sleeps = sum(watched.cpu_times()[:2]), watched.status() == psutil.STATUS_SLEEPING
        except psutil.Error:  # it ended meanwhile: the pipe says how
            continue
        before, now = worked if before is None else before, time.monotonic()
        asleep += now - looked if sleeps else 0
        looked = now
        # Its own time, not the clock's: other processes may share the cores.
        if worked - before > seconds or asleep > seconds or now - started > CROWDED * seconds:
            return f"a hang: nothing came within {seconds:.0f} s", most
        if most > MOST_BYTES:
            return f"more than {MOST_BYTES / 2**30:.0f} GB of memory", most


def _work(module: str, case_id: str, root: Path, sender: Connection) -> None:
    """In the process: build, say what lies there, read, answer."""
    sys.dont_write_bytecode = True
    logging.disable()  # what is logged is said in tables as well
    warnings.simplefilter("ignore")
    case = importlib.import_module(module).find(case_id)
    place = Place(root / "deep/run/input", root / "deep/run/results")
    home = root / "home"
    for folder in (place.input, place.results / "tmp", home):
        folder.mkdir(parents=True)
    os.environ |= {"HOME": str(home), "TMPDIR": str(place.results / "tmp"), "OMP_NUM_THREADS": "1"}
    tempfile.tempdir = None  # found anew
    os.chdir(place.input.parent)
    try:
        case.build(place.input)
    except Exception:
        sender.send((" ".join(traceback.format_exc(limit=-2).split()), 0))
        return
    if case.as_nobody:
        _become_nobody(root)
    sender.send((snapshot(root), 0))
    harm: list[str] = []
    sys.addaudithook(partial(_watch, harm, place))
    try:
        answer: Answer | str = case.read(place)
        answer.problems += [] if case.may_run else harm
    except ScanganError as error:
        answer = Answer(lines=refused(error), problems=harm)
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())[:200]
        answer = f"{type(error).__name__}: {said} ({Path(where.filename).name}:{where.lineno} {where.name})"
    sender.send((answer, _peak_bytes()))
    os._exit(0)  # there is nothing to clean up that the harness does not


def _peak_bytes() -> int:
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _become_nobody(root: Path) -> None:
    """Where the tests run as root, nothing is unreadable."""
    if os.geteuid() == 0:
        for path in (root, *root.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _watch(harm: list[str], place: Place, event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: note files that are opened for writing or changed elsewhere, and whatever runs or connects."""
    paths: list[Any] = []
    if event == "open":
        paths = [arguments[0]] if isinstance(arguments[2], int) and arguments[2] & WRITING else []
    elif event in CHANGING:
        paths = list(arguments[:2] if event in ("os.rename", "os.link") else arguments[:1])
    elif event in RUNNING and list(arguments[1:2]) != [DECODER]:
        harm.append(f"{event}: {str(arguments[:2])[:100]}")
    # A path may be relative to an open folder, as where a tree is removed.
    opened = arguments[-1] if event in CHANGING and isinstance(arguments[-1], int) and arguments[-1] >= 0 else None
    base = os.getcwd() if opened is None else os.readlink(f"/proc/self/fd/{opened}")
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            name = os.path.normpath(os.path.join(base, os.fsdecode(path)))
            allowed = (str(place.results), str(place.input / ".scangan"), os.devnull)
            if not any(name == each or name.startswith(each + os.sep) for each in allowed):
                harm.append(f"touched outside the results ({event}): {name}")


def snapshot(root: Path) -> Mapping[str, tuple[int, ...]]:
    """Everything in the sandbox but the results and the key of pseudonyms: its path, and what would change with it."""
    found = {}
    for folder, folders, names in os.walk(root):
        run = Path(folder)
        if run.name == "run":
            folders[:] = [name for name in folders if name != "results"]
        folders[:] = [name for name in folders if name != ".scangan"]
        if run.name == "home":  # where Snakemake keeps what it fetched
            folders[:] = [name for name in folders if name != ".cache"]
        for name in (*folders, *names):
            status = os.lstat(run / name)
            times = () if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            found[os.path.relpath(run / name, root)] = (status.st_mode, *times)
    return found


def _make_removable(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        os.chmod(folder, 0o700)
