"""Of every job of the workflow: logging and errors in one line around its one call, and whether it has a GPU."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scangan.errors import ScanganError


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


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether this machine has a GPU (NVIDIA, AMD, or Windows's); asked of the system, for torch takes long to load.

    CUDA_VISIBLE_DEVICES hides it if it is empty or -1.
    """
    found = any(next(devices.glob(name), None) for name in ("nvidia[0-9]*", "kfd", "dxg"))
    return found and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")
