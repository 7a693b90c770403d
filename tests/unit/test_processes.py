"""Tasks that several processes share: order, faults, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from scangan.errors import DataError, ScanganError
from scangan.processes import AHEAD, work_through, worthwhile_processes

ROOT = Path(__file__).parents[2]


def open_work(folder):
    """Work that leaves a file for each task, and for the process that did it."""
    return partial(do, Path(folder))


def do(folder, task):
    (folder / f"task{task}").touch()
    (folder / f"pid{os.getpid()}").touch()
    if task == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "fail":
        raise DataError("a.dcm: Rows: found 0, allowed: 1 or more")
    if task == "slow":
        time.sleep(60)
    return f"{task}, done", os.getpid()


def processes_of(folder):
    return [int(path.name.removeprefix("pid")) for path in folder.glob("pid*")]


def are_gone(pids, seconds=10):
    """Whether all of these processes end within so many seconds."""
    for _ in range(10 * seconds):
        if not any(Path(f"/proc/{pid}").exists() and "Z" not in state(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_what_processes_make_comes_in_order(tmp_path):
    made = list(work_through(range(12), partial(open_work, tmp_path), 2))
    assert [what for what, _ in made] == [f"{task}, done" for task in range(12)]
    pids = {pid for _, pid in made}
    assert os.getpid() not in pids
    assert are_gone(pids)
    alone = list(work_through(range(12), partial(open_work, tmp_path), 1))
    assert alone == [(f"{task}, done", os.getpid()) for task in range(12)]


def test_few_are_ahead_of_the_one_that_is_taken(tmp_path):
    made = work_through(range(100), partial(open_work, tmp_path), 2)
    assert len(list(islice(made, 3))) == 3
    time.sleep(0.5)
    assert len(list(tmp_path.glob("task*"))) <= 3 + 2 + AHEAD
    made.close()
    assert are_gone(processes_of(tmp_path))


def test_an_error_of_the_work_ends_all(tmp_path):
    with pytest.raises(DataError, match=r"^a\.dcm: Rows: found 0, allowed: 1 or more$"):
        list(work_through([1, 2, "fail", *range(3, 1000)], partial(open_work, tmp_path), 2))
    assert len(list(tmp_path.glob("task*"))) < 20
    assert are_gone(processes_of(tmp_path))


def test_a_killed_process_is_said_in_one_line(tmp_path):
    with pytest.raises(
        ScanganError, match=r"^one of 2 processes: found ended from outside, allowed: .* fewer --cores$"
    ):
        list(work_through([1, 2, "kill", *range(3, 1000)], partial(open_work, tmp_path), 2))
    assert are_gone(processes_of(tmp_path))


JOB = """
import signal, sys
from functools import partial
from scangan.processes import work_through
from tests.unit.test_processes import open_work
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
for _ in work_through([1, 2, "slow", "slow"], partial(open_work, sys.argv[1]), 2):
    print("one", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_job_that_ends_takes_its_processes_with_it(tmp_path, number):
    job = subprocess.Popen([sys.executable, "-c", JOB, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "one\n"
    while not (tmp_path / "taskslow").exists():
        time.sleep(0.05)
    pids = processes_of(tmp_path)
    assert pids
    job.send_signal(number)
    job.wait(20)
    assert are_gone(pids)


def test_more_processes_where_they_are_worth_their_start():
    assert worthwhile_processes(1024, 224, 8) == 8
    assert worthwhile_processes(12, 224, 8) == 3
    assert worthwhile_processes(24, 56, 8) == 1
    assert worthwhile_processes(2, 224, 8) == 1
