"""Checkpoints that survive a kill at any moment, a full disk, a damaged file; and the state of all random numbers."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import random
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from scangan.errors import TrainingError
from scangan.files import said, sync

log = logging.getLogger(__name__)

MOST_SHARE = 0.01  # of a training's time that its checkpoints take
_NAME = re.compile(r"step-(?P<step>\d{8,})\.(?P<digest>[0-9a-f]{16})\.ckpt")
_DIGITS = 16
_PARTIAL = "checkpoint.partial"
_RESUME = ".resume"


class CheckpointStore:
    """A folder with the newest `keep` checkpoints of one training, one file each, its digest in its name.

    States hold only what `torch.load(weights_only=True)` reads: tensors, numbers, strings, None, lists, tuples, dicts.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def save(self, step: int, state: dict[str, Any], seconds: float = 0.0) -> float:
        """Write one checkpoint and remove those beyond `keep`; what has a final name is complete and on the disk.

        Returns how long to wait for the next one: `seconds`, or so much longer that checkpoints take but `MOST_SHARE`
        of the time.
        Raises TrainingError if it cannot be written (full disk); the older checkpoints then stay.
        """
        partial, start = self.folder / _PARTIAL, time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                hashed = _Hashed(file)
                torch.save(state, hashed)
                file.flush()
                os.fsync(file.fileno())
            path = self.folder / f"step-{step:08d}.{hashed.digest()}.ckpt"
            os.replace(partial, path)
            sync(self.folder)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
            with suppress(OSError):
                partial.unlink()
            raise TrainingError(
                f"{partial}: the checkpoint of step {step} cannot be written: {_reason(error)}"
            ) from error
        older = [other for other in self._newest_first() if other != path]
        for outdated in older[self.keep - 1 :]:
            outdated.unlink()
        return max(seconds, (time.monotonic() - start) / MOST_SHARE) if seconds else 0.0

    def load_latest(self) -> dict[str, Any] | None:
        """The newest sound checkpoint, in main memory, or None.

        Damaged ones are named in the log and removed; half-written too.

        Raises TrainingError, naming the file, if one whose digest fits cannot be read, as on too small a device.
        """
        (self.folder / _PARTIAL).unlink(missing_ok=True)
        for path in self._newest_first():
            reason = "truncated or altered"
            if path.match(f"*.{_digest(path)}.ckpt"):
                try:
                    state = torch.load(path, map_location="cpu", weights_only=True)
                except (pickle.UnpicklingError, EOFError):
                    state = None
                # It may be whole, and the device too small: it is for the user to remove.
                except RuntimeError as error:
                    raise TrainingError(
                        f"{path}: checkpoint: cannot be read: {said(error)}; mend it, or remove it"
                    ) from error
                if isinstance(state, dict):
                    return state
                reason = "no state of a training"
            log.warning("%s: damaged (%s); falling back to the checkpoint before", path, reason)
            path.unlink()
        return None

    def remove(self) -> None:
        """Delete the folder with all checkpoints, once the training's results are safe elsewhere.

        `.resume/`, see `resume_folder`, goes with the last of those that lie in it.
        """
        if self.folder.exists():
            shutil.rmtree(self.folder)
            if self.folder.parent.name == _RESUME and not any(self.folder.parent.iterdir()):
                self.folder.parent.rmdir()

    def _newest_first(self) -> list[Path]:
        found = ((path, _NAME.fullmatch(path.name)) for path in self.folder.glob("step-*.ckpt") if path.is_file())
        steps = {path: int(named["step"]) for path, named in found if named}
        return sorted(steps, key=steps.__getitem__, reverse=True)


def random_state() -> dict[str, Any]:
    """The state of Python's, NumPy's global and torch's (CPU and every GPU) random numbers, fit for a checkpoint."""
    state: Any = np.random.get_state()  # noqa: NPY002
    name, key, *rest = state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(key.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` returned, to the bit."""
    random.setstate(state["python"])
    name, key, *rest = state["numpy"]
    np.random.set_state((name, key.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    # A resumed training may see another number of GPUs.
    for device, generator_state in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(generator_state.cpu(), device)


class _Hashed:
    """A file that is hashed while it is written, from its beginning to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self._hash = file, hashlib.sha256()
        self.flush = file.flush

    def write(self, content: bytes | memoryview) -> int:
        self._hash.update(content)
        return self.file.write(content)

    def digest(self) -> str:
        return self._hash.hexdigest()[:_DIGITS]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def _reason(error: BaseException) -> str:
    """The operating system's own words (`No space left on device`) where torch has wrapped them."""
    cause = error
    while not isinstance(cause, OSError) and cause.__context__ is not None:
        cause = cause.__context__
    return str(cause if isinstance(cause, OSError) else error).splitlines()[0]


def resume_folder(output: str | Path, settings: dict[str, Any], checksums: Iterable[str]) -> Path:
    """Where a job that writes `output` keeps its checkpoints: `.resume/` beside it, by a digest of settings and data.

    Beside and undeclared, because Snakemake deletes the outputs of a job that failed. So a resumed training is never
    one of other settings, other code (its digest is among the settings) or other images.
    """
    facts = json.dumps([settings, list(checksums)], sort_keys=True)
    return Path(output).parent / _RESUME / hashlib.sha256(facts.encode()).hexdigest()[:16]
