"""One at a time: the same job of two runs, and the locks that a run leaves behind when it is killed.

Both rest on locks of the system, which end with the process that holds them, however it ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

FOLDER = Path(".snakemake/scangan")
SNAKEMAKES = Path(".snakemake/locks")


def hold_job(name: str, patience: float = 30.0) -> IO[str]:
    """Wait until no other process runs the job of this name; a job that outlived its run on this machine is ended.

    patience: seconds that it is given to end by itself; a training writes its state meanwhile, from which this one goes
    on. Returns the open file that holds the job until it is closed.
    """
    FOLDER.joinpath("jobs").mkdir(parents=True, exist_ok=True)
    file = (FOLDER / "jobs" / hashlib.sha256(name.encode()).hexdigest()[:24]).open("a+")
    if _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB) is False:
        file.seek(0)
        match file.read().split():
            case [host, process] if host == socket.gethostname() and _is_job(int(process)):
                log.warning("ending process %s: the same job, of a run that was killed", process)
                _end(int(process), file, patience)
            case _:
                log.warning("waiting for the same job of another run to end")
        _lock(file, fcntl.LOCK_EX)
    _write(file, f"{socket.gethostname()} {os.getpid()}")
    return file


def hold(folder: Path, name: str) -> IO[str] | None:
    """The open file that holds the lock of this name until it is closed, or None where another process holds it."""
    file = (folder / name).open("a+")
    if _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB) is False:
        file.close()
        return None
    return file


def hold_run() -> IO[str]:
    """Say that a run lives in this folder, as long as the file that is returned stays open.

    If no other one lives, Snakemake's locks, which know no owner, are those of killed runs, and are removed. Where a
    run of another machine might live, they are left alone.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    marker = FOLDER / "runs"
    was_there = marker.exists()
    file = marker.open("a+")
    file.seek(0)
    here, hosts = socket.gethostname(), set(file.read().split())
    is_alone = _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if is_alone and was_there and hosts <= {here}:
        shutil.rmtree(SNAKEMAKES, ignore_errors=True)
    if is_alone and not any(SNAKEMAKES.glob("*")):
        hosts = set()  # whoever was here has ended
    _write(file, " ".join(sorted(hosts | {here})))
    _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return file


def _end(process: int, file: IO[str], patience: float) -> None:
    """Ask the process that holds a file to end, and make it after so many seconds."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
        os.kill(process, signal.SIGCONT)  # in case that it is stopped
        end = time.monotonic() + patience
        while _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB) is False:
            if time.monotonic() > end:
                os.kill(process, signal.SIGKILL)
                break
            time.sleep(0.1)


def _is_job(process: int) -> bool:
    """Whether a process of this machine runs the script of a job."""
    try:
        return b".snakemake/scripts" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def _lock(file: IO[str], how: int) -> bool | None:
    """Whether this process holds the lock, and not another one; None where the file system has no locks."""
    try:
        fcntl.flock(file, how)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None


def _write(file: IO[str], text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()
