"""Of every job of the workflow: logging and errors in one line around its one call; its GPU, its room on the disk."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scangan.errors import DataError, ScanganError

MARGIN = 1.01  # what cannot be compressed is stored with headers of its own
GB = 1e9


@contextmanager
def job(log: str | Path, threads: int | None = None) -> Iterator[logging.Logger]:
    """Log to the terminal and to the file `log`; end with one line where the user can mend the cause.

    `threads` bounds the numerical libraries; call before importing them.
    """
    if threads is not None:
        bounded = str(min(threads, os.cpu_count() or 1))
        os.environ.update(OMP_NUM_THREADS=bounded, MKL_NUM_THREADS=bounded, OPENBLAS_NUM_THREADS=bounded)
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("scangan")
    logger.setLevel(logging.INFO)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    # With several GPUs the job's further processes carry a rank; only the first one writes the file.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        handlers.append(logging.FileHandler(log, mode="w"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    try:
        yield logger
    except ScanganError as error:
        for line in str(error).splitlines():
            logger.error("error: %s", line)
        sys.exit(1)
    except Exception:
        logger.exception("error: unexpected; please report it with this log")
        sys.exit(1)


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


def disk_need(volumes: int, size: int, versions: int = 1) -> int:
    """Bytes that volumes of size^3 take on the disk at most: 2 a voxel, and 1% for the files' headers.

    versions: how many sets are kept, such as 2: with and without nodules. Compression makes it less; the phantom's
    chests take 0.4 to 0.5 of it.
    """
    return round(MARGIN * 2 * volumes * size**3 * versions)


def check_disk(folder: str | Path, need: int) -> None:
    """Raise DataError if less than `need` bytes are free where a folder is, or would be made."""
    existing = next(each for each in (Path(folder).absolute(), *Path(folder).absolute().parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if free < need:
        raise DataError(
            f"{folder}: disk: found {free / GB:.1f} GB free, needed: {need / GB:.1f} GB; "
            "make room, or ask for fewer or smaller volumes"
        )
