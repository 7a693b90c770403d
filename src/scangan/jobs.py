"""Of every job of the workflow: logging and errors in one line around its one call; its GPU, its room on the disk."""

from __future__ import annotations

import ctypes
import errno
import gc
import itertools
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from scangan.compat_compiler import leave_out_compiler
from scangan.errors import DataError, ScanganError
from scangan.files import remove_temporary
from scangan.locks import hold, hold_job
from scangan.seals import begin, check_seals, seal

MARGIN = 1.01  # what cannot be compressed is stored with headers of its own
GB = 1e9
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of the GNU C library's malloc.h
# What the system says where the user can mend it, however a library wraps its words.
SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENOMEM)


@contextmanager
def job(snakemake: Any, threads: int | None = None) -> Iterator[logging.Logger]:
    """Around all that the script of a rule does; `snakemake` is what it is given, with `input`, `output` and `log`.

    Logs to the job's file, warnings and errors to the terminal too, named with study and rule; ends with one line where
    the user can mend the cause. Inputs are compared with their seals first, and outputs sealed at the end, see
    `scangan.seals`.
    `threads` bounds the numerical libraries; call before importing them. It sees as many GPUs as its `gpu` says, see
    `choose_gpus`.
    """
    if threads is not None:
        bounded = str(min(threads, os.cpu_count() or 1))
        os.environ.update(OMP_NUM_THREADS=bounded, MKL_NUM_THREADS=bounded, OPENBLAS_NUM_THREADS=bounded)
    keep_freed_memory()
    gc.set_threshold(50_000)  # libraries make 100,000s of objects as they load, and all of them stay
    leave_out_compiler()
    logger = logging.getLogger("scangan")
    logger.setLevel(logging.INFO)
    logging.raiseExceptions = False  # what cannot be written to a full disk is on the terminal all the same
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING)
    _log_to(logger, terminal, f"{getattr(snakemake.wildcards, 'study', 'all studies')} {snakemake.rule}: ")
    # With several GPUs the job's further processes carry a rank; only the first one writes files.
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        if is_first:
            Path(snakemake.log[0]).parent.mkdir(parents=True, exist_ok=True)
            running = hold_job(snakemake.log[0])
            _log_to(logger, logging.FileHandler(snakemake.log[0], mode="w"))
            begin(snakemake.output)
            for path in snakemake.output:
                remove_temporary(path)
            check_seals(snakemake.input)
        gpus = choose_gpus(snakemake.resources.get("gpu", 0))
        yield logger
        if is_first:
            seal(snakemake.output, snakemake.input)
            running.close()
        for gpu in gpus:
            gpu.close()
    except ScanganError as error:
        for line in str(error).splitlines():
            logger.error("error: %s", line)
        sys.exit(1)
    except KeyboardInterrupt:
        logger.error("error: interrupted; run the same command to go on")
        sys.exit(1)
    except Exception as error:
        said = next((words for words in map(os.strerror, SYSTEM) if words in str(error)), None)
        if isinstance(error, MemoryError):
            said = os.strerror(errno.ENOMEM)
        if said is None:
            logger.exception("error: unexpected; please report it with this log")
        else:
            place = getattr(error, "filename", None) or Path(snakemake.output[0]).parent
            logger.error("error: %s: %s; mend this, and run the same command again", place, said)
        sys.exit(1)


def _log_to(logger: logging.Logger, handler: logging.Handler, prefix: str = "") -> None:
    handler.setFormatter(logging.Formatter(f"%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
    logger.addHandler(handler)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for its next use of it.

    Each step of a training on a CPU frees some hundred MB, which the GNU C library would give back to the system and
    ask for again, page by page: 313,000 page faults and a tenth of the time of one step of a ResNet-50, the one step
    that was measured. The most that a process ever holds stays the same.
    """
    system = ctypes.CDLL(None)
    if hasattr(system, "mallopt"):
        system.mallopt(M_MMAP_THRESHOLD, 2**30)
        system.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def import_from_here(source: str) -> None:
    """Let this process's children, the scripts of jobs, import what lies below `source` before what is installed."""
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([source, others] if others else [source])


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether this machine has a GPU (NVIDIA, AMD, or Windows's); asked of the system, for torch takes long to load.

    CUDA_VISIBLE_DEVICES hides it if it is empty or -1.
    """
    found = any(next(devices.glob(name), None) for name in ("nvidia[0-9]*", "kfd", "dxg"))
    return found and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")


def choose_gpus(wanted: int, devices: Path = Path("/dev"), locks: Path | None = None) -> list[IO[str]]:
    """Let this process see `wanted` GPUs of this machine, none for 0; call before torch is imported.

    Where there are more, the ones that the fewest jobs of this user hold are taken. Returns the open files that hold
    them until they are closed, or the process ends.
    """
    if not has_gpu(devices):
        return []
    if not wanted:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        return []
    numbers = sorted(int(path.name.removeprefix("nvidia")) for path in devices.glob("nvidia[0-9]*"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = named.split(",") if named else [str(number) for number in numbers]
    if len(visible) <= wanted:  # the cluster, or the user, has chosen already
        return []
    folder = locks or Path(tempfile.gettempdir()) / f"scangan-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    held: dict[str, IO[str]] = {}
    for place in itertools.count():
        for gpu in visible:
            if len(held) == wanted:
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)
                return list(held.values())
            if gpu not in held and (file := hold(folder, f"gpu{gpu.replace('/', '_')}-{place}")):
                held[gpu] = file
    raise AssertionError  # the places never end


def disk_need(volumes: int, size: int, versions: float = 1) -> int:
    """Bytes that volumes of size^3 take on the disk at most: 2 a voxel, and 1% for the files' headers.

    versions: how often a volume is kept, such as 1.5: half of them also with nodules. Compression makes it less; the
    phantom's chests take 0.5 of it.
    """
    return round(MARGIN * 2 * volumes * size**3 * versions)


def check_disk(folder: str | Path, need: int) -> None:
    """Raise DataError if less than `need` bytes are free where a folder is, or would be made."""
    free = shutil.disk_usage(_existing(folder)).free
    if free < need:
        raise DataError(
            f"{folder}: disk: found {free / GB:.1f} GB free, needed: {need / GB:.1f} GB; "
            "make room, or ask for fewer or smaller volumes"
        )


def check_writable(folder: str | Path) -> None:
    """Raise DataError if nothing can be written where a folder is, or would be made."""
    if not os.access(_existing(folder), os.W_OK):
        raise DataError(f"{folder}: folder: found one that cannot be written to, allowed: one that can")


def _existing(folder: str | Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    absolute = Path(folder).absolute()
    return next(each for each in (absolute, *absolute.parents) if each.exists())
