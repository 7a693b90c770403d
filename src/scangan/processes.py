"""One task after the other, each done by one of several processes; what they made comes back in order.

For work of which threads would do one task at a time, since most of it is Python's. Each process opens for itself what
it works with.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from scangan.compat_compiler import leave_out_compiler
from scangan.errors import ScanganError

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 2  # results that wait to be taken, beside the tasks that are being done
PARENT_SECONDS = 1.0  # between two looks whether the parent still lives
A_PROCESS = 4 * 224**3  # voxels of volumes that are worth the start of one more process
_work: Callable[[Any], Any]  # of a worker process


def worthwhile_processes(volumes: int, size: int, cores: int) -> int:
    """How many processes work on volumes of size^3: one, where others would take longer to start than they spare."""
    return max(1, min(cores, volumes * size**3 // A_PROCESS))


def work_through(
    tasks: Iterable[Task], open_work: Callable[[], Callable[[Task], Result]], processes: int
) -> Iterator[Result]:
    """What the work makes of each task, in their order.

    Few are ahead of the one that is taken, so memory does not grow. An error of the work is raised here, and ends all.
    open_work: called once in each process. One process is this one; of several, each uses one core, and `open_work`,
    the tasks and the results are pickled.
    """
    if processes == 1:
        yield from map(open_work(), tasks)
        return
    # Its processes do not run the main module anew, which is the script of a job.
    from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

    # Pickled here, and not by the pool: a worker prepares itself before it loads what the work needs.
    start = pickle.dumps(open_work)
    pool = ProcessPoolExecutor(
        processes, initializer=_start_worker, initargs=(start, os.getpid()), env={"OMP_NUM_THREADS": "1"}
    )
    waiting: deque[Future[Result]] = deque()
    done = False
    try:
        for task in tasks:
            waiting.append(pool.submit(_do, task))
            if len(waiting) == processes + AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        done = True
    except TerminatedWorkerError as error:
        raise ScanganError(
            f"one of {processes} processes: found ended from outside, allowed: ended by its work; it was killed, most "
            "likely for lack of memory: make room, or run with fewer --cores"
        ) from error
    finally:
        pool.shutdown(kill_workers=not done)


def _start_worker(start: bytes, parent: int) -> None:
    """Let this process end with its parent, however that ends, and open its work."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # sent to all of them; the parent says so, once
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    leave_out_compiler()
    _work = pickle.loads(start)()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def _do(task: Any) -> Any:
    return _work(task)
